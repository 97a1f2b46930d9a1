//! A reader whose last bytes can be read again.

use bytes::{BufMut as _, Bytes, BytesMut};
use coffer_proto::BEST_DATA_BYTES;
use std::{collections::VecDeque, io, mem, pin::Pin, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// A reader that pauses for so long has what it gave so far sent: the service gives up a stream that is silent for 30 s.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes kept. The service tells every 16 MiB at the latest that they are stored, so this is enough not to wait for it.
pub(super) const KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a stream once and keeps what it gave until that is forgotten.
pub(super) struct Replay {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// What was read for the next chunk, which survives a dropped read.
    gathered: BytesMut,
    /// The bytes from `start` to `end`, as they were handed out.
    kept: VecDeque<Bytes>,
    start: u64,
    end: u64,
    has_ended: bool,
}

impl Replay {
    pub(super) fn new(reader: impl AsyncRead + Send + 'static) -> Self {
        Self {
            reader: Box::pin(reader),
            gathered: BytesMut::new(),
            kept: VecDeque::new(),
            start: 0,
            end: 0,
            has_ended: false,
        }
    }

    /// The bytes at `offset` and whether they are the last: what is kept of a message, or a new one at the end.
    pub(super) async fn at(&mut self, offset: u64) -> io::Result<(Bytes, bool)> {
        if !self.reaches(offset) {
            let text = format!("its first {} bytes cannot be had again", self.start);
            return Err(io::Error::other(text));
        }
        if offset == self.end && !self.has_ended {
            self.read().await?;
        }
        let mut begin = self.start;
        for kept in &self.kept {
            let end = begin + kept.len() as u64;
            if offset < end {
                let known = usize::try_from(offset - begin).unwrap_or(usize::MAX);
                return Ok((kept.slice(known..), self.has_ended && end == self.end));
            }
            begin = end;
        }
        Ok((Bytes::new(), self.has_ended))
    }

    /// Reads a full message, or what came before the reader paused or ended.
    async fn read(&mut self) -> io::Result<()> {
        self.gathered.reserve(BEST_DATA_BYTES - self.gathered.len());
        while self.gathered.len() < BEST_DATA_BYTES {
            let room = BEST_DATA_BYTES - self.gathered.len();
            match timeout(PAUSE, self.reader.read_buf(&mut (&mut self.gathered).limit(room))).await {
                Ok(read) => {
                    if read? == 0 {
                        self.has_ended = true;
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        if !self.gathered.is_empty() {
            // A few bytes do not keep the room of a whole message.
            let chunk = match self.gathered.len() < BEST_DATA_BYTES / 2 {
                true => Bytes::copy_from_slice(&self.gathered),
                false => mem::take(&mut self.gathered).freeze(),
            };
            self.gathered.clear();
            self.end += chunk.len() as u64;
            self.kept.push_back(chunk);
        }
        Ok(())
    }

    /// Gives up what lies before `offset`, in whole chunks.
    pub(super) fn forget(&mut self, offset: u64) {
        while let Some(first) = self.kept.front()
            && self.start + first.len() as u64 <= offset
        {
            self.start += first.len() as u64;
            self.kept.pop_front();
        }
    }

    /// Gives up the first chunk.
    pub(super) fn let_go(&mut self) {
        if let Some(first) = self.kept.pop_front() {
            self.start += first.len() as u64;
        }
    }

    pub(super) fn is_full(&self, offset: u64) -> bool {
        offset == self.end && !self.has_ended && self.end - self.start >= KEPT_BYTES
    }

    fn reaches(&self, offset: u64) -> bool {
        (self.start..=self.end).contains(&offset)
    }
}

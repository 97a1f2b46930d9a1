//! One stream of messages, as far as it gets.

use super::source::{Chunk, Source};
use crate::{Corruption, Error, Progress, Result, v1};
use data_encoding::HEXLOWER;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use v1::bidi_write_file_request::FirstMessage;

/// How long a full buffer waits for the service to say what it has stored: less than the 30 s after which a silent stream is
/// given up. Where a volume stores larger pieces than are kept here, the upload goes on without being able to go back.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that was sent, in all attempts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Sent {
    /// The service has what was sent.
    pub(super) fn compare(&self, file: &v1::File) -> Result<()> {
        if u64::try_from(file.size_bytes) != Ok(self.bytes) {
            let received_bytes = u64::try_from(file.size_bytes).unwrap_or(0);
            return Err(Error::Corrupted(Corruption::Short { expected_bytes: self.bytes, received_bytes }));
        }
        if file.sha256 != self.sha256 {
            let (expected, found) = (self.sha256.clone(), file.sha256.clone());
            return Err(Error::Corrupted(Corruption::Sha256 { expected, found }));
        }
        Ok(())
    }
}

/// What a stream of messages is made from.
pub(super) struct Sending<'a, P> {
    pub(super) source: &'a mut Source,
    /// Grows by what is handed to the transport.
    pub(super) sent_bytes: &'a mut u64,
    pub(super) progress: &'a mut P,
    pub(super) total_bytes: Option<u64>,
    /// For the progress.
    pub(super) attempts: u32,
    /// What the service has stored; `None` until its first answer.
    pub(super) persisted: watch::Receiver<Option<u64>>,
    pub(super) sender: mpsc::Sender<v1::BidiWriteFileRequest>,
    /// How long a message may wait to be taken.
    pub(super) stall: Duration,
}

impl<P: FnMut(Progress) + Send> Sending<'_, P> {
    /// Sends the content as messages, the last with `finish` and the SHA-256 of all. `None` if the call ended before: then
    /// its answer says why.
    ///
    /// A new upload begins with its first bytes. Of one that was begun before, the service is asked first where to go on: it may
    /// have more than it had recorded when the connection broke.
    pub(super) async fn run(mut self, first: FirstMessage) -> Result<Option<Sent>> {
        let is_new = matches!(first, FirstMessage::Spec(_));
        let mut first = Some(first);
        if !is_new {
            let opening = v1::BidiWriteFileRequest { first_message: first.take(), ..Default::default() };
            if !self.hand_over(opening).await? || !self.is_answered().await? {
                return Ok(None);
            }
        }
        let mut offset = 0;
        let mut is_patient = true;
        loop {
            is_patient |= self.persisted.has_changed().unwrap_or(true);
            let stored = *self.persisted.borrow_and_update();
            if let Some(stored) = stored {
                if stored > offset && !is_new {
                    offset = self.source.skip_to(stored).await?;
                    self.report(offset);
                }
                self.source.forget(stored);
            }
            if self.source.is_full(offset) {
                if !is_patient {
                    self.source.let_go();
                } else if !self.has_answer(&mut is_patient).await {
                    return Ok(None);
                }
                continue;
            }
            let Chunk { content, crc32c, is_last } = tokio::select! {
                chunk = self.source.at(offset) => chunk?,
                () = self.sender.closed() => return Ok(None),
            };
            if content.is_empty() && !is_last && first.is_none() {
                continue;
            }
            let write_offset = i64::try_from(offset)
                .map_err(|_| Error::io("cannot send")(std::io::ErrorKind::FileTooLarge.into()))?;
            let chunk_bytes = content.len() as u64;
            let data = (chunk_bytes > 0).then_some(v1::ChecksummedData { content, crc32c: Some(crc32c) });
            let sha256 = if is_last { HEXLOWER.encode(&self.source.digest()) } else { String::new() };
            let message = v1::BidiWriteFileRequest {
                first_message: first.take(),
                write_offset,
                data,
                finish: is_last,
                sha256: sha256.clone(),
            };
            if !self.hand_over(message).await? {
                return Ok(None);
            }
            offset += chunk_bytes;
            *self.sent_bytes += chunk_bytes;
            self.report(offset);
            if is_last {
                return Ok(Some(Sent { bytes: offset, sha256 }));
            }
        }
    }

    fn report(&mut self, done_bytes: u64) {
        let (total_bytes, attempts) = (self.total_bytes, self.attempts);
        (self.progress)(Progress { done_bytes, total_bytes, attempts });
    }

    /// Whether the transport took the message; it does not when the call has ended.
    async fn hand_over(&mut self, message: v1::BidiWriteFileRequest) -> Result<bool> {
        match tokio::time::timeout(self.stall, self.sender.send(message)).await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => Err(Error::TimedOut { what: "the service to take more bytes", after: self.stall }),
        }
    }

    /// Waits for the first answer; `false` if the call ended before.
    async fn is_answered(&mut self) -> Result<bool> {
        tokio::select! {
            answered = tokio::time::timeout(self.stall, self.persisted.wait_for(Option::is_some)) => match answered {
                Ok(answered) => Ok(answered.is_ok()),
                Err(_) => Err(Error::TimedOut { what: "the service to say where to go on", after: self.stall }),
            },
            () = self.sender.closed() => Ok(false),
        }
    }

    /// Waits until the service has stored more, or for so long that it is no use waiting; `false` if the call ended before.
    async fn has_answer(&mut self, is_patient: &mut bool) -> bool {
        tokio::select! {
            changed = self.persisted.changed() => changed.is_ok(),
            () = self.sender.closed() => false,
            () = tokio::time::sleep(PATIENCE) => {
                tracing::warn!("nothing was stored for {} s: what is sent now cannot be sent again", PATIENCE.as_secs());
                *is_patient = false;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! A connection of HTTP/2 by hand.

use coffer_tests::{
    Cofferd,
    frames::{Frame, hello, kind},
};
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// Times a flood is repeated at most.
const REPEATS: usize = 100_000;

/// A connection that has said hello.
pub(super) struct Wire {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Wire {
    pub(super) async fn connect(cofferd: &Cofferd) -> Self {
        let stream = TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
        let (reader, mut writer) = stream.into_split();
        writer.write_all(&hello(&[])).await.unwrap();
        Self { reader, writer }
    }

    /// `false`: the other end has closed.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.writer.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None` at the end of the connection, or if none comes in time.
    pub(super) async fn next(&mut self, limit: Duration) -> Option<Frame> {
        timeout(limit, Frame::read(&mut self.reader)).await.ok()?.ok()
    }

    /// The header block of a stream's answer.
    pub(super) async fn answer(&mut self, stream: u32, limit: Duration) -> Vec<u8> {
        loop {
            let frame = self.next(limit).await.expect("an answer");
            assert_ne!(frame.kind, kind::GOAWAY, "the connection was given up");
            if frame.kind == kind::HEADERS && frame.stream == stream {
                return frame.payload;
            }
        }
    }

    /// The code with which the connection is given up.
    pub(super) async fn told_off(&mut self, limit: Duration) -> Option<u32> {
        timeout(limit, goaway(&mut self.reader)).await.ok().flatten()
    }

    /// Sends `repeat` again and again while it reads what is answered, until it is told off: the code, if there was one.
    pub(super) async fn flood(self, begin: &[u8], repeat: &[u8]) -> Option<u32> {
        let Self { mut reader, mut writer } = self;
        let reading = tokio::spawn(async move { goaway(&mut reader).await });
        writer.write_all(begin).await.unwrap();
        // Large writes: as fast as it gets.
        let times = (64 * 1024 / repeat.len()).max(1);
        let batch = repeat.repeat(times);
        for _ in 0..REPEATS / times {
            if writer.write_all(&batch).await.is_err() {
                break;
            }
        }
        timeout(Duration::from_secs(10), reading).await.ok()?.unwrap()
    }
}

async fn goaway(reader: &mut OwnedReadHalf) -> Option<u32> {
    while let Ok(frame) = Frame::read(reader).await {
        if let Some(code) = frame.goaway_code() {
            return Some(code);
        }
    }
    None
}

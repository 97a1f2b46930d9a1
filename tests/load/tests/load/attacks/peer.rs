//! One connection of an attacker, from its opening to its end.

use super::plans::{Counts, Plan};
use coffer_tests::frames::Frame;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{
        TcpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{sleep, sleep_until, timeout_at},
};

/// A writer that gets nothing rid for so long is held up by the service.
const HELD_UP: Duration = Duration::from_millis(500);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The service said GOAWAY with this code.
    GoAway(u32),
    /// The service closed or reset it without a word.
    Closed,
    /// The service ended the stream that is the attack.
    Stream,
    /// It stood at the end, and the service took nothing more from it.
    HeldUp,
    /// It stood at the end.
    Open,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) lasted: Duration,
    pub(super) end: End,
    pub(super) sent_bytes: u64,
}

/// Connects from `source` and does as planned until the service ends it, or `until`.
pub(super) async fn live(plan: &Plan, addr: SocketAddr, source: IpAddr, until: Instant) -> Life {
    let since = Instant::now();
    let mut sent_bytes = 0;
    let deadline = tokio::time::Instant::from_std(until);
    let end = match timeout_at(deadline, connection(plan, addr, source, &mut sent_bytes)).await {
        Ok(end) => end,
        Err(_) => End::Open,
    };
    Life { lasted: since.elapsed(), end, sent_bytes }
}

async fn connection(plan: &Plan, addr: SocketAddr, source: IpAddr, sent_bytes: &mut u64) -> End {
    let Ok(stream) = connect(addr, source).await else {
        // The queue is full, or the service resets at once: as good as closed.
        sleep(Duration::from_millis(20)).await;
        return End::Closed;
    };
    let (read, write) = stream.into_split();
    let (answers, to_write) = mpsc::unbounded_channel();
    if plan.reads {
        tokio::select! {
            // What the service says of the end comes before the broken pipe that follows.
            biased;
            end = watch(plan.counts, read, answers) => end,
            Err(_) = send(plan, write, to_write, sent_bytes) => End::Closed,
        }
    } else {
        let held = read;
        let end = send(plan, write, to_write, sent_bytes).await;
        drop(held);
        match end {
            Ok(()) => End::HeldUp,
            Err(_) => End::Closed,
        }
    }
}

async fn connect(addr: SocketAddr, source: IpAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads what the service says, and hands over what is to be answered, until the end.
async fn watch(counts: Counts, read: OwnedReadHalf, answers: mpsc::UnboundedSender<Vec<u8>>) -> End {
    let mut read = BufReader::new(read);
    loop {
        let Ok(frame) = Frame::read(&mut read).await else { return End::Closed };
        if let Some(code) = frame.goaway_code() {
            return End::GoAway(code);
        }
        if counts == Counts::Stream && frame.ends_stream() {
            return End::Stream;
        }
        if let Some(answer) = frame.answer() {
            // Nobody takes it any more when the writer has failed: the end comes.
            let _ = answers.send(answer);
        }
    }
}

/// Sends the opening and batch after batch. Ends well only if the service has held it up.
async fn send(
    plan: &Plan,
    mut write: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<Vec<u8>>,
    sent_bytes: &mut u64,
) -> io::Result<()> {
    write.write_all(&plan.opening).await?;
    *sent_bytes += plan.opening.len() as u64;
    for round in 0.. {
        let next = tokio::time::Instant::now() + plan.pause;
        let batch = (plan.batch)(round);
        // Unread answers in the kernel's buffers are what a flood that is not read is about.
        let patience = if plan.reads { Duration::MAX } else { HELD_UP };
        match tokio::time::timeout(patience, write.write_all(&batch)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        *sent_bytes += batch.len() as u64;
        let is_silent = batch.is_empty();
        loop {
            tokio::select! {
                biased;
                Some(answer) = answers.recv() => write.write_all(&answer).await?,
                () = sleep_until(next), if !is_silent => break,
                else => std::future::pending().await,
            }
        }
        // A writer that is never blocked would keep its thread from everybody else.
        tokio::task::yield_now().await;
    }
    Ok(())
}

//! One direction of a connection.

use super::{
    Fault, Places, Reply,
    frames::{Frame, PREFACE_BYTES},
};
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
};

const BUFFER_BYTES: usize = 64 * 1024;

/// Why a connection ends before both sides have closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its fault.
    Cut,
    /// One side was lost.
    Broken,
}

/// Carries bytes and counts them.
pub(super) struct Pump<'a> {
    pub(super) counter: &'a AtomicU64,
    /// Where connections are cut, if this is the direction that counts for it.
    pub(super) places: Option<&'a Mutex<Places>>,
    pub(super) is_paused: watch::Receiver<bool>,
}

impl Pump<'_> {
    /// From the client to the server.
    pub(super) async fn requests(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        fault: Fault,
    ) -> Result<(), End> {
        match fault {
            Fault::CutRequest { after_bytes } => {
                self.some(&mut from, &mut to, after_bytes).await?;
                Err(End::Cut)
            }
            Fault::Stall { after_bytes } => {
                self.some(&mut from, &mut to, after_bytes).await?;
                std::future::pending().await
            }
            Fault::DropReply(Reply::Unseen) => self.request(from, to).await,
            Fault::DropReply(Reply::Seen { .. }) | Fault::CutAnswer { .. } | Fault::None => {
                self.all(from, to).await
            }
        }
    }

    /// From the server to the client.
    pub(super) async fn answers(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        fault: Fault,
    ) -> Result<(), End> {
        match fault {
            Fault::CutAnswer { after_bytes } => {
                self.some(&mut from, &mut to, after_bytes).await?;
                Err(End::Cut)
            }
            Fault::DropReply(Reply::Seen { passed_bytes }) => {
                self.part_of_answer(from, to, passed_bytes).await
            }
            Fault::DropReply(Reply::Unseen)
            | Fault::CutRequest { .. }
            | Fault::Stall { .. }
            | Fault::None => self.all(from, to).await,
        }
    }

    /// Everything, then the end.
    async fn all(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        self.some(&mut from, &mut to, u64::MAX).await?;
        to.shutdown().await.map_err(|_| End::Broken)
    }

    /// So many bytes, or as many as come.
    async fn some(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut bytes: u64,
    ) -> Result<(), End> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while bytes > 0 {
            let room = usize::try_from(bytes).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let read = from.read(&mut buffer[..room]).await.map_err(|_| End::Broken)?;
            if read == 0 {
                break;
            }
            self.pass(to, &buffer[..read]).await?;
            bytes -= read as u64;
        }
        Ok(())
    }

    /// Up to the end of the first request.
    async fn request(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        self.some(&mut from, &mut to, PREFACE_BYTES).await?;
        while let Some(frame) = Frame::read(&mut from).await.map_err(|_| End::Broken)? {
            self.pass(&mut to, &frame.bytes).await?;
            if frame.ends_stream() {
                return Err(End::Cut);
            }
        }
        to.shutdown().await.map_err(|_| End::Broken)
    }

    /// Up to the first answer, and so many bytes of that.
    async fn part_of_answer(
        &mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        passed_bytes: u64,
    ) -> Result<(), End> {
        while let Some(frame) = Frame::read(&mut from).await.map_err(|_| End::Broken)? {
            if !frame.begins_answer() {
                self.pass(&mut to, &frame.bytes).await?;
                continue;
            }
            let passed = usize::try_from(passed_bytes).unwrap_or(usize::MAX).min(frame.bytes.len());
            self.pass(&mut to, &frame.bytes[..passed]).await?;
            self.some(&mut from, &mut to, passed_bytes - passed as u64).await?;
            return Err(End::Cut);
        }
        to.shutdown().await.map_err(|_| End::Broken)
    }

    async fn pass(&mut self, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), End> {
        self.is_paused.wait_for(|is_paused| !is_paused).await.map_err(|_| End::Broken)?;
        let cut_after = self.places.and_then(|places| {
            let mut places = places.lock().expect("no panic while locked");
            places.take(bytes.len() as u64)
        });
        let passed = cut_after.map_or(bytes, |passed| &bytes[..passed as usize]);
        to.write_all(passed).await.map_err(|_| End::Broken)?;
        self.counter.fetch_add(passed.len() as u64, Ordering::Relaxed);
        if cut_after.is_some() { Err(End::Cut) } else { Ok(()) }
    }
}

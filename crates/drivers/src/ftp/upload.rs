//! Bytes on their way to a file.

use super::{
    client::Client,
    objects::less,
    pool::Lease,
    session::{To, Transfer},
};
use crate::{remote::Failure, wire};
use std::time::Duration;
use tokio::{io::AsyncWriteExt as _, time::timeout};

/// Bytes that are handed to a connection at a time: small, so that a slow one shows that it moves.
const STEP: usize = 256 * 1024;
/// How long what is given up may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A file that is being sent, in a session of its own.
pub(super) struct Upload {
    session: Lease,
    /// `None` when it has failed.
    transfer: Option<Transfer>,
    path: String,
}

impl Upload {
    pub(super) async fn open(client: &Client, name: &str, to: To) -> Result<Self, Failure> {
        let (mut session, path) = (client.lease().await?, client.path(name));
        let transfer = session.upload(&path, to).await?;
        Ok(Self { session, transfer: Some(transfer), path })
    }

    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let limit = self.session.patience.piece;
        for step in piece.chunks(STEP) {
            let Some(transfer) = &mut self.transfer else {
                return Err(wire::Failure::Broken("it had failed before".to_owned()).into());
            };
            match timeout(limit, transfer.write_all(step)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let broken = super::error::of_connection(&error);
                    return Err(self.reason().await.unwrap_or_else(|| broken.into()));
                }
                Err(_elapsed) => return Err(wire::Failure::Silent("a piece to be taken").into()),
            }
        }
        Ok(())
    }

    /// Why a data connection broke says the server on the other one, if anybody does.
    async fn reason(&mut self) -> Option<Failure> {
        let ended = timeout(FAREWELL, self.session.end(self.transfer.take()?)).await.ok()?;
        ended.err().filter(|failure| failure.status().is_some())
    }

    /// Says that it was all, and answers how large the file is then: servers say that all is well to any end of a connection.
    pub(super) async fn end(mut self) -> Result<u64, Failure> {
        let Some(transfer) = self.transfer.take() else {
            return Err(wire::Failure::Broken("it had failed before".to_owned()).into());
        };
        self.session.end(transfer).await?;
        match self.session.size(&self.path).await {
            Err(failure) if failure.is_absent() => Err(less()),
            outcome => outcome,
        }
    }

    /// Waits until the server has done with what was sent, so that nothing of it comes late.
    pub(super) async fn give_up(mut self) {
        if let Some(transfer) = self.transfer.take() {
            let _ = timeout(FAREWELL, self.session.end(transfer)).await;
        }
    }
}

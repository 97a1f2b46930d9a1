//! The answers of `BidiWriteFile`: where to go on, how much is durable by now, and the file.
//!
//! Progress is not queued: a client that takes no answers gets the latest when it does.

use super::lost;
use crate::fields::{to_i64, to_text};
use coffer_domain::id::UploadId;
use coffer_proto::v1::{BidiWriteFileResponse, WriteFileResponse};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::DropGuard;
use tonic::Status;

/// The stream of an answer. Dropping it says that the client left.
pub(crate) type Answers = BoxStream<'static, Result<BidiWriteFileResponse, Status>>;

/// An upload is ready for bytes.
#[derive(Debug)]
pub(super) struct Begun {
    /// `None`: the request was answered before, and its upload is not kept any more.
    pub(super) id: Option<UploadId>,
    /// Bytes that are durable and recorded.
    pub(super) persisted: watch::Receiver<u64>,
}

struct State {
    phase: Phase,
    work: JoinHandle<Result<WriteFileResponse, Status>>,
    _guard: DropGuard,
}

enum Phase {
    Beginning(oneshot::Receiver<Begun>),
    Receiving { persisted: watch::Receiver<u64>, told: u64 },
    Ending,
    Over,
}

/// The answers of `work`, which reports when it has begun. `guard` is kept as long as the stream.
pub(super) fn answers(
    begun: oneshot::Receiver<Begun>,
    work: JoinHandle<Result<WriteFileResponse, Status>>,
    guard: DropGuard,
) -> Answers {
    let state = State { phase: Phase::Beginning(begun), work, _guard: guard };
    stream::unfold(state, |mut state| async move { state.next().await.map(|answer| (answer, state)) }).boxed()
}

impl State {
    async fn next(&mut self) -> Option<Result<BidiWriteFileResponse, Status>> {
        loop {
            match &mut self.phase {
                Phase::Beginning(begun) => match begun.await {
                    Ok(Begun { id, mut persisted }) => {
                        let told = *persisted.borrow_and_update();
                        self.phase = Phase::Receiving { persisted, told };
                        return Some(Ok(BidiWriteFileResponse { upload_id: to_text(id), ..progress(told) }));
                    }
                    Err(_) => self.phase = Phase::Ending,
                },
                Phase::Receiving { persisted, told } => tokio::select! {
                    biased;
                    Ok(()) = persisted.changed() => {
                        let size = *persisted.borrow_and_update();
                        if size > *told {
                            *told = size;
                            return Some(Ok(progress(size)));
                        }
                    }
                    outcome = &mut self.work => {
                        self.phase = Phase::Over;
                        return Some(last(outcome));
                    }
                },
                Phase::Ending => {
                    let outcome = (&mut self.work).await;
                    self.phase = Phase::Over;
                    return Some(last(outcome));
                }
                Phase::Over => return None,
            }
        }
    }
}

fn progress(persisted: u64) -> BidiWriteFileResponse {
    BidiWriteFileResponse { upload_id: String::new(), persisted_size: to_i64(persisted), file: None }
}

fn last(
    outcome: Result<Result<WriteFileResponse, Status>, JoinError>,
) -> Result<BidiWriteFileResponse, Status> {
    let WriteFileResponse { file, persisted_size } = outcome.unwrap_or_else(lost)?;
    Ok(BidiWriteFileResponse { upload_id: String::new(), persisted_size, file })
}

#[cfg(test)]
mod tests;

//! An upload from its first attempt to its end: one stream after the other, each from where the service has come to.

use super::{
    Uploaded,
    send::{Sending, Sent},
    source::Source,
};
use crate::{
    Client, Error, Progress, Result,
    client::in_span,
    retry::Retry,
    v1::{self, ErrorReason, UploadState, transfer_service_client::TransferServiceClient},
};
use futures_util::future::{Either, select};
use std::{future::Future, pin::pin, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status, Streaming};
use v1::bidi_write_file_request::FirstMessage;

/// Between two looks at an upload that is being made a file.
const FINISHING_PAUSE: Duration = Duration::from_millis(250);
/// How long the end of a stream is waited for when the file was told.
const TRAILER_WAIT: Duration = Duration::from_secs(1);

/// As the service names the checksum of a message.
const CRC32C: &str = "CRC-32C";

/// How the service knows the upload.
pub(super) enum Begin {
    /// By what it is to be, with a `request_id`, which is new unless something may have been begun with it. Without one there is one attempt.
    Spec { spec: Box<v1::UploadSpec>, is_new: bool },
    /// By its id.
    Id(String),
}

/// What the service has said of the upload.
#[derive(Default)]
struct Known {
    id: Option<String>,
    persisted_bytes: u64,
    /// What it had when this process sent its first bytes.
    resumed_from_bytes: Option<u64>,
}

impl Known {
    fn persisted(&mut self, bytes: u64) {
        self.persisted_bytes = self.persisted_bytes.max(bytes);
    }
}

pub(super) struct Transfer<'a, P> {
    client: &'a Client,
    source: Source,
    begin: Begin,
    progress: P,
    known: Known,
    sent_bytes: u64,
    attempts: u32,
}

impl<'a, P: FnMut(Progress) + Send> Transfer<'a, P> {
    pub(super) fn new(client: &'a Client, source: Source, begin: Begin, progress: P) -> Self {
        let is_new = matches!(begin, Begin::Spec { is_new: true, .. });
        let known = Known { resumed_from_bytes: is_new.then_some(0), ..Known::default() };
        Self { client, source, begin, progress, known, sent_bytes: 0, attempts: 0 }
    }

    /// Sends until the upload is a file, cannot become one, or does not get on any more.
    pub(super) async fn run(mut self) -> Result<Uploaded> {
        let mut retry = Retry::transfer(self.client.timeouts().retry);
        loop {
            self.attempts += 1;
            let before_bytes = self.known.persisted_bytes;
            (self.progress)(Progress {
                done_bytes: before_bytes,
                total_bytes: total_bytes(&self.begin, &self.source),
                attempts: self.attempts,
            });
            let error = match self.attempt().await {
                Ok(file) => return Ok(self.uploaded(file)),
                Err(error) => error,
            };
            if self.drops_request(&error) {
                self.attempts = 0;
                continue;
            }
            if !self.is_repeatable() {
                return Err(error);
            }
            if self.known.persisted_bytes > before_bytes {
                retry.progressed();
            }
            if let Err(error) = retry.wait_after(error).await {
                return Err(self.given_up(error).await);
            }
        }
    }

    /// Whether all that is refused is that the upload could be gone on with, as volumes on plain HTTP servers have to; then it is begun
    /// without a request, for one attempt.
    fn drops_request(&mut self, error: &Error) -> bool {
        let is_refused = error.refusal().is_some_and(|refusal| refusal.code == Code::Unimplemented);
        match &mut self.begin {
            Begin::Spec { spec, is_new: true } if is_refused && !spec.request_id.is_empty() => {
                spec.request_id.clear();
                true
            }
            _ => false,
        }
    }

    /// Whether another attempt has one effect with those before it.
    fn is_repeatable(&self) -> bool {
        !matches!(&self.begin, Begin::Spec { spec, .. } if spec.request_id.is_empty())
    }

    fn uploaded(self, file: v1::File) -> Uploaded {
        let resumed_from_bytes = self.known.resumed_from_bytes.unwrap_or(0);
        let Self { sent_bytes, attempts, .. } = self;
        Uploaded { file, resumed_from_bytes, sent_bytes, attempts }
    }

    async fn attempt(&mut self) -> Result<v1::File> {
        let first = match &self.begin {
            Begin::Spec { spec, is_new: true } if self.attempts == 1 => FirstMessage::Spec((**spec).clone()),
            _ => FirstMessage::UploadId(self.look_up().await?),
        };
        // Boxed, because the transport's future is large.
        let stream = Box::pin(self.stream(first));
        let (sent, file) = in_span("coffer.v1.TransferService/BidiWriteFile", stream).await?;
        sent.compare(&file)?;
        Ok(file)
    }

    /// Learns where the upload is, and reads as far: a stream that is silent for so long would be given up.
    async fn look_up(&mut self) -> Result<String> {
        let upload = tokio::time::timeout(self.client.timeouts().commit, self.settled()).await;
        let after = self.client.timeouts().commit;
        let upload = upload.unwrap_or(Err(Error::TimedOut { what: "the upload to be stored", after }))?;
        let persisted_bytes = u64::try_from(upload.persisted_size).unwrap_or(0);
        self.known.persisted(persisted_bytes);
        self.known.id = Some(upload.id.clone());
        self.source.skip_to(persisted_bytes).await?;
        Ok(upload.id)
    }

    /// The upload when nobody is making a file of it.
    async fn settled(&mut self) -> Result<v1::Upload> {
        loop {
            let upload = match &self.begin {
                Begin::Spec { spec, .. } => self.client.start_upload_once((**spec).clone()).await?,
                Begin::Id(id) => self.client.get_upload_once(id.clone()).await?,
            };
            if upload.state() != UploadState::Finishing {
                return Ok(upload);
            }
            tokio::time::sleep(FINISHING_PAUSE).await;
        }
    }

    /// Sends while listening: the service may refuse at any time, and then the rest is not read.
    async fn stream(&mut self, first: FirstMessage) -> Result<(Sent, v1::File)> {
        let timeouts = *self.client.timeouts();
        // One message waits here while the one before is sent and the next one is read.
        let (sender, receiver) = mpsc::channel(1);
        let (stored, persisted) = watch::channel(None);
        let mut service = TransferServiceClient::new(self.client.service());
        let call = service.bidi_write_file(ReceiverStream::new(receiver));
        let receiving = pin!(receive(call, &mut self.known, stored));
        let sending = Sending {
            total_bytes: total_bytes(&self.begin, &self.source),
            source: &mut self.source,
            sent_bytes: &mut self.sent_bytes,
            progress: &mut self.progress,
            attempts: self.attempts,
            persisted,
            sender,
            stall: timeouts.stall,
        };
        let (sent, file) = match select(pin!(sending.run(first)), receiving).await {
            Either::Left((sent, receiving)) => {
                let sent = sent?;
                let after = timeouts.commit;
                match tokio::time::timeout(after, receiving).await {
                    Ok(file) => (sent, file?),
                    Err(_) => return Err(Error::TimedOut { what: "the upload to be stored", after }),
                }
            }
            Either::Right((file, _)) => (None, file?),
        };
        let Some(sent) = sent else {
            return Err(Error::Protocol("an upload was accepted before all of it was sent".to_owned()));
        };
        Ok((sent, file))
    }

    /// What to tell the caller, after giving back what nobody can go on with.
    async fn given_up(&mut self, error: Error) -> Error {
        if let Some(id) = error.refusal().and_then(|refusal| refusal.facts.get("upload_id")) {
            self.known.id.get_or_insert_with(|| id.clone());
        }
        let Some(id) = self.known.id.as_ref().filter(|_| !is_final(&error)) else { return error };
        let is_taken = reason(&error) == Some(ErrorReason::UploadTakenOver);
        if self.source.declared_bytes().is_some() && !matches!(error, Error::SourceChanged { .. }) {
            let persisted_bytes = self.known.persisted_bytes;
            return Error::Unfinished { upload_id: id.clone(), persisted_bytes, error: Box::new(error) };
        }
        if !is_taken && let Err(error) = self.client.cancel_upload_once(id.clone()).await {
            tracing::debug!(%error, "cannot cancel upload {id}");
        }
        error
    }
}

fn total_bytes(begin: &Begin, source: &Source) -> Option<u64> {
    let of_spec = match begin {
        Begin::Spec { spec, .. } => spec.size_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        Begin::Id(_) => None,
    };
    of_spec.or(source.declared_bytes())
}

/// Takes note of each answer, to the last, which has the file.
async fn receive(
    call: impl Future<Output = Result<Response<Streaming<v1::BidiWriteFileResponse>>, Status>>,
    known: &mut Known,
    stored: watch::Sender<Option<u64>>,
) -> Result<v1::File> {
    let mut answers = call.await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let v1::BidiWriteFileResponse { upload_id, persisted_size, file } = answer;
        if !upload_id.is_empty() {
            known.id = Some(upload_id);
        }
        if let Some(file) = file {
            // To leave before the end would look like a caller who hung up.
            let _ = tokio::time::timeout(TRAILER_WAIT, answers.message()).await;
            return Ok(file);
        }
        let persisted_bytes = u64::try_from(persisted_size).unwrap_or(0);
        known.persisted(persisted_bytes);
        // No stream by an upload's id has sent anything before its first answer.
        known.resumed_from_bytes.get_or_insert(persisted_bytes);
        stored.send_replace(Some(persisted_bytes));
    }
    Err(Error::Lost("the stream ended without a file".to_owned()))
}

fn reason(error: &Error) -> Option<ErrorReason> {
    error.refusal()?.reason
}

/// Whether this ends the upload too, not only the stream: what was sent can never become a file, or it is one.
fn is_final(error: &Error) -> bool {
    let refusal = match error {
        Error::Refused(refusal) => refusal,
        Error::Corrupted(_) | Error::Protocol(_) => return true,
        _ => return false,
    };
    match refusal.reason {
        // That of a message ends its stream only.
        Some(ErrorReason::ChecksumMismatch) => {
            refusal.facts.get("algorithm").is_none_or(|algorithm| algorithm != CRC32C)
        }
        Some(
            ErrorReason::SizeMismatch
            | ErrorReason::PathTaken
            | ErrorReason::NameTaken
            | ErrorReason::NotFound
            | ErrorReason::QuotaExceeded
            | ErrorReason::FileTooLarge
            | ErrorReason::RequestIdReused
            | ErrorReason::EtagMismatch
            | ErrorReason::UploadFenced
            | ErrorReason::FileStatus
            | ErrorReason::UploadEnded,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! Uploads from a file or a reader.

mod source;

use crate::{
    Client, Corruption, Error, Progress, Result,
    client::{in_span, promised},
    v1::{self, transfer_service_client::TransferServiceClient, write_file_request::FirstMessage},
};
use data_encoding::HEXLOWER;
use futures_util::future::{Either, select};
use source::{Chunk, Source};
use std::{path::Path, pin::pin, time::Duration};
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

impl Client {
    /// Uploads a file of this machine. Its size is declared for regular files; where `spec` has neither `path`, `file` nor
    /// `filename`, its name is sent. Answers when the bytes are durable and the metadata is committed.
    ///
    /// # Errors
    /// Refusals of the service, often before all was sent; [`Error::Io`] for the file, [`Error::SourceChanged`] if it
    /// changes its size; [`Error::TimedOut`] when no byte moves for the stall timeout or no answer comes for the commit
    /// timeout. After [`Error::Lost`] and [`Error::TimedOut`] it is unknown whether the file was stored.
    pub async fn upload_file(
        &self,
        path: &Path,
        mut spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<v1::File> {
        let source = Source::open(path).await?;
        if spec.path.is_empty() && spec.file.is_none() && spec.filename.is_empty() {
            spec.filename =
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        }
        self.upload_source(source, spec, progress).await
    }

    /// Uploads what a reader gives, to its end. If `spec` declares a size, the reader must give exactly that.
    ///
    /// # Errors
    /// Those of [`upload_file`](Self::upload_file); `SIZE_MISMATCH` if the declared size is wrong. A reader that gives
    /// nothing for 30 seconds ends the upload with `STREAM_STALLED`.
    pub async fn upload(
        &self,
        reader: impl AsyncRead + Send + 'static,
        spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<v1::File> {
        self.upload_source(Source::stream(reader), spec, progress).await
    }

    async fn upload_source(
        &self,
        source: Source,
        mut spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<v1::File> {
        if let Some(bytes) = source.declared_bytes() {
            let too_large = |_| Error::io("cannot send")(std::io::ErrorKind::FileTooLarge.into());
            spec.size_bytes = Some(i64::try_from(bytes).map_err(too_large)?);
        }
        // Boxed, because the transport's future is large.
        let transfer = Box::pin(self.transfer(source, spec, progress));
        in_span("coffer.v1.TransferService/WriteFile", transfer).await
    }

    /// Sends while listening: the service may refuse at any time, and then the rest is not read.
    async fn transfer(
        &self,
        source: Source,
        spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<v1::File> {
        let timeouts = self.timeouts();
        // One message waits here while the one before is sent and the next one is read.
        let (sender, receiver) = mpsc::channel(1);
        let mut service = TransferServiceClient::new(self.service());
        let call = pin!(service.write_file(ReceiverStream::new(receiver)));
        let sending = pin!(send(source, spec, sender, timeouts.stall, progress));
        let (sent, answer) = match select(sending, call).await {
            Either::Left((Err(error), _)) => return Err(error),
            Either::Left((Ok(sent), call)) => match tokio::time::timeout(timeouts.commit, call).await {
                Ok(answer) => (sent, answer?.into_inner()),
                Err(_) => {
                    return Err(Error::TimedOut { what: "the upload to be stored", after: timeouts.commit });
                }
            },
            Either::Right((answer, _)) => (None, answer?.into_inner()),
        };
        let Some(sent) = sent else {
            return Err(Error::Protocol("an upload was accepted before all of it was sent".to_owned()));
        };
        let file = promised(answer.file, "file")?;
        sent.compare(&file)?;
        Ok(file)
    }
}

/// All that was sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    bytes: u64,
    sha256: String,
}

impl Sent {
    /// The service has what was sent.
    fn compare(&self, file: &v1::File) -> Result<()> {
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

/// Sends the content as messages, the last with `finish` and the SHA-256 of all. `None` if the call ended before: then its
/// answer says why.
async fn send(
    mut source: Source,
    spec: v1::UploadSpec,
    sender: mpsc::Sender<v1::WriteFileRequest>,
    stall: Duration,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<Option<Sent>> {
    let total_bytes = spec.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
    let mut first_message = Some(FirstMessage::Spec(spec));
    let mut done_bytes = 0;
    progress(Progress { done_bytes, total_bytes });
    loop {
        let Chunk { content, crc32c, is_last } = tokio::select! {
            chunk = source.next() => chunk?,
            () = sender.closed() => return Ok(None),
        };
        if content.is_empty() && !is_last && first_message.is_none() {
            continue;
        }
        let write_offset = i64::try_from(done_bytes)
            .map_err(|_| Error::io("cannot send")(std::io::ErrorKind::FileTooLarge.into()))?;
        done_bytes += content.len() as u64;
        let data = (!content.is_empty()).then_some(v1::ChecksummedData { content, crc32c: Some(crc32c) });
        let sha256 = if is_last { HEXLOWER.encode(&source.digest()) } else { String::new() };
        let first_message = first_message.take();
        let message = v1::WriteFileRequest {
            first_message,
            write_offset,
            data,
            finish: is_last,
            sha256: sha256.clone(),
        };
        match tokio::time::timeout(stall, sender.send(message)).await {
            Ok(Ok(())) => progress(Progress { done_bytes, total_bytes }),
            Ok(Err(_)) => return Ok(None),
            Err(_) => return Err(Error::TimedOut { what: "the service to take more bytes", after: stall }),
        }
        if is_last {
            return Ok(Some(Sent { bytes: done_bytes, sha256 }));
        }
    }
}

#[cfg(test)]
mod tests;

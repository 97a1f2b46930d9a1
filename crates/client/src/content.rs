//! Reading content, with everything verified that can be.

use crate::{
    Client, Corruption, Error, Progress, Result, Timeouts,
    client::{in_span, promised},
    retry::{Retry, is_passing},
    v1::{self, ErrorReason, file_reference::By, transfer_service_client::TransferServiceClient},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tonic::{Code, Status};

/// What the service sends.
type Messages = BoxStream<'static, Result<v1::ReadFileResponse, Status>>;
/// Asks the service for a content.
type Open = Box<dyn Fn(v1::ReadFileRequest) -> BoxFuture<'static, Result<Messages>> + Send + Sync>;

impl Client {
    /// Begins to read a content or a range of it. Answers when the service has said what it will send.
    ///
    /// When the connection or the service goes away, the rest of the same version is asked for, until nothing more came for
    /// [`Timeouts::retry`].
    ///
    /// # Errors
    /// Refusals of the service, such as `RANGE_PAST_END`; [`Error::TimedOut`] when nothing comes for the stall timeout.
    pub async fn read(&self, request: v1::ReadFileRequest) -> Result<Content> {
        let client = self.clone();
        let open: Open = Box::new(move |request| client.open(request));
        // Boxed, because the transport's future is large.
        Box::pin(Content::begin(request, open, self.timeouts())).await
    }

    fn open(&self, request: v1::ReadFileRequest) -> BoxFuture<'static, Result<Messages>> {
        let stall = self.timeouts().stall;
        let mut service = TransferServiceClient::new(self.service());
        let work = async move {
            match tokio::time::timeout(stall, service.read_file(request)).await {
                Ok(answer) => Ok(answer?.into_inner().boxed()),
                Err(_) => Err(Error::TimedOut { what: "the content to begin", after: stall }),
            }
        };
        Box::pin(in_span("coffer.v1.TransferService/ReadFile", work))
    }
}

/// A content on its way in. Each piece handed out has passed its own CRC-32C and begins where the one before ended; when
/// [`next_chunk`](Self::next_chunk) has answered `None`, the length and, for whole files, the SHA-256 are right as well.
/// Until then the pieces are not the content, only a beginning of it.
///
/// Dropping it cancels the read.
pub struct Content {
    messages: Messages,
    open: Open,
    request: v1::ReadFileRequest,
    stall: Duration,
    retry: Retry,
    attempts: u32,
    file: v1::File,
    offset: u64,
    length: u64,
    received_bytes: u64,
    /// Running digest of a whole content; none for ranges, whose checksum nobody knows, and after the end.
    digest: Option<Sha256>,
}

/// What the service says in the first message.
struct Promise {
    file: v1::File,
    offset: u64,
    length: u64,
}

impl Content {
    async fn begin(request: v1::ReadFileRequest, open: Open, timeouts: &Timeouts) -> Result<Self> {
        let stall = timeouts.stall;
        let mut retry = Retry::transfer(timeouts.retry);
        let mut attempts = 1;
        let (Promise { file, offset, length }, messages) = loop {
            match opened(&open, request.clone(), stall).await {
                Ok(opened) => break opened,
                Err(error) => retry.wait_after(error).await?,
            }
            attempts += 1;
        };
        retry.progressed();
        let is_whole = offset == 0 && u64::try_from(file.size_bytes) == Ok(length);
        let digest = is_whole.then(Sha256::new);
        let received_bytes = 0;
        Ok(Self {
            messages,
            open,
            request,
            stall,
            retry,
            attempts,
            file,
            offset,
            length,
            received_bytes,
            digest,
        })
    }

    /// The file being read. Size, checksums and version are those of the version being read.
    pub fn file(&self) -> &v1::File {
        &self.file
    }

    /// Where in the content the first byte is from.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that will come in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let (done_bytes, total_bytes) = (self.received_bytes, Some(self.length));
        Progress { done_bytes, total_bytes, attempts: self.attempts }
    }

    /// The next bytes, never empty; `None` when all came and the whole is right.
    ///
    /// # Errors
    /// [`Error::Corrupted`] when the bytes are not what was sent or stored, refusals of the service in mid-stream
    /// (`CONTENT_CORRUPTED`, `TOKEN_EXPIRED`, …), [`Error::VersionGone`] if it broke and the version is not there any more,
    /// [`Error::Lost`], [`Error::TimedOut`]. No error can be read past.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.next_verified().await {
                Ok(Some(chunk)) => {
                    self.retry.progressed();
                    return Ok(Some(chunk));
                }
                Ok(None) => return self.end().map(|()| None),
                // Nothing is left to ask for; whether it is right is seen here.
                Err(error) if is_passing(&error) && self.received_bytes == self.length => {
                    return self.end().map(|()| None);
                }
                Err(error) => self.take_up(error).await?,
            }
        }
    }

    /// The next bytes of this stream.
    async fn next_verified(&mut self) -> Result<Option<Bytes>> {
        while let Some(message) = next_message(&mut self.messages, self.stall).await? {
            let chunk = self.verified(message)?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Opens the rest of the content after a failure; hands the failure back if that is no use.
    async fn take_up(&mut self, mut error: Error) -> Result<()> {
        loop {
            self.retry.wait_after(error).await?;
            self.attempts += 1;
            match opened(&self.open, self.rest(), self.stall).await {
                Ok((promise, messages)) if self.is_same(&promise.file) => {
                    self.messages = messages;
                    return Ok(());
                }
                Ok(_) => return Err(self.version_gone()),
                Err(Error::Refused(why)) if is_gone(why.code, why.reason) => return Err(self.version_gone()),
                Err(next) => error = next,
            }
        }
    }

    /// Asks for what is missing of the very version that was begun.
    fn rest(&self) -> v1::ReadFileRequest {
        let mut request = self.request.clone();
        // By now another file may have the path.
        if !self.file.id.is_empty() {
            request.file = Some(v1::FileReference { by: Some(By::Id(self.file.id.clone())) });
        }
        if self.file.version > 0 {
            request.version = self.file.version;
        }
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        request.offset = signed(self.offset + self.received_bytes);
        request.length = signed(self.length - self.received_bytes);
        request
    }

    fn is_same(&self, file: &v1::File) -> bool {
        let of = |file: &v1::File| (file.version, file.size_bytes, file.sha256.clone());
        of(file) == of(&self.file)
    }

    fn version_gone(&self) -> Error {
        Error::VersionGone { version: self.file.version, received_bytes: self.received_bytes }
    }

    fn verified(&mut self, message: v1::ReadFileResponse) -> Result<Bytes> {
        let v1::ReadFileResponse { metadata, read_offset, data } = message;
        if metadata.is_some() {
            return Err(Error::Protocol("metadata came twice".to_owned()));
        }
        let v1::ChecksummedData { content, crc32c } = promised(data, "data")?;
        let offset = self.offset + self.received_bytes;
        if u64::try_from(read_offset) != Ok(offset) {
            return Err(Error::Corrupted(Corruption::Gap { expected: offset, found: read_offset }));
        }
        if crc32c.is_some_and(|expected| expected != crc32c::crc32c(&content)) {
            return Err(Error::Corrupted(Corruption::Crc32c { offset }));
        }
        if content.len() as u64 > self.length - self.received_bytes {
            return Err(Error::Corrupted(Corruption::Long { expected_bytes: self.length }));
        }
        self.received_bytes += content.len() as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(&content);
        }
        Ok(content)
    }

    fn end(&mut self) -> Result<()> {
        if self.received_bytes < self.length {
            let (expected_bytes, received_bytes) = (self.length, self.received_bytes);
            return Err(Error::Corrupted(Corruption::Short { expected_bytes, received_bytes }));
        }
        let Some(digest) = self.digest.take() else { return Ok(()) };
        let found = HEXLOWER.encode(&digest.finalize());
        if found != self.file.sha256 {
            return Err(Error::Corrupted(Corruption::Sha256 { expected: self.file.sha256.clone(), found }));
        }
        Ok(())
    }
}

/// Asks for a content and takes what the service promises from the first message.
async fn opened(open: &Open, request: v1::ReadFileRequest, stall: Duration) -> Result<(Promise, Messages)> {
    let range = (request.offset, request.length);
    let mut messages = open(request).await?;
    let first = next_message(&mut messages, stall).await?;
    let promise = promised(first.and_then(|message| message.metadata), "metadata")?;
    let file = promised(promise.file, "file")?;
    if (promise.offset, promise.length) != expected_range(file.size_bytes, range) {
        let text = format!(
            "{} bytes from {} are no answer to what was asked of {} bytes",
            promise.length, promise.offset, file.size_bytes
        );
        return Err(Error::Protocol(text));
    }
    let unsigned = |value: i64| {
        u64::try_from(value).map_err(|_| Error::Protocol(format!("{value} is no number of bytes")))
    };
    let (offset, length) = (unsigned(promise.offset)?, unsigned(promise.length)?);
    Ok((Promise { file, offset, length }, messages))
}

async fn next_message(messages: &mut Messages, stall: Duration) -> Result<Option<v1::ReadFileResponse>> {
    match tokio::time::timeout(stall, messages.next()).await {
        Ok(message) => Ok(message.transpose()?),
        Err(_) => Err(Error::TimedOut { what: "more of the content", after: stall }),
    }
}

/// How the service says that it has no such version, or none of that size.
fn is_gone(code: Code, reason: Option<ErrorReason>) -> bool {
    code == Code::NotFound || reason == Some(ErrorReason::RangePastEnd)
}

/// The first byte and the number of bytes that the contract gives for a range of a content of this size.
fn expected_range(size_bytes: i64, (offset, length): (i64, i64)) -> (i64, i64) {
    let first = if offset < 0 { size_bytes.saturating_add(offset).max(0) } else { offset };
    let rest = size_bytes.saturating_sub(first);
    (first, if length == 0 { rest } else { length.min(rest) })
}

#[cfg(test)]
pub(crate) mod tests;

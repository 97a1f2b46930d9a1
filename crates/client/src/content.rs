//! Reading content, with everything verified that can be.

use crate::{
    Client, Corruption, Error, Progress, Result,
    client::{in_span, promised},
    v1::{self, transfer_service_client::TransferServiceClient},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tonic::Status;

impl Client {
    /// Begins to read a content or a range of it. Answers when the service has said what it will send.
    ///
    /// # Errors
    /// Refusals of the service, such as `RANGE_PAST_END`; [`Error::TimedOut`] when nothing comes for the stall timeout.
    pub async fn read(&self, request: v1::ReadFileRequest) -> Result<Content> {
        let stall = self.timeouts().stall;
        let mut service = TransferServiceClient::new(self.service());
        // Boxed, because the transport's future is large.
        let work = Box::pin(async move {
            let range = (request.offset, request.length);
            match tokio::time::timeout(stall, service.read_file(request)).await {
                Ok(answer) => Content::new(answer?.into_inner(), range, stall).await,
                Err(_) => Err(Error::TimedOut { what: "the content to begin", after: stall }),
            }
        });
        in_span("coffer.v1.TransferService/ReadFile", work).await
    }
}

/// A content on its way in. Each piece handed out has passed its own CRC-32C and begins where the one before ended; when
/// [`next_chunk`](Self::next_chunk) has answered `None`, the length and, for whole files, the SHA-256 are right as well.
/// Until then the pieces are not the content, only a beginning of it.
///
/// Dropping it cancels the read.
pub struct Content {
    messages: BoxStream<'static, Result<v1::ReadFileResponse, Status>>,
    stall: Duration,
    file: v1::File,
    offset: u64,
    length: u64,
    received_bytes: u64,
    /// Running digest of a whole content; none for ranges, whose checksum nobody knows, and after the end.
    digest: Option<Sha256>,
}

impl Content {
    /// Takes what the service promises from the first message. `range` is the offset and length that were asked for.
    pub(crate) async fn new(
        messages: impl Stream<Item = Result<v1::ReadFileResponse, Status>> + Send + 'static,
        range: (i64, i64),
        stall: Duration,
    ) -> Result<Self> {
        let mut messages = messages.boxed();
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
        let is_whole = promise.offset == 0 && promise.length == file.size_bytes;
        let digest = is_whole.then(Sha256::new);
        Ok(Self { messages, stall, file, offset, length, received_bytes: 0, digest })
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
        Progress { done_bytes: self.received_bytes, total_bytes: Some(self.length) }
    }

    /// The next bytes, never empty; `None` when all came and the whole is right.
    ///
    /// # Errors
    /// [`Error::Corrupted`] when the bytes are not what was sent or stored, refusals of the service in mid-stream
    /// (`CONTENT_CORRUPTED`, `TOKEN_EXPIRED`, …), [`Error::Lost`], [`Error::TimedOut`]. No error can be read past.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(message) = next_message(&mut self.messages, self.stall).await? else {
                return self.end().map(|()| None);
            };
            let chunk = self.verified(message)?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
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

async fn next_message(
    messages: &mut BoxStream<'static, Result<v1::ReadFileResponse, Status>>,
    stall: Duration,
) -> Result<Option<v1::ReadFileResponse>> {
    match tokio::time::timeout(stall, messages.next()).await {
        Ok(message) => Ok(message.transpose()?),
        Err(_) => Err(Error::TimedOut { what: "more of the content", after: stall }),
    }
}

/// The first byte and the number of bytes that the contract gives for a range of a content of this size.
fn expected_range(size_bytes: i64, (offset, length): (i64, i64)) -> (i64, i64) {
    let first = if offset < 0 { size_bytes.saturating_add(offset).max(0) } else { offset };
    let rest = size_bytes.saturating_sub(first);
    (first, if length == 0 { rest } else { length.min(rest) })
}

#[cfg(test)]
pub(crate) mod tests;

//! Uploads from a file or a reader, which survive lost connections and restarts of the service.

mod send;
mod source;
mod transfer;

use crate::{Client, Error, Progress, Result, client::or_random, v1};
use source::Source;
use std::path::Path;
use tokio::io::AsyncRead;
use transfer::{Begin, Transfer};

/// A finished upload.
#[derive(Clone, Debug, PartialEq)]
pub struct Uploaded {
    /// The file as the service committed it, its size and SHA-256 compared with what was sent.
    pub file: v1::File,
    /// Where sending began: what an earlier process had stored of it; else 0.
    pub resumed_from_bytes: u64,
    /// Bytes of content handed to the transport, in all attempts together.
    pub sent_bytes: u64,
    /// How often the upload was begun or taken up again: 1 if nothing went wrong.
    pub attempts: u32,
}

impl Uploaded {
    /// Bytes that were sent more than once.
    pub fn resent_bytes(&self) -> u64 {
        let size_bytes = u64::try_from(self.file.size_bytes).unwrap_or(0);
        self.sent_bytes.saturating_sub(size_bytes.saturating_sub(self.resumed_from_bytes))
    }
}

impl Client {
    /// Uploads a file of this machine. Its size is declared for regular files; where `spec` has neither `path`, `file` nor
    /// `filename`, its name is sent. Answers when the bytes are durable and the metadata is committed.
    ///
    /// When the connection or the service goes away, it goes on from what the service has stored, until there was no
    /// progress for [`Timeouts::retry`](crate::Timeouts::retry). A `spec` without a `request_id` gets one; with the
    /// `request_id` of an unfinished upload and the same spec that upload goes on. On a volume where nothing can be gone on with, a
    /// `spec` without a `request_id` is sent once.
    ///
    /// Dropping the future leaves the upload open for [`resume_file`](Self::resume_file), until it expires or is cancelled.
    ///
    /// # Errors
    /// [`Error::Unfinished`] when it failed and the service keeps what it has; refusals of the service, often before all was
    /// sent; [`Error::Io`] for the file, [`Error::SourceChanged`] if it changes its size. After [`Error::Lost`] and
    /// [`Error::TimedOut`] it is unknown whether the service has heard of the upload.
    pub async fn upload_file(
        &self,
        path: &Path,
        mut spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Uploaded> {
        let source = Source::open(path).await?;
        describe(&mut spec, path, source.declared_bytes())?;
        self.transfer(source, Begin::new(spec), progress).await
    }

    /// Uploads what a reader gives, to its end. If `spec` declares a size, the reader must give exactly that.
    ///
    /// Up to 32 MiB that the service has not stored yet are kept in memory, so that this goes on after a failure as
    /// [`upload_file`](Self::upload_file) does. No other process can: an upload that fails for good is cancelled, as far as
    /// the service can be reached. Dropping the future leaves it open until it expires.
    ///
    /// # Errors
    /// Those of [`upload_file`](Self::upload_file), without [`Error::Unfinished`]; `SIZE_MISMATCH` if the declared size is
    /// wrong. A reader that gives nothing for longer than 30 seconds and then [`Timeouts::retry`](crate::Timeouts::retry)
    /// ends the upload with `STREAM_STALLED`.
    pub async fn upload(
        &self,
        reader: impl AsyncRead + Send + 'static,
        spec: v1::UploadSpec,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Uploaded> {
        self.transfer(Source::stream(reader), Begin::new(spec), progress).await
    }

    /// Goes on with an upload that was begun before, maybe by another process. What the service has of it is read here as well, so
    /// that the SHA-256 covers all: if this is not the file that was begun, the service refuses it with `CHECKSUM_MISMATCH`.
    ///
    /// # Errors
    /// Those of [`upload_file`](Self::upload_file); `NOT_FOUND` and `UPLOAD_ENDED` if there is no such upload any more;
    /// [`Error::SourceChanged`], with nothing sent, if the file does not have the declared size.
    pub async fn resume_file(
        &self,
        path: &Path,
        upload_id: &str,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Uploaded> {
        let source = Source::open(path).await?;
        let upload = self.get_upload(upload_id).await?;
        let declared_bytes = upload.size_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let found_bytes = source.declared_bytes().unwrap_or(0);
        if let Some(declared_bytes) = declared_bytes.filter(|declared| *declared != found_bytes) {
            return Err(Error::SourceChanged { declared_bytes, grew: found_bytes > declared_bytes });
        }
        self.transfer(source, Begin::Id(upload_id.to_owned()), progress).await
    }

    /// The newest upload that `upload_file` with this path and spec began and that can go on: the caller's own, OPEN or FINISHING,
    /// with the same path, file name and size, and on the volume if `spec` names one. What else the spec says is not compared.
    /// None for what is no regular file or is empty.
    ///
    /// # Errors
    /// [`Error::Io`] for the file; `NOT_FOUND` for a volume that does not exist.
    pub async fn unfinished_upload(&self, path: &Path, spec: &v1::UploadSpec) -> Result<Option<v1::Upload>> {
        // Not opened: that would take a pipe from whoever writes to it.
        let metadata = tokio::fs::metadata(path).await;
        let metadata = metadata.map_err(Error::io(format!("cannot look at {}", path.display())))?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Ok(None);
        }
        let mut spec = spec.clone();
        describe(&mut spec, path, Some(metadata.len()))?;
        self.newest_unfinished(&spec).await
    }

    async fn transfer(
        &self,
        source: Source,
        begin: Begin,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Uploaded> {
        Transfer::new(self, source, begin, progress).run().await
    }
}

/// Adds to the spec what the file itself says.
fn describe(spec: &mut v1::UploadSpec, path: &Path, declared_bytes: Option<u64>) -> Result<()> {
    if spec.path.is_empty() && spec.file.is_none() && spec.filename.is_empty() {
        spec.filename = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    }
    if let Some(bytes) = declared_bytes {
        let too_large = |_| Error::io("cannot send")(std::io::ErrorKind::FileTooLarge.into());
        spec.size_bytes = Some(i64::try_from(bytes).map_err(too_large)?);
    }
    Ok(())
}

impl Begin {
    /// An upload of its own, or the one that was begun with the same `request_id`.
    fn new(mut spec: v1::UploadSpec) -> Self {
        let is_new = spec.request_id.is_empty();
        spec.request_id = or_random(spec.request_id);
        Self::Spec { spec: Box::new(spec), is_new }
    }
}

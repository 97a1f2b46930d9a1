//! The port to bytes. A driver stores objects under keys below one place (a directory, a bucket, a share).
//!
//! The contract is in the documentation of [`Driver`] and [`Writer`]; the conformance suite is its proof. Change both together.

mod error;
mod published;

pub use error::{Error, ErrorKind};
pub use published::{NativeVersion, NotANativeVersion, Published};

use crate::path::Key;
use crate::volume::Provider;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Result of a driver's operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Bytes in order, as the backend gives them; pieces are at most [`MAX_PIECE_BYTES`].
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Largest piece a [`ByteStream`] yields.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;

/// How large the next pieces of a [`ByteStream`] may be. Whoever takes them changes it as he gets faster or slower, or memory gets scarce;
/// a backend that cannot choose keeps to [`MAX_PIECE_BYTES`]. Clones are one value.
#[derive(Debug, Clone)]
pub struct PieceSize(Arc<AtomicUsize>);

impl PieceSize {
    /// Pieces of up to this many bytes, at least 1 and at most [`MAX_PIECE_BYTES`].
    pub fn new(bytes: usize) -> Self {
        let size = Self(Arc::default());
        size.set(bytes);
        size
    }

    /// Bytes of the next piece that is asked for, at most.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes it for pieces that were not asked for yet.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes.clamp(1, MAX_PIECE_BYTES), Ordering::Relaxed);
    }
}

impl Default for PieceSize {
    /// Pieces of 256 KiB.
    fn default() -> Self {
        Self::new(256 * 1024)
    }
}

/// Stores objects under keys. Shared by all streams of a volume.
///
/// Keys are relative to the volume's place and validated; a driver joins their segments its own way and never lets one leave
/// the place. Dropping any future leaves the backend as if the operation had not begun or had ended; dropping a [`Writer`] leaves at
/// most a staged object that [`Driver::resume`] goes on with and [`Driver::sweep`] removes.
#[async_trait]
pub trait Driver: Send + Sync + fmt::Debug {
    /// The kind of backend.
    fn provider(&self) -> Provider;

    /// What this backend can do. Constant for the life of the driver.
    fn capabilities(&self) -> Capabilities;

    /// Begins to write an object that will be published at `key`, staged under a name that belongs to `upload`.
    ///
    /// # Behaviour
    /// Nothing is visible at `key` until [`Writer::finish`] returns.
    ///
    /// Requires the capability `resume` for an object that [is resumable](WriteOptions::is_resumable).
    async fn begin(
        &self,
        upload: crate::id::UploadId,
        key: &Key,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>>;

    /// Writes an object whose bytes are all here and publishes it at `key`: [`Driver::begin`], [`Writer::write`] and [`Writer::finish`] in
    /// one, with as few waits as the backend allows.
    ///
    /// # Behaviour
    /// That of the three. What fails leaves at most a staged object that [`Driver::sweep`] removes.
    async fn store(&self, upload: crate::id::UploadId, key: &Key, content: Vec<Bytes>) -> Result<Published> {
        let declared_size = Some(content.iter().map(|piece| piece.len() as u64).sum());
        let mut writer =
            self.begin(upload, key, WriteOptions { declared_size, ..WriteOptions::default() }).await?;
        if let Err(error) = writer.write(content.into()).await {
            // The failure that is told is the first.
            let _ = writer.abort().await;
            return Err(error);
        }
        writer.finish().await
    }

    /// Goes on with a resumable object of which a [checkpoint](Writer::checkpoint) made `size` bytes durable, or with what
    /// [`Driver::begin`] left where `size` is 0. Whatever was written after them is cut off.
    ///
    /// # Behaviour
    /// An object that was published at `key` is taken back: the caller knows that it was not committed. Where `size` is 0 and nothing is
    /// there, this begins anew. The writer takes bytes from `size` on.
    ///
    /// Requires the capability `resume`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if less than `size` bytes are there; [`ErrorKind::Unavailable`] while another writer, maybe of
    /// another node, still has the object.
    async fn resume(
        &self,
        upload: crate::id::UploadId,
        key: &Key,
        size: u64,
        options: WriteOptions,
    ) -> Result<Box<dyn Writer>>;

    /// Reads `range` of the object at `key` in pieces of up to `size`. The stream ends early if the object is shorter; the caller compares
    /// lengths.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] before the first piece if there is no object.
    async fn read(&self, key: &Key, range: Range<u64>, size: PieceSize) -> Result<ByteStream>;

    /// Size and age of the object at `key`, or `None`.
    async fn stat(&self, key: &Key) -> Result<Option<Stat>>;

    /// Removes the object at `key`, durably: it does not come back after a power cut. An absent object is a success. Where the backend keeps
    /// versions it is then absent, and its versions stay until [`Driver::delete_version`] removes them.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Up to `limit` objects with keys after `after` in byte order, below `.coffer/` only where `after` or `prefix` is.
    ///
    /// Requires the capability `list`.
    async fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<Listed>>;

    /// Writes a small object at `key` at once, replacing what is there: markers and checks. At most 64 KiB.
    async fn put(&self, key: &Key, content: Bytes) -> Result<()>;

    /// Makes another object at `to` of the object at `from`, whose bytes do not pass through the service; answers what the backend
    /// has. Both stay readable when the other is deleted.
    ///
    /// # Behaviour
    /// That of [`Driver::store`]: the copy is durable, and appears whole or not at all. What fails leaves at most something staged that
    /// [`Driver::sweep`] removes.
    ///
    /// Requires the capability `copy`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no object at `from`. [`ErrorKind::AlreadyExists`] if there is one at `to`; without the capability
    /// `create_only`, if there was one before. [`ErrorKind::Unsupported`] if the backend cannot copy an object as large as this.
    async fn copy(&self, upload: crate::id::UploadId, from: &Key, to: &Key) -> Result<Published> {
        let _ = (upload, from);
        Err(unsupported("copy", to))
    }

    /// Lets the object at `key` be found at `path` too, durably, by programs that know nothing of the service: whole or not at all, in place of
    /// what is there if that is the object at one of the keys `before`. Had twice, it is as had once. Both stay readable when the other is
    /// deleted or replaced.
    ///
    /// Requires the capability `link`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if anything else is there, or in the way: it is left as it is. [`ErrorKind::NotFound`] if there is no object
    /// at `key`.
    async fn link(&self, key: &Key, path: &Key, before: &[Key]) -> Result<()> {
        let _ = (key, before);
        Err(unsupported("link", path))
    }

    /// Removes what is found at `path`, durably, if that is the object at one of `keys`. Anything else is left as it is, which is a success.
    ///
    /// Requires the capability `link`.
    async fn unlink(&self, path: &Key, keys: &[Key]) -> Result<()> {
        let _ = keys;
        Err(unsupported("unlink", path))
    }

    /// [`Driver::read`] of one version of the object at `key`, be it the current one, an earlier one, or one of an object that was deleted.
    ///
    /// Requires the capability `versions`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] before the first piece if there is no such version.
    async fn read_version(
        &self,
        key: &Key,
        version: &NativeVersion,
        range: Range<u64>,
        size: PieceSize,
    ) -> Result<ByteStream> {
        let _ = (version, range, size);
        Err(unsupported("read", key))
    }

    /// [`Driver::stat`] of one version.
    ///
    /// Requires the capability `versions`.
    async fn stat_version(&self, key: &Key, version: &NativeVersion) -> Result<Option<Stat>> {
        let _ = version;
        Err(unsupported("stat", key))
    }

    /// Removes one version of the object at `key` for good, and no other: if it was the current one, the one before it is current again. An
    /// absent one is a success.
    ///
    /// Requires the capability `versions`.
    async fn delete_version(&self, key: &Key, version: &NativeVersion) -> Result<()> {
        let _ = version;
        Err(unsupported("delete", key))
    }

    /// Removes what an upload that is over has left staged.
    async fn sweep(&self, upload: crate::id::UploadId) -> Result<()>;
}

/// An object being written. Bytes arrive in order; there is one call at a time.
#[async_trait]
pub trait Writer: Send {
    /// Appends the bytes of `batch`.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when the backend has no space. After any error only [`Writer::abort`] may follow.
    async fn write(&mut self, batch: Batch) -> Result<()>;

    /// Makes all that was written before durable, so that [`Driver::resume`] finds it after a crash or a power cut. What the future does
    /// goes on beside later writes; it has to be awaited before [`Writer::finish`] and [`Writer::abort`].
    ///
    /// Requires a resumable object.
    ///
    /// # Errors
    /// After an error nothing written since the last checkpoint can be relied upon.
    fn checkpoint(&mut self) -> BoxFuture<'static, Result<()>>;

    /// Makes everything durable and publishes it at the key, whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is an object at the key: keys are never reused, so it is not ours.
    async fn finish(self: Box<Self>) -> Result<Published>;

    /// [`Writer::finish`] at another key than [`Driver::begin`] named: what is chosen by the content is known at its end.
    ///
    /// # Behaviour
    /// That of `finish`. A resumable object is afterwards [resumed](Driver::resume) under this key.
    ///
    /// Requires the capability `rename`.
    async fn finish_at(self: Box<Self>, key: &Key) -> Result<Published> {
        Err(unsupported("finish", key))
    }

    /// Removes what was staged.
    async fn abort(self: Box<Self>) -> Result<()>;
}

fn unsupported(operation: &'static str, key: &Key) -> Error {
    Error { kind: ErrorKind::Unsupported, operation, key: Some(key.to_string()), source: None }
}

/// The next bytes of an object, made when they are wanted: what must see them on their way (hashing, the codec) runs inside
/// [`Batch::encode`]. A driver calls that once, on a thread where it may take a millisecond, best the one that writes.
pub struct Batch(Box<dyn FnOnce() -> Vec<Bytes> + Send>);

impl Batch {
    /// Bytes that `encode` makes.
    pub fn new(encode: impl FnOnce() -> Vec<Bytes> + Send + 'static) -> Self {
        Self(Box::new(encode))
    }

    /// Makes the bytes.
    pub fn encode(self) -> Vec<Bytes> {
        (self.0)()
    }
}

impl From<Vec<Bytes>> for Batch {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self::new(move || pieces)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batch(..)")
    }
}

/// What is known of an object before it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Bytes it will have; space is allocated where the backend can.
    pub declared_size: Option<u64>,
    /// Whether what was written has to outlive its writer.
    pub is_resumable: bool,
}

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// A finished object appears whole or not at all.
    pub atomic_publish: bool,
    /// "Written" means durable, not only accepted.
    pub durable_ack: bool,
    /// Publishing never replaces an object.
    pub create_only: bool,
    /// A broken write can go on where it was.
    pub resume: bool,
    /// Ranges are read without reading what is before them.
    pub range_read: bool,
    /// Objects can be listed in the order of their keys.
    pub list: bool,
    /// Objects can be copied without moving their bytes through the service ([`Driver::copy`]).
    pub copy: bool,
    /// Objects can be found at a path as well, at no cost of bytes, and it can be told whose a path is ([`Driver::link`]).
    pub link: bool,
    /// What is staged can be published at another key than it was begun for.
    pub rename: bool,
    /// An object that is replaced or deleted stays as a version, which is read and removed by the backend's own id of it.
    pub versions: bool,
}

/// An object's size and age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Last change of content or name, as the backend tells it.
    pub changed_at: crate::time::Timestamp,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its size and age.
    pub stat: Stat,
}

/// Opens the driver of a volume. Implemented where drivers are wired together.
#[async_trait]
pub trait Open: Send + Sync {
    /// The driver for a backend, with all wrappers; opened at most once per distinct backend by the caller.
    async fn open(&self, backend: &crate::volume::OpenBackend) -> Result<Arc<dyn Driver>>;
}

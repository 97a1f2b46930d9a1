//! Where the bytes of an upload come from.

use crate::{Error, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use coffer_proto::BEST_DATA_BYTES;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::{fs, io, path::Path, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::spawn_blocking,
    time::timeout,
};

/// A reader that pauses for so long has what it gave so far sent: the service gives up a stream that is silent for 30 s.
const PAUSE: Duration = Duration::from_secs(1);

/// The bytes of one message.
pub(super) struct Chunk {
    /// Up to 256 KiB; may be empty when nothing is ready, or at the end.
    pub(super) content: Bytes,
    pub(super) crc32c: u32,
    /// Nothing comes after it.
    pub(super) is_last: bool,
}

/// Bytes in order, with a running SHA-256.
pub(super) struct Source {
    kind: Kind,
    /// For messages about it.
    name: String,
    digest: Sha256,
}

enum Kind {
    /// A file of known size, read on blocking threads.
    Regular {
        file: Arc<fs::File>,
        size_bytes: u64,
        read_bytes: u64,
    },
    Stream(Pin<Box<dyn AsyncRead + Send>>),
}

impl Source {
    /// A file by its path. Devices, pipes and the like are read to their end as streams, and so are files that seem empty:
    /// those of `/proc` say so and are not.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let path = path.to_owned();
        let open = move || {
            let file = fs::File::open(path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let opened = spawn_blocking(open).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        let (file, metadata) = opened.map_err(Error::io(format!("cannot read {name}")))?;
        let kind = if metadata.is_file() && metadata.len() > 0 {
            Kind::Regular { file: Arc::new(file), size_bytes: metadata.len(), read_bytes: 0 }
        } else {
            Kind::Stream(Box::pin(tokio::fs::File::from_std(file)))
        };
        Ok(Self { kind, name, digest: Sha256::new() })
    }

    pub(super) fn stream(reader: impl AsyncRead + Send + 'static) -> Self {
        Self { kind: Kind::Stream(Box::pin(reader)), name: "the content".to_owned(), digest: Sha256::new() }
    }

    /// Bytes there will be, where that is known.
    pub(super) fn declared_bytes(&self) -> Option<u64> {
        match self.kind {
            Kind::Regular { size_bytes, .. } => Some(size_bytes),
            Kind::Stream(_) => None,
        }
    }

    /// SHA-256 of all chunks so far.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }

    /// The next bytes. Not to be called after the last chunk.
    pub(super) async fn next(&mut self) -> Result<Chunk> {
        match &mut self.kind {
            Kind::Regular { file, size_bytes, read_bytes } => {
                let (file, declared_bytes, from) = (Arc::clone(file), *size_bytes, *read_bytes);
                let (mut digest, name) = (self.digest.clone(), self.name.clone());
                // Read and digested on the same thread, while the bytes are in its cache.
                let work = move || {
                    let content = read_regular(&file, &name, from, declared_bytes)?;
                    digest.update(&content);
                    Ok((crc32c::crc32c(&content), content, digest))
                };
                let done = spawn_blocking(work).await;
                let (crc32c, content, digest) = done.unwrap_or_else(|panic| {
                    Err(Error::io(format!("cannot read {}", self.name))(io::Error::other(panic)))
                })?;
                self.digest = digest;
                *read_bytes += content.len() as u64;
                Ok(Chunk { content, crc32c, is_last: *read_bytes == declared_bytes })
            }
            Kind::Stream(reader) => {
                let (content, is_last) =
                    read_stream(reader).await.map_err(Error::io(format!("cannot read {}", self.name)))?;
                self.digest.update(&content);
                Ok(Chunk { crc32c: crc32c::crc32c(&content), content, is_last })
            }
        }
    }
}

/// The next bytes of a file that had `declared_bytes` when it was opened: a full message, or all that is left.
fn read_regular(file: &fs::File, name: &str, from: u64, declared_bytes: u64) -> Result<Bytes> {
    let left = usize::try_from(declared_bytes - from).unwrap_or(usize::MAX);
    let wanted = left.min(BEST_DATA_BYTES);
    let is_end = wanted == left;
    // At the end there is room for one byte more, to see whether the file has grown.
    let mut content = Vec::with_capacity(wanted + usize::from(is_end));
    loop {
        let at = from + content.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut content), at) {
            Ok(_) if content.len() >= wanted => break,
            Ok(0) => return Err(Error::SourceChanged { declared_bytes, grew: false }),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io(format!("cannot read {name}"))(errno.into())),
        }
    }
    if is_end && content.len() > wanted {
        return Err(Error::SourceChanged { declared_bytes, grew: true });
    }
    // The allocator may have given more room than asked for.
    content.truncate(wanted);
    Ok(content.into())
}

/// A full message of what a reader gives, or what came before it paused or ended; and whether it ended.
async fn read_stream(reader: &mut Pin<Box<dyn AsyncRead + Send>>) -> io::Result<(Bytes, bool)> {
    let mut content = BytesMut::with_capacity(BEST_DATA_BYTES);
    while content.len() < BEST_DATA_BYTES {
        let room = BEST_DATA_BYTES - content.len();
        match timeout(PAUSE, reader.read_buf(&mut (&mut content).limit(room))).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok((content.freeze(), true));
                }
            }
            Err(_) => break,
        }
    }
    Ok((content.freeze(), false))
}

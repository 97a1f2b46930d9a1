//! Where the bytes of an upload come from.

mod replay;

use crate::{Error, Result};
use bytes::Bytes;
use coffer_proto::BEST_DATA_BYTES;
use replay::Replay;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::{fs, io, path::Path, sync::Arc};
use tokio::{io::AsyncRead, task::spawn_blocking};

/// The bytes of one message.
pub(super) struct Chunk {
    /// Up to 256 KiB; may be empty when nothing is ready, or at the end.
    pub(super) content: Bytes,
    pub(super) crc32c: u32,
    /// Nothing comes after it.
    pub(super) is_last: bool,
}

/// Bytes that can be read again from an earlier offset, with a running SHA-256 that takes each byte once.
pub(super) struct Source {
    kind: Kind,
    /// For messages about it.
    name: String,
    hashed: Hashed,
}

enum Kind {
    /// A file of known size, read on blocking threads.
    Regular {
        file: Arc<fs::File>,
        size_bytes: u64,
    },
    Stream(Replay),
}

/// The SHA-256 of the first bytes.
#[derive(Clone)]
struct Hashed {
    digest: Sha256,
    bytes: u64,
}

impl Hashed {
    /// Takes what is new in `content`, which begins at `offset`, not past what was taken.
    fn take(&mut self, offset: u64, content: &[u8]) {
        let known = usize::try_from(self.bytes - offset).unwrap_or(usize::MAX);
        if let Some(new) = content.get(known..) {
            self.digest.update(new);
            self.bytes += new.len() as u64;
        }
    }
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
            Kind::Regular { file: Arc::new(file), size_bytes: metadata.len() }
        } else {
            Kind::Stream(Replay::new(tokio::fs::File::from_std(file)))
        };
        Ok(Self::new(kind, name))
    }

    pub(super) fn stream(reader: impl AsyncRead + Send + 'static) -> Self {
        Self::new(Kind::Stream(Replay::new(reader)), "the content".to_owned())
    }

    fn new(kind: Kind, name: String) -> Self {
        Self { kind, name, hashed: Hashed { digest: Sha256::new(), bytes: 0 } }
    }

    /// Bytes there will be, where that is known: for files that another process could open again.
    pub(super) fn declared_bytes(&self) -> Option<u64> {
        match self.kind {
            Kind::Regular { size_bytes, .. } => Some(size_bytes),
            Kind::Stream(_) => None,
        }
    }

    /// SHA-256 of all that was read.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.hashed.digest.clone().finalize().into()
    }

    /// The bytes at `offset`, which lies in what was read, at its end, or where [`skip_to`](Self::skip_to) has led. Not to be
    /// called past the last chunk. Dropped before the end it has taken nothing.
    pub(super) async fn at(&mut self, offset: u64) -> Result<Chunk> {
        match &mut self.kind {
            Kind::Regular { file, size_bytes } => {
                let (file, declared_bytes) = (Arc::clone(file), *size_bytes);
                let (mut hashed, name) = (self.hashed.clone(), self.name.clone());
                // Read and digested on the same thread, while the bytes are in its cache.
                let work = move || {
                    let content = read_regular(&file, &name, offset, declared_bytes)?;
                    hashed.take(offset, &content);
                    Ok((crc32c::crc32c(&content), content, hashed))
                };
                let done = spawn_blocking(work).await;
                let (crc32c, content, hashed) = done.unwrap_or_else(|panic| {
                    Err(Error::io(format!("cannot read {}", self.name))(io::Error::other(panic)))
                })?;
                self.hashed = hashed;
                let is_last = offset + content.len() as u64 == declared_bytes;
                Ok(Chunk { content, crc32c, is_last })
            }
            Kind::Stream(replay) => {
                let (content, is_last) =
                    replay.at(offset).await.map_err(Error::io(format!("cannot read {}", self.name)))?;
                self.hashed.take(offset, &content);
                Ok(Chunk { crc32c: crc32c::crc32c(&content), content, is_last })
            }
        }
    }

    /// Reads and digests what comes before `offset` without handing it out. Answers where it got to: before `offset` only if
    /// that is the end.
    pub(super) async fn skip_to(&mut self, offset: u64) -> Result<u64> {
        while self.hashed.bytes < offset {
            let chunk = self.at(self.hashed.bytes).await?;
            // What nobody will ask for again must not fill the buffer of a stream.
            self.forget(self.hashed.bytes.min(offset));
            if chunk.is_last {
                break;
            }
        }
        Ok(offset.min(self.hashed.bytes))
    }

    /// Bytes before `offset` will not be asked for again.
    pub(super) fn forget(&mut self, offset: u64) {
        if let Kind::Stream(replay) = &mut self.kind {
            replay.forget(offset);
        }
    }

    /// No more can be read at `offset` until earlier bytes are forgotten.
    pub(super) fn is_full(&self, offset: u64) -> bool {
        match &self.kind {
            Kind::Regular { .. } => false,
            Kind::Stream(replay) => replay.is_full(offset),
        }
    }

    /// Makes room for more though nobody has said that what was kept is not needed again.
    pub(super) fn let_go(&mut self) {
        if let Kind::Stream(replay) = &mut self.kind {
            replay.let_go();
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

#[cfg(test)]
mod tests;

//! Downloads into a file or a writer.

mod part_file;

use crate::{Client, Content, Error, Progress, Result, v1};
use bytes::Bytes;
use part_file::PartFile;
use std::{
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
};
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes gathered before a blocking job writes them: fewer, larger jobs while the next messages come in.
const BATCH_BYTES: usize = 1024 * 1024;

/// Where a download goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This file. One that exists is replaced, its symbolic links followed.
    File(PathBuf),
    /// A file in this directory, named as the service says.
    Directory {
        /// It must exist.
        path: PathBuf,
        /// A file of that name may be replaced. The service chooses the name, so this is a matter of trust.
        replace: bool,
    },
}

/// A finished download.
#[derive(Clone, Debug, PartialEq)]
pub struct Downloaded {
    /// The file that was read. Size, checksums and version are those of the version that was read.
    pub file: v1::File,
    /// Where it is now: the path that was asked for, or the directory's and the name from the service.
    pub path: PathBuf,
    /// Bytes written: those of the range that was asked for.
    pub written_bytes: u64,
    /// How often the read was begun or taken up again: 1 if nothing went wrong.
    pub attempts: u32,
}

impl Client {
    /// Downloads a content or a range of it to a file. The bytes gather in `NAME.part` beside the destination; verified and
    /// durable, they take their final name. On any error, and shortly after the future was dropped, the part file is
    /// removed and what was at the destination stays.
    ///
    /// # Errors
    /// Those of [`Content::next_chunk`]; [`Error::Exists`], [`Error::Busy`], [`Error::Destination`] and [`Error::Io`] for
    /// the destination.
    pub async fn download_file(
        &self,
        request: v1::ReadFileRequest,
        destination: Destination,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<Downloaded> {
        let content = self.read(request).await?;
        receive_file(content, destination, progress).await
    }

    /// Downloads a content or a range of it into a writer, which is used on blocking threads and flushed at the end. On an
    /// error the writer may already have taken a part.
    ///
    /// # Errors
    /// Those of [`Content::next_chunk`]; [`Error::Io`] for the writer.
    pub async fn download(
        &self,
        request: v1::ReadFileRequest,
        sink: impl Write + Send + 'static,
        progress: impl FnMut(Progress) + Send,
    ) -> Result<v1::File> {
        let mut content = self.read(request).await?;
        receive(&mut content, sink, progress).await?;
        Ok(content.file().clone())
    }
}

/// Writes a content to its destination, all or nothing.
async fn receive_file(
    mut content: Content,
    destination: Destination,
    progress: impl FnMut(Progress) + Send,
) -> Result<Downloaded> {
    let (path, replace) = match destination {
        Destination::File(path) => (path, true),
        Destination::Directory { path, replace } => {
            (path.join(safe_name(&content.file().filename)?), replace)
        }
    };
    let wanted = path.clone();
    let part = blocking(move || PartFile::create(&wanted, replace)).await?;
    let part = receive(&mut content, part, progress).await?;
    blocking(move || part.publish()).await?;
    let (written_bytes, attempts) = (content.length(), content.progress().attempts);
    Ok(Downloaded { file: content.file().clone(), path, written_bytes, attempts })
}

/// Writes a content to `sink` and gives it back when all came and is right.
async fn receive<W: Write + Send + 'static>(
    content: &mut Content,
    sink: W,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<W> {
    let mut writer = Writer::Idle(sink);
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    progress(content.progress());
    loop {
        let chunk = match content.next_chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => {
                // The batch under way holds the sink: without this wait a part file would outlive the call.
                drop(writer.settle().await);
                return Err(error);
            }
        };
        batch_bytes += chunk.len();
        batch.push(chunk);
        if batch_bytes >= BATCH_BYTES {
            writer = writer.start(mem::take(&mut batch)).await?;
            batch_bytes = 0;
        }
        progress(content.progress());
    }
    writer.start(batch).await?.finish().await
}

/// A writer with at most one batch under way on a blocking thread.
enum Writer<W> {
    Idle(W),
    Busy(JoinHandle<io::Result<W>>),
}

impl<W: Write + Send + 'static> Writer<W> {
    /// Waits for the batch under way and starts the next.
    async fn start(self, batch: Vec<Bytes>) -> Result<Self> {
        let mut sink = self.settle().await?;
        Ok(Self::Busy(spawn_blocking(move || {
            batch.iter().try_for_each(|chunk| sink.write_all(chunk))?;
            Ok(sink)
        })))
    }

    async fn finish(self) -> Result<W> {
        let mut sink = self.settle().await?;
        let flush = move || sink.flush().map(|()| sink);
        blocking(move || flush().map_err(Error::io("cannot write"))).await
    }

    async fn settle(self) -> Result<W> {
        let written = match self {
            Self::Idle(sink) => return Ok(sink),
            Self::Busy(job) => job.await.unwrap_or_else(|panic| Err(io::Error::other(panic))),
        };
        written.map_err(Error::io("cannot write"))
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|panic| Err(Error::io("cannot write")(io::Error::other(panic))))
}

/// The file's name, if it is safe to make a file of that name: a plain name in the directory, without characters that
/// could deceive a terminal.
fn safe_name(filename: &str) -> Result<&Path> {
    let is_plain = !matches!(filename, "" | "." | "..");
    if is_plain && !filename.chars().any(|c| c == '/' || c == '\\' || c.is_control()) {
        return Ok(Path::new(filename));
    }
    Err(Error::Destination(format!("the file's name {filename:?} cannot be used here: name the destination")))
}

#[cfg(test)]
mod tests;

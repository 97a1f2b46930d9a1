//! A bare server for the same messages: what the transport, the checksums and the disk take, and nothing else. No database, no
//! authentication, no quotas, no audit trail: the part of cofferd's time that its promises cost is what it takes beyond this.
//!
//! Prints its address when it listens.

use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser;
use coffer_proto::{
    BEST_DATA_BYTES,
    v1::{
        self, ChecksummedData, ReadFileRequest, ReadFileResponse, ReadMetadata, WriteFileRequest,
        WriteFileResponse, file_reference::By, transfer_service_server, write_file_request::FirstMessage,
    },
};
use data_encoding::HEXLOWER;
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use rustix::{fd::AsRawFd as _, fs::FallocateFlags};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::Arc,
};
use tokio::{net::TcpListener, task::spawn_blocking};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

/// As in cofferd.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that one job hashes and writes, while the next ones are received.
const BATCH_BYTES: usize = 1024 * 1024;
/// How many bytes are written before the kernel is told to put them on the disk.
const WRITEBACK_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Parser)]
struct Options {
    /// Where the files go.
    #[arg(long)]
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { dir } = Options::parse();
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    let service = transfer_service_server::TransferServiceServer::new(Bare { dir })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .max_frame_size(MAX_FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .context("cannot serve")
}

struct Bare {
    dir: PathBuf,
}

impl Bare {
    fn place(&self, path: &str) -> PathBuf {
        self.dir.join(path.replace('/', "_"))
    }
}

#[tonic::async_trait]
impl transfer_service_server::TransferService for Bare {
    async fn write_file(
        &self,
        request: Request<Streaming<WriteFileRequest>>,
    ) -> Result<Response<WriteFileResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(FirstMessage::Spec(spec)) = messages.message().await?.and_then(|first| first.first_message)
        else {
            return Err(Status::invalid_argument("the first message names the file"));
        };
        let (dir, place, declared) = (self.dir.clone(), self.place(&spec.path), spec.size_bytes);
        let create = move || {
            let file = File::options().read(true).write(true).create_new(true).open(place)?;
            if let Some(size) = declared.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0) {
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size)?;
            }
            Ok(Writing { file, digest: Sha256::new(), crc32c: 0, written: 0, started: 0 })
        };
        let mut job = spawn_blocking(create);
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        while let Some(message) = messages.message().await? {
            let Some(ChecksummedData { content, crc32c }) = message.data else { continue };
            let found = crc32c::crc32c(&content);
            if crc32c.is_some_and(|said| said != found) {
                return Err(Status::invalid_argument("CRC-32C"));
            }
            batch_bytes += content.len();
            batch.push((content, found));
            if batch_bytes >= BATCH_BYTES {
                let (writing, batch) = (done(job).await?, std::mem::take(&mut batch));
                job = spawn_blocking(move || writing.write(&batch));
                batch_bytes = 0;
            }
        }
        let writing = done(job).await?;
        let file = done(spawn_blocking(move || writing.write(&batch)?.finish(&dir))).await?;
        let persisted_size = file.size_bytes;
        Ok(Response::new(WriteFileResponse {
            file: Some(v1::File { path: spec.path, ..file }),
            persisted_size,
        }))
    }

    type ReadFileStream = BoxStream<'static, Result<ReadFileResponse, Status>>;

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let Some(By::Path(path)) = request.into_inner().file.and_then(|file| file.by) else {
            return Err(Status::invalid_argument("a file is named by its path"));
        };
        let place = self.place(&path.path);
        let open = move || {
            let file = File::open(place)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) = done(spawn_blocking(open)).await?;
        let about = v1::File { path: path.path, size_bytes: size as i64, ..Default::default() };
        let metadata = ReadMetadata { file: Some(about), offset: 0, length: size as i64 };
        let first = ReadFileResponse { metadata: Some(metadata), ..Default::default() };
        Ok(Response::new(stream::iter([Ok(first)]).chain(pieces(Arc::new(file), size)).boxed()))
    }

    async fn start_upload(
        &self,
        _: Request<v1::StartUploadRequest>,
    ) -> Result<Response<v1::StartUploadResponse>, Status> {
        Err(not_here())
    }

    type BidiWriteFileStream = BoxStream<'static, Result<v1::BidiWriteFileResponse, Status>>;

    async fn bidi_write_file(
        &self,
        _: Request<Streaming<v1::BidiWriteFileRequest>>,
    ) -> Result<Response<Self::BidiWriteFileStream>, Status> {
        Err(not_here())
    }

    async fn get_upload(
        &self,
        _: Request<v1::GetUploadRequest>,
    ) -> Result<Response<v1::GetUploadResponse>, Status> {
        Err(not_here())
    }

    async fn list_uploads(
        &self,
        _: Request<v1::ListUploadsRequest>,
    ) -> Result<Response<v1::ListUploadsResponse>, Status> {
        Err(not_here())
    }

    async fn cancel_upload(
        &self,
        _: Request<v1::CancelUploadRequest>,
    ) -> Result<Response<v1::CancelUploadResponse>, Status> {
        Err(not_here())
    }
}

fn not_here() -> Status {
    Status::unimplemented("a bare server writes and reads, each in one stream")
}

/// A file that is being written.
struct Writing {
    file: File,
    digest: Sha256,
    crc32c: u32,
    written: u64,
    started: u64,
}

impl Writing {
    fn write(mut self, batch: &[(Bytes, u32)]) -> io::Result<Self> {
        for (content, crc32c) in batch {
            self.digest.update(content);
            self.crc32c = crc32c::crc32c_combine(self.crc32c, *crc32c, content.len());
            self.file.write_all_at(content, self.written)?;
            self.written += content.len() as u64;
        }
        if self.written - self.started >= WRITEBACK_BYTES {
            start_writeback(&self.file, self.started, self.written);
            self.started = self.written;
        }
        Ok(self)
    }

    /// Durable, with its name.
    fn finish(self, dir: &std::path::Path) -> io::Result<v1::File> {
        self.file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(v1::File {
            size_bytes: self.written as i64,
            sha256: HEXLOWER.encode(&self.digest.finalize()),
            crc32c: self.crc32c,
            ..Default::default()
        })
    }
}

/// Lets the kernel begin, without waiting for it. The sync at the end answers for what comes of it.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
fn start_writeback(file: &File, from: u64, to: u64) {
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call reads and writes no memory of ours.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// The messages of a content, read one ahead.
fn pieces(
    file: Arc<File>,
    size: u64,
) -> impl Stream<Item = Result<ReadFileResponse, Status>> + Send + 'static {
    let read = move |offset: u64| {
        let file = Arc::clone(&file);
        spawn_blocking(move || read_piece(&file, offset, size))
    };
    let first = read(0);
    stream::try_unfold((0, first), move |(offset, reading)| {
        let read = read.clone();
        async move {
            let content = done(reading).await?;
            if content.is_empty() {
                return Ok(None);
            }
            let next = offset + content.len() as u64;
            let reading = read(next);
            let data = ChecksummedData { crc32c: Some(crc32c::crc32c(&content)), content };
            let message = ReadFileResponse { metadata: None, read_offset: offset as i64, data: Some(data) };
            Ok(Some((message, (next, reading))))
        }
    })
}

fn read_piece(file: &File, offset: u64, size: u64) -> io::Result<Bytes> {
    let wanted = size.saturating_sub(offset).min(BEST_DATA_BYTES as u64) as usize;
    let mut piece = Vec::with_capacity(wanted);
    while piece.len() < wanted {
        let at = offset + piece.len() as u64;
        if rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), at)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    piece.truncate(wanted);
    Ok(piece.into())
}

async fn done<T>(job: tokio::task::JoinHandle<io::Result<T>>) -> Result<T, Status> {
    let outcome = job.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    outcome.map_err(|error| Status::internal(error.to_string()))
}

//! A client that does no more than the messages need, for any server that speaks them: what is measured with it differs only in the
//! server. Prints the seconds from the first message to the last answer; the connection is there before.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use coffer_proto::{
    BEST_DATA_BYTES,
    v1::{
        ChecksummedData, FileReference, PathReference, ReadFileRequest, UploadSpec, WriteFileRequest,
        file_reference::By, transfer_service_client::TransferServiceClient, write_file_request::FirstMessage,
    },
};
use data_encoding::HEXLOWER;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

/// As in the client library.
const FRAME_BYTES: u32 = 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

#[derive(Parser)]
struct Options {
    /// `host:port`.
    #[arg(long)]
    addr: String,
    /// Name of the file.
    #[arg(long)]
    path: String,
    #[arg(long)]
    size_mib: u64,
    /// Sent with the call where the environment has one.
    #[arg(long, env = "COFFER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Uploads, and compares the answered SHA-256 with that of what was sent.
    Put,
    /// Downloads, with each message's CRC-32C compared.
    Get {
        /// Compare every byte with what `put` sends as well.
        #[arg(long)]
        check: bool,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let endpoint = Endpoint::from_shared(format!("http://{}", options.addr))?
        .tcp_nodelay(true)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let client = TransferServiceClient::new(endpoint.connect().await.context("cannot connect")?);
    let took = match options.verb {
        Verb::Put => put(client, &options).await?,
        Verb::Get { check } => get(client, &options, check).await?,
    };
    println!("{}", took.as_secs_f64());
    Ok(())
}

/// The content: this block over and over, which fits into no cache.
fn block() -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(8 * MIB as usize).flatten().collect::<Vec<u8>>().into()
}

/// Messages' worth of bytes at an offset.
fn piece(block: &Bytes, offset: u64) -> Bytes {
    let begin = (offset % block.len() as u64) as usize;
    block.slice(begin..begin + BEST_DATA_BYTES)
}

async fn put(mut client: TransferServiceClient<Channel>, options: &Options) -> anyhow::Result<Duration> {
    let (block, size) = (block(), options.size_mib * MIB);
    let spec =
        UploadSpec { path: options.path.clone(), size_bytes: Some(size as i64), ..UploadSpec::default() };
    let first =
        WriteFileRequest { first_message: Some(FirstMessage::Spec(spec)), ..WriteFileRequest::default() };
    let content = block.clone();
    let pieces = (0..size / BEST_DATA_BYTES as u64).map(move |n| {
        let offset = n * BEST_DATA_BYTES as u64;
        let content = piece(&content, offset);
        let data = ChecksummedData { crc32c: Some(crc32c::crc32c(&content)), content };
        WriteFileRequest { write_offset: offset as i64, data: Some(data), ..WriteFileRequest::default() }
    });
    let last = WriteFileRequest { write_offset: size as i64, finish: true, ..WriteFileRequest::default() };
    let messages = std::iter::once(first).chain(pieces).chain([last]);
    let request = authorised(stream::iter(messages), options)?;
    let since = Instant::now();
    let file = client.write_file(request).await?.into_inner().file.context("no file was answered")?;
    let took = since.elapsed();
    let mut digest = Sha256::new();
    (0..size / BEST_DATA_BYTES as u64).for_each(|n| digest.update(piece(&block, n * BEST_DATA_BYTES as u64)));
    ensure!(file.sha256 == HEXLOWER.encode(&digest.finalize()), "something else was stored");
    Ok(took)
}

async fn get(
    mut client: TransferServiceClient<Channel>,
    options: &Options,
    check: bool,
) -> anyhow::Result<Duration> {
    let block = block();
    let path = PathReference { volume: String::new(), path: options.path.clone() };
    let file = Some(FileReference { by: Some(By::Path(path)) });
    let request = authorised(ReadFileRequest { file, ..ReadFileRequest::default() }, options)?;
    let since = Instant::now();
    let mut messages = client.read_file(request).await?.into_inner();
    let mut offset = 0;
    while let Some(message) = messages.message().await? {
        let Some(ChecksummedData { content, crc32c }) = message.data else { continue };
        ensure!(
            crc32c == Some(crc32c::crc32c(&content)),
            "the bytes at {offset} are not those that were sent"
        );
        if check {
            let begin = (offset % block.len() as u64) as usize;
            let (here, around) = content.split_at(content.len().min(block.len() - begin));
            let is_same = here == &block[begin..begin + here.len()] && around == &block[..around.len()];
            ensure!(is_same, "the bytes at {offset} are others");
        }
        offset += content.len() as u64;
    }
    let took = since.elapsed();
    ensure!(offset == options.size_mib * MIB, "{offset} bytes came");
    Ok(took)
}

fn authorised<T>(message: T, options: &Options) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = &options.token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}

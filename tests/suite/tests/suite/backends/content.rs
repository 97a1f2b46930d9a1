//! Contents that are made as they are sent, so that they may be larger than memory.

use bytes::Bytes;
use coffer_proto::v1;
use coffer_tests::{
    dice::Dice,
    grpc::{Clients, by_id, finish},
};
use sha2::{Digest as _, Sha256};
use std::{fs::File, io::Write as _, path::Path};

/// Bytes in a message.
const PIECE_BYTES: u64 = 256 * 1024;
const PAGE_BYTES: usize = 4096;

/// So many bytes of a seed, no two pages of which are alike.
#[derive(Clone)]
pub(super) struct Content {
    block: Bytes,
    size: u64,
}

impl Content {
    pub(super) fn new(seed: u64, size: u64) -> Self {
        let mut block = vec![0; PIECE_BYTES as usize];
        Dice::new(seed).fill(&mut block);
        Self { block: block.into(), size }
    }

    /// How many messages it takes.
    pub(super) fn count(&self) -> u64 {
        self.size.div_ceil(PIECE_BYTES)
    }

    fn piece(&self, number: u64) -> Bytes {
        let mut bytes = self.block.to_vec();
        for (page, bytes) in (number * PIECE_BYTES / PAGE_BYTES as u64..).zip(bytes.chunks_mut(PAGE_BYTES)) {
            bytes[..8].copy_from_slice(&page.to_le_bytes());
        }
        bytes.truncate((self.size - number * PIECE_BYTES).min(PIECE_BYTES) as usize);
        bytes.into()
    }

    /// All of it.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Bytes> + Send + use<> {
        let content = self.clone();
        (0..self.count()).map(move |number| content.piece(number))
    }

    /// From this byte on.
    pub(super) fn from(&self, offset: u64) -> Vec<u8> {
        let first = offset / PIECE_BYTES;
        let pieces: Vec<_> = (first..self.count()).map(|number| self.piece(number)).collect();
        pieces.concat()[(offset - first * PIECE_BYTES) as usize..].to_vec()
    }

    pub(super) fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        self.pieces().for_each(|piece| digest.update(&piece));
        data_encoding::HEXLOWER.encode(&digest.finalize())
    }

    pub(super) fn write_to(&self, path: &Path) {
        let mut file = File::create(path).unwrap();
        self.pieces().for_each(|piece| file.write_all(&piece).unwrap());
        file.sync_all().unwrap();
    }

    /// The messages after the first, without the end of the stream.
    pub(super) fn messages(&self) -> impl Iterator<Item = v1::WriteFileRequest> + Send + use<> {
        self.pieces().zip(0..).map(|(content, number)| {
            let data = v1::ChecksummedData { crc32c: Some(crc32c::crc32c(&content)), content };
            let write_offset = (number * PIECE_BYTES) as i64;
            v1::WriteFileRequest { write_offset, data: Some(data), ..Default::default() }
        })
    }

    /// The last message.
    pub(super) fn end(&self) -> v1::WriteFileRequest {
        finish(self.size as i64)
    }
}

/// The SHA-256 of what a file reads as, and its size.
pub(super) async fn digest_of(clients: &Clients, id: &str) -> (String, u64) {
    let request = v1::ReadFileRequest { file: by_id(id), ..Default::default() };
    let mut stream = clients.transfers.clone().read_file(request).await.unwrap().into_inner();
    let (mut digest, mut size) = (Sha256::new(), 0);
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(data) = message.data {
            digest.update(&data.content);
            size += data.content.len() as u64;
        }
    }
    (data_encoding::HEXLOWER.encode(&digest.finalize()), size)
}

#![doc = include_str!("../README.md")]

mod call;
mod client;
mod content;
mod download;
mod error;
mod files;
mod operations;
mod options;
mod pages;
mod quotas;
mod reference;
mod upload;
mod volumes;

pub use client::Client;
pub use coffer_proto::v1;
pub use content::Content;
pub use download::{Destination, Downloaded};
pub use error::{Corruption, Error, FieldViolation, QuotaViolation, Refusal, Result};
pub use options::{Options, Timeouts};
pub use reference::{InvalidReference, file_by_id, file_by_name, file_by_path, parse_reference};
pub use tonic::Code;

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes handed to the transport (uploads) or received and verified (downloads) so far.
    pub done_bytes: u64,
    /// Bytes there will be; `None` for an upload from a stream of unknown length.
    pub total_bytes: Option<u64>,
}

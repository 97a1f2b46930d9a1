#![doc = include_str!("../README.md")]

mod call;
mod client;
mod content;
mod download;
mod endpoints;
mod error;
mod files;
mod operations;
mod options;
mod pages;
mod quotas;
mod reference;
mod retry;
mod tls;
mod upload;
mod uploads;
mod volumes;

pub use client::Client;
pub use coffer_proto::v1;
pub use content::Content;
pub use download::{Destination, Downloaded};
pub use error::{Corruption, Error, FieldViolation, QuotaViolation, Refusal, Result};
pub use options::{Options, Timeouts};
pub use reference::{InvalidReference, file_by_id, file_by_name, file_by_path, parse_reference};
pub use tls::Tls;
pub use tonic::Code;
pub use upload::Uploaded;

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How much of the content was handed to the transport (uploads) or received and verified (downloads) so far. It goes back
    /// when an upload has to send something again.
    pub done_bytes: u64,
    /// Bytes there will be; `None` for an upload from a stream of unknown length.
    pub total_bytes: Option<u64>,
    /// How often the transfer was begun or taken up again.
    pub attempts: u32,
}

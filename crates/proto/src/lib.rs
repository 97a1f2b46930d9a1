#![doc = include_str!("../README.md")]

/// Package `coffer.v1`: messages, clients and servers, documented in `proto/coffer/v1`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated; which of these occur is the generator's matter"
    )]
    tonic::include_proto!("coffer.v1");
}

/// The compiled descriptors of the whole contract, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `ErrorInfo.domain` of every error of this contract.
pub const ERROR_DOMAIN: &str = "coffer.v1";

/// Most bytes of data a single message may carry.
pub const MAX_DATA_BYTES: usize = 2 * 1024 * 1024;

/// Data bytes per message that transfer fastest.
pub const BEST_DATA_BYTES: usize = 256 * 1024;

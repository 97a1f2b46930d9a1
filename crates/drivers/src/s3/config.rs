//! Where a bucket is, and how it is spoken to.

use crate::wire::Options;
use coffer_domain::{budget::Budget, secret::Secret};
use std::fmt;

/// Smallest part of a multipart upload that S3 takes, but for the last.
pub const LEAST_PART_BYTES: u64 = 5 * 1024 * 1024;

/// A volume in a bucket.
#[derive(Clone)]
pub struct Config {
    /// `https://host[:port]` or `http://host[:port]`, without a path.
    pub endpoint: String,
    /// The name of the region that requests are signed for.
    pub region: String,
    /// The bucket. It has to exist.
    pub bucket: String,
    /// Whether the bucket is part of the host's name instead of the path.
    pub is_virtual_host: bool,
    /// Put before every key: empty, or segments each followed by `/`.
    pub prefix: String,
    /// The id of the key that signs.
    pub access_key: String,
    /// The key's secret.
    pub secret_key: Secret,
    /// How the endpoint is reached.
    pub wire: Options,
    /// Bytes of a part, at least 5 MiB. Larger objects have larger parts.
    pub part_bytes: u64,
    /// Bytes of an object that are copied by one request; larger ones are copied in parts. At least 5 MiB, and at most 5 GiB at S3 itself.
    pub copied_at_once_bytes: u64,
    /// Memory for parts that are gathered and under way, one for the process.
    pub budget: Budget,
}

impl Config {
    /// A bucket with the usual settings.
    pub fn new(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        access_key: impl Into<String>,
        secret_key: Secret,
    ) -> Self {
        Self {
            endpoint: endpoint.into(),
            region: "us-east-1".to_owned(),
            bucket: bucket.into(),
            is_virtual_host: false,
            prefix: String::new(),
            access_key: access_key.into(),
            secret_key,
            wire: Options::default(),
            part_bytes: 8 * 1024 * 1024,
            copied_at_once_bytes: 5 * 1024 * 1024 * 1024,
            budget: Budget::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_shown_without_its_secret() {
        let config = Config::new("http://host", "bucket", "key", Secret::new("swordfish"));
        assert!(!format!("{config:?} {config:#?}").contains("swordfish"));
    }
}

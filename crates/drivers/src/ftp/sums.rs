//! Sums of files that some servers tell (no standard has them): what was stored is then known to be what was sent.

use super::{client::Client, session::Session};
use crate::remote::{Failure, insist};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use data_encoding::HEXLOWER_PERMISSIVE;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use suppaftp::Status;

/// How a server is asked for a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sum {
    /// By `XMD5`.
    Md5,
    /// By `XSHA256`.
    Sha256,
    /// By `HASH`, after having been told which.
    Hash,
}

impl Sum {
    /// The one that a feature offers.
    pub(super) fn of_feature(name: &str, value: Option<&str>) -> Option<Self> {
        match name {
            "HASH" => value?.to_ascii_uppercase().contains("SHA-256").then_some(Self::Hash),
            "XSHA256" => Some(Self::Sha256),
            "XMD5" => Some(Self::Md5),
            _ => None,
        }
    }

    /// The sum of nothing yet.
    pub(super) fn begin(self) -> Running {
        match self {
            Self::Md5 => Running::Md5(Md5::new()),
            Self::Sha256 | Self::Hash => Running::Sha256(Sha256::new()),
        }
    }
}

/// A sum of what has come so far.
#[derive(Clone)]
pub(super) enum Running {
    Md5(Md5),
    Sha256(Sha256),
}

impl Running {
    pub(super) fn add(&mut self, piece: &Bytes) {
        match self {
            Self::Md5(sum) => sum.update(piece),
            Self::Sha256(sum) => sum.update(piece),
        }
    }

    fn end(self) -> Vec<u8> {
        match self {
            Self::Md5(sum) => sum.finalize().to_vec(),
            Self::Sha256(sum) => sum.finalize().to_vec(),
        }
    }
}

impl Client {
    /// Fails if the server's sum of a file is another. One that it does not tell is none.
    pub(super) async fn verify(
        &self,
        name: &str,
        sum: Sum,
        expected: Running,
        size: u64,
    ) -> Result<(), Failure> {
        let path = self.path(name);
        if path.contains(' ') {
            // Servers differ in how such a name is told from the ranges that may follow it.
            return Ok(());
        }
        let told = insist(|| async { self.lease().await?.sum(sum, &path, size).await }).await;
        let expected = expected.end();
        match told {
            Ok(told) if told == expected => Ok(()),
            Ok(_) => Err(Failure::wrong(ErrorKind::BadAnswer, "what was stored is not what was sent")),
            // It has it for some files only: too large, as a rule.
            Err(failure) if failure.status().is_some_and(|status| status >= 500) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

impl Session {
    async fn sum(&mut self, sum: Sum, path: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let (verb, length) = match sum {
            Sum::Md5 => ("XMD5", 16),
            Sum::Sha256 => ("XSHA256", 32),
            Sum::Hash => {
                self.ask("OPTS", "HASH SHA-256", &[Status::CommandOk]).await?;
                ("HASH", 32)
            }
        };
        let expected = [Status::RequestedFileActionOk, Status::File, Status::CommandOk];
        let usual = self.patience.answer;
        self.patience.answer += crate::remote::time_to_copy(size);
        let reply = self.ask(verb, path, &expected).await;
        self.patience.answer = usual;
        let reply = reply?;
        let sums = reply.body.split(|byte| byte.is_ascii_whitespace());
        let found = sums.filter_map(|word| HEXLOWER_PERMISSIVE.decode(word).ok());
        let mut found = found.filter(|sum| sum.len() == length);
        found.next().ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a sum that is none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_sum_that_is_offered_is_asked_for() {
        let best = |features: &[(&str, Option<&str>)]| {
            features.iter().filter_map(|(name, value)| Sum::of_feature(name, *value)).max()
        };
        assert_eq!(
            best(&[("XMD5", None), ("XSHA256", None), ("HASH", Some("SHA-1*;MD5"))]),
            Some(Sum::Sha256)
        );
        assert_eq!(best(&[("HASH", Some("SHA-1;SHA-256*")), ("XSHA256", None)]), Some(Sum::Hash));
        assert_eq!(best(&[("SIZE", None), ("HASH", None)]), None);
    }
}

//! Sizes as people write them.

use std::str::FromStr;

const PROBLEM: &str = "must be a whole number of bytes or with a unit: 1048576, 10GiB, 10GB";

/// A number of bytes: `1048576`, `10GiB`, `10 GB`. Units with an `i` and bare letters are powers of 1,024, the others of 1,000;
/// their case does not matter.
pub(super) fn bytes(text: &str) -> Result<i64, &'static str> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: i64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        _ => return Err(PROBLEM),
    };
    let number: i64 = number.parse().map_err(|_| PROBLEM)?;
    number.checked_mul(factor).ok_or("is too large")
}

/// A limit: `none`, or what `Self::At` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub(super) Option<i64>);

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { bytes(text).map(|bytes| Self(Some(bytes))) }
    }
}

/// A number of files, or `none`.
pub(super) fn file_count(text: &str) -> Result<Limit, &'static str> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map(|count| Limit(Some(count))).map_err(|_| "must be a number or none"),
        false if text == "none" => Ok(Limit(None)),
        false => Err("must be a number or none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("10G", 10 << 30),
            ("10GB", 10_000_000_000),
            (" 3kB ", 3_000),
            ("7b", 7),
            ("1P", 1 << 50),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in
            ["", "GiB", "-1", "+1", "1.5GiB", "1 X", "10 Gi B", "none", "9999999999999999999", "9000000P"]
        {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!("none".parse(), Ok(Limit(None)));
        assert_eq!("2KiB".parse(), Ok(Limit(Some(2048))));
        assert!("None".parse::<Limit>().is_err());
        assert_eq!(file_count("12"), Ok(Limit(Some(12))));
        assert_eq!(file_count("none"), Ok(Limit(None)));
        for bad in ["", "12K", "-1", "99999999999999999999"] {
            assert!(file_count(bad).is_err(), "{bad}");
        }
    }
}

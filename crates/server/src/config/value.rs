//! Values as they are given, and how they are read.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use coffer_domain::network::{Network, NotANetwork};

/// A value as a layer gives it. Only a file can tell a list from a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
}

impl Value {
    /// One text, for settings that are one.
    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) if text.is_empty() => Err("must not be empty; leave it out instead".to_owned()),
            Self::Text(text) => Ok(text),
            Self::List(_) => Err("must be one value, not a list".to_owned()),
        }
    }

    /// Paths: a list, or one text in which they are separated as in `PATH`.
    pub(super) fn absolute_paths(&self) -> Result<Vec<PathBuf>, String> {
        let paths: Vec<PathBuf> = match self {
            Self::Text(text) => {
                std::env::split_paths(text).filter(|path| !path.as_os_str().is_empty()).collect()
            }
            Self::List(texts) => texts.iter().map(PathBuf::from).collect(),
        };
        match paths.iter().find(|path| !path.is_absolute()) {
            Some(relative) => Err(format!("must hold absolute paths, and {relative:?} is not")),
            None => Ok(paths),
        }
    }

    /// One path that is the same from anywhere.
    pub(super) fn absolute_path(&self) -> Result<PathBuf, String> {
        let path = PathBuf::from(self.text()?);
        if path.is_absolute() { Ok(path) } else { Err(format!("must be an absolute path, not {path:?}")) }
    }

    /// Networks: a list, or one text in which they are separated by commas.
    pub(super) fn networks(&self) -> Result<Vec<Network>, String> {
        let texts: Vec<&str> = match self {
            Self::Text(text) => text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect(),
            Self::List(texts) => texts.iter().map(String::as_str).collect(),
        };
        let read =
            |text: &str| text.parse().map_err(|problem: NotANetwork| format!("{problem}; {text:?} is none"));
        texts.into_iter().map(read).collect()
    }

    /// One value of `T`, described by `what` to whoever gave something else.
    pub(super) fn parse<T: FromStr>(&self, what: &str) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("must be {what}, not {text:?}"))
    }

    /// A number within limits.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(&self, least: T, most: T) -> Result<T, String> {
        let text = self.text()?;
        match text.parse() {
            Ok(number) if least <= number && number <= most => Ok(number),
            _ => Err(format!("must be a number from {least} to {most}, not {text:?}")),
        }
    }

    /// A number of bytes, with or without a unit, within limits.
    pub(super) fn size(&self, least: usize, most: usize) -> Result<usize, String> {
        let text = self.text()?;
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes);
        let bytes =
            digits.parse().ok().zip(unit).and_then(|(number, unit): (usize, usize)| number.checked_mul(unit));
        match bytes {
            Some(bytes) if least <= bytes && bytes <= most => Ok(bytes),
            Some(_) => Err(format!("must be from {} to {}, not {text}", size(least), size(most))),
            None => {
                Err(format!("must be a number of bytes, such as 65536, 64KiB, 96MiB or 1GiB, not {text:?}"))
            }
        }
    }

    /// A duration with its unit, within limits.
    pub(super) fn duration(&self, least: Duration, most: Duration) -> Result<Duration, String> {
        let text = self.text()?;
        match humantime::parse_duration(text) {
            Ok(duration) if least <= duration && duration <= most => Ok(duration),
            Ok(_) => Err(format!("must be from {} to {}, not {text}", duration(least), duration(most))),
            Err(_) => Err(format!("must be a duration with its unit, such as 30s, 5m or 24h, not {text:?}")),
        }
    }
}

const UNITS: [(&str, usize); 4] = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A number of bytes in the form it is read in, in the largest unit that needs no fraction.
pub(super) fn size(bytes: usize) -> String {
    let fits = |(_, unit): &&(&str, usize)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / unit)
}

/// A duration in the form it is read in, to the millisecond, in the largest unit that needs no other.
pub(super) fn duration(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.as_millis());
    match (seconds, duration.subsec_millis()) {
        (1.., 0) if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        (1.., 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (_, 0) => format!("{seconds}s"),
        _ => format!("{milliseconds}ms"),
    }
}

/// A setting with a few named values.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn read(value: &value::Value) -> Result<Self, String> {
                match value.text()? {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("must be one of {}, not {other:?}", Self::WORDS.join(", "))),
                }
            }

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
pub(super) use words;

#[cfg(test)]
mod tests {
    use super::{Duration, Value, duration, size};

    fn read(text: &str) -> Result<Duration, String> {
        Value::Text(text.to_owned()).duration(Duration::from_secs(1), Duration::from_secs(172_800))
    }

    #[test]
    fn durations_have_units_and_limits() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("24h", 86_400), ("1h30m", 5_400), ("1500ms", 1)] {
            assert_eq!(read(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "30", "s", "-1s", "soon", "500ms", "3days"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_have_units_and_limits_and_are_shown_as_they_are_read() {
        let read = |text: &str| Value::Text(text.to_owned()).size(1, 5 << 30);
        for (text, bytes, shown) in [
            ("1", 1, "1"),
            ("65536", 65_536, "64KiB"),
            ("96MiB", 96 << 20, "96MiB"),
            ("1536KiB", 1_536 << 10, "1536KiB"),
            ("4GiB", 4 << 30, "4GiB"),
        ] {
            assert_eq!(read(text), Ok(bytes), "{text}");
            assert_eq!(size(bytes), shown);
        }
        for text in [
            "",
            "0",
            "6GiB",
            "MiB",
            "1MB",
            "1 MiB",
            "-1",
            "1.5GiB",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_eq!(size(0), "0");
    }

    #[test]
    fn a_duration_is_shown_as_it_is_read() {
        for text in ["30s", "90m", "24h", "1500ms"] {
            assert_eq!(duration(read(text).unwrap()), text);
        }
    }
}

//! Values as they are given, and how they are read.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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
    use super::{Duration, Value, duration};

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
    fn a_duration_is_shown_as_it_is_read() {
        for text in ["30s", "90m", "24h", "1500ms"] {
            assert_eq!(duration(read(text).unwrap()), text);
        }
    }
}

//! From fields of messages to the domain's types. Everything wrong with a message is collected, so that a caller learns it at once.
//!
//! Here is checked what is the wire's own form: UUIDs, hexadecimal, enumerations, ranges of numbers, times. What a name or a path may
//! be is the domain's to say.

use chrono::{DateTime, Datelike as _};
use coffer_domain::{
    Error, Result,
    error::FieldViolation,
    file::{FileRef, Metadata, Sha256Sum},
    name::{self, is_identifier},
    path::{MAX_PATH_BYTES, is_deceptive},
    time::Timestamp,
    volume::VolumeRef,
};
use coffer_proto::v1::{self, FileReference, PathReference, file_reference::By};
use std::{fmt::Display, str::FromStr};

mod json;

pub(crate) use json::to_struct;

/// Most violations that are collected: no message is worth more.
const MAX_VIOLATIONS: usize = 64;

/// The bad fields of one request.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<FieldViolation>);

impl Fields {
    /// Notes what is wrong with a field.
    pub(crate) fn refuse(&mut self, field: &str, problem: impl Display) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldViolation { field: field.to_owned(), problem: problem.to_string() });
        }
    }

    /// The value, or a note of what is wrong with it.
    pub(crate) fn take<T>(&mut self, field: &str, outcome: Result<T, impl Display>) -> Option<T> {
        outcome.map_err(|problem| self.refuse(field, problem)).ok()
    }

    /// The value, or the violations that the domain found.
    pub(crate) fn absorb<T>(&mut self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(Error::Invalid(violations)) => {
                violations.iter().for_each(|violation| self.refuse(&violation.field, &violation.problem));
                None
            }
            Err(other) => {
                self.refuse("", other);
                None
            }
        }
    }

    /// What was converted, if nothing was wrong.
    pub(crate) fn finish<T>(self, converted: Option<T>) -> Result<T> {
        match converted {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Error::Invalid(self.0)),
        }
    }

    /// An id, which must be there.
    pub(crate) fn id<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        self.take(field, text.parse())
    }

    /// An id; `None` inside if it is empty.
    pub(crate) fn optional_id<T: FromStr<Err: Display>>(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<Option<T>> {
        if text.is_empty() { Some(None) } else { self.id(field, text).map(Some) }
    }

    /// A volume by UUID or name, which must be there.
    pub(crate) fn volume(&mut self, field: &str, text: &str) -> Option<VolumeRef> {
        self.take(field, VolumeRef::parse(text).ok_or("must be a UUID or a volume's name"))
    }

    /// A volume by UUID or name; `None` inside if it is empty.
    pub(crate) fn optional_volume(&mut self, field: &str, text: &str) -> Option<Option<VolumeRef>> {
        if text.is_empty() { Some(None) } else { self.volume(field, text).map(Some) }
    }

    /// The name of an organisation, app or project; `None` inside if it is empty.
    pub(crate) fn optional_identifier(&mut self, field: &str, text: String) -> Option<Option<String>> {
        match text {
            text if text.is_empty() => Some(None),
            text if is_identifier(&text) => Some(Some(text)),
            _ => self.take(field, Err("must be 1 to 100 visible characters without /")),
        }
    }

    /// A file, which must be named. A path is checked under its volume's rules only where those are known; here, that it can be one.
    pub(crate) fn file(&mut self, field: &str, file: Option<FileReference>) -> Option<FileRef> {
        let by = file.and_then(|FileReference { by }| by);
        match by {
            None => self.take(field, Err("must name a file by id, file_id or path")),
            Some(By::Id(id)) => self.id(&format!("{field}.id"), &id).map(FileRef::Id),
            Some(By::FileId(name)) => {
                let is_possible = name.starts_with("file_") && name.len() <= name::MAX_FILE_ID_BYTES;
                let checked = if is_possible { is_plain(&name) } else { name::check_file_id(&name) };
                self.take(&format!("{field}.file_id"), checked)?;
                Some(FileRef::Name(name))
            }
            Some(By::Path(PathReference { volume, path })) => {
                let volume = self.optional_volume(&format!("{field}.path.volume"), &volume);
                let path = self.path_text(&format!("{field}.path.path"), path);
                Some(FileRef::Path { volume: volume?, path: path? })
            }
        }
    }

    /// A file that may be in the trash, where paths name nothing.
    pub(crate) fn file_in_trash(&mut self, field: &str, file: Option<FileReference>) -> Option<FileRef> {
        if matches!(&file, Some(FileReference { by: Some(By::Path(_)) })) {
            return self
                .take(&format!("{field}.path"), Err("a path names live files only; use id or file_id"));
        }
        self.file(field, file)
    }

    fn path_text(&mut self, field: &str, path: String) -> Option<String> {
        if path.is_empty() {
            return self.take(field, Err("must not be empty"));
        }
        self.path_prefix(field, path)
    }

    /// The beginning of a path; may be empty.
    pub(crate) fn path_prefix(&mut self, field: &str, prefix: String) -> Option<String> {
        if prefix.len() > MAX_PATH_BYTES {
            return self.take(field, Err(format!("must have at most {MAX_PATH_BYTES} bytes")));
        }
        if prefix.chars().any(is_deceptive) {
            return self.take(
                field,
                Err("must not contain control, bidirectional-override or zero-width characters"),
            );
        }
        Some(prefix)
    }

    /// A SHA-256; `None` inside if it is empty.
    pub(crate) fn optional_sha256(&mut self, field: &str, text: &str) -> Option<Option<Sha256Sum>> {
        if text.is_empty() {
            return Some(None);
        }
        self.take(field, text.parse().map(Some).map_err(|_| "must be 64 lowercase hexadecimal digits"))
    }

    /// A size or offset.
    pub(crate) fn count(&mut self, field: &str, number: i64) -> Option<u64> {
        self.take(field, u64::try_from(number).map_err(|_| "must not be negative"))
    }

    /// A size that may be left out.
    pub(crate) fn optional_count(&mut self, field: &str, number: Option<i64>) -> Option<Option<u64>> {
        number.map_or(Some(None), |number| self.count(field, number).map(Some))
    }

    /// A time that may be left out; years 1 to 9999, cut to microseconds.
    pub(crate) fn optional_time(
        &mut self,
        field: &str,
        time: Option<prost_types::Timestamp>,
    ) -> Option<Option<Timestamp>> {
        let Some(prost_types::Timestamp { seconds, nanos }) = time else { return Some(None) };
        let moment = u32::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)
            .and_then(|nanos| DateTime::from_timestamp(seconds, nanos / 1_000 * 1_000))
            .filter(|moment| (1..=9999).contains(&moment.year()));
        self.take(field, moment.map(Some).ok_or("must be a time in the years 1 to 9999"))
    }

    /// One of an enumeration's values; `None` inside if it is unspecified.
    pub(crate) fn optional_enum<W, D>(
        &mut self,
        field: &str,
        number: i32,
        domain: impl FnOnce(W) -> Option<D>,
    ) -> Option<Option<D>>
    where
        W: TryFrom<i32>,
    {
        match W::try_from(number) {
            Ok(value) => Some(domain(value)),
            Err(_) => self.take(field, Err(format!("{number} is not one of its values"))),
        }
    }

    /// Custom metadata: an object of finite numbers.
    pub(crate) fn metadata(&mut self, field: &str, object: prost_types::Struct) -> Option<Metadata> {
        self.take(field, json::from_struct(object))
    }

    /// A mask: at least one path, at most `most`, each known and once.
    pub(crate) fn mask(
        &mut self,
        mask: Option<prost_types::FieldMask>,
        known: &[&str],
        most: usize,
    ) -> Option<Vec<String>> {
        let prost_types::FieldMask { paths } = mask.unwrap_or_default();
        let problem = if paths.is_empty() {
            "must name at least one field".to_owned()
        } else if paths.len() > most {
            format!("must name at most {most} fields")
        } else if let Some(unknown) = paths.iter().find(|path| !known.contains(&path.as_str())) {
            format!("{unknown:.64?} cannot be changed; fields are {}", known.join(", "))
        } else if paths.iter().enumerate().any(|(at, path)| paths[..at].contains(path)) {
            "must name each field once".to_owned()
        } else {
            return Some(paths);
        };
        self.take("update_mask", Err(problem))
    }
}

fn is_plain(name: &str) -> Result<(), name::Rule> {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/');
    if name.bytes().all(is_valid) { Ok(()) } else { Err("must be 1 to 255 of A-Z a-z 0-9 . _ - : /") }
}

/// A field that is not named, or one that is and could be converted.
pub(crate) fn all_or_none<T>(field: Option<Option<T>>) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(converted) => converted.map(Some),
    }
}

/// Text that is left out when empty.
pub(crate) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A time for the wire.
pub(crate) fn to_time(time: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0).min(999_999_999);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

/// A number for the wire, whose sizes are signed. The database's are as well, so nothing is cut.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An id for the wire, empty where there is none.
pub(crate) fn to_text(id: Option<impl Display>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// The kind of backend.
pub(crate) fn to_provider(provider: coffer_domain::volume::Provider) -> v1::Provider {
    match provider {
        coffer_domain::volume::Provider::Local => v1::Provider::Local,
        coffer_domain::volume::Provider::S3 => v1::Provider::S3,
        coffer_domain::volume::Provider::Http => v1::Provider::Http,
        coffer_domain::volume::Provider::Ftp => v1::Provider::Ftp,
        coffer_domain::volume::Provider::Sftp => v1::Provider::Sftp,
    }
}

/// What a conversion gives, or the fields that it refuses.
#[cfg(test)]
pub(crate) fn converted<T>(convert: impl FnOnce(&mut Fields) -> Option<T>) -> Result<T, Vec<String>> {
    let mut fields = Fields::default();
    let value = convert(&mut fields);
    fields.finish(value).map_err(|error| match error {
        Error::Invalid(violations) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other}"),
    })
}

#[cfg(test)]
mod tests;

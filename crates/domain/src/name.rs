//! Names and texts that callers give, each with its limit.

use crate::path::{BadPath, check_segment, is_deceptive};

/// Most bytes of a `file_id`.
pub const MAX_FILE_ID_BYTES: usize = 255;
/// Most bytes of a MIME type.
pub const MAX_MIME_BYTES: usize = 100;
/// Most bytes of an encoding.
pub const MAX_ENCODING_BYTES: usize = 64;
/// Most tags of a file.
pub const MAX_TAGS: usize = 64;
/// Most bytes of a tag.
pub const MAX_TAG_BYTES: usize = 128;
/// Most bytes of custom metadata, as JSON.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// Most keys of custom metadata, all levels together.
pub const MAX_METADATA_KEYS: usize = 1_000;
/// Most levels of custom metadata.
pub const MAX_METADATA_DEPTH: usize = 16;
/// Most bytes of a description.
pub const MAX_DESCRIPTION_BYTES: usize = 1_024;

/// The type of content nobody described.
pub const DEFAULT_MIME: &str = "application/octet-stream";

/// What a text breaks, as a rule to follow.
pub type Rule = &'static str;

/// Checks a file name: one segment of a path.
pub fn check_filename(text: &str) -> Result<(), BadPath> {
    check_segment(text)
}

/// Checks a caller's own name for a file.
pub fn check_file_id(text: &str) -> Result<(), Rule> {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/');
    if text.is_empty() || text.len() > MAX_FILE_ID_BYTES || !text.bytes().all(is_valid) {
        return Err("must be 1 to 255 of A-Z a-z 0-9 . _ - : /");
    }
    if text.starts_with("file_") {
        return Err("names that begin with file_ are given by the service");
    }
    Ok(())
}

/// Checks a MIME type: `type/subtype` of tokens (RFC 9110), optionally with parameters.
pub fn check_mime(text: &str) -> Result<(), Rule> {
    const RULE: Rule = "must be type/subtype with optional parameters, at most 100 bytes";
    let is_token =
        |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    if text.len() > MAX_MIME_BYTES || text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        return Err(RULE);
    }
    let essence = text.split(';').next().unwrap_or(text).trim_end();
    match essence.split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(()),
        _ => Err(RULE),
    }
}

/// The MIME type by the extension of a name, never by content.
pub fn mime_of(filename: &str) -> String {
    mime_guess::from_path(filename).first_raw().unwrap_or(DEFAULT_MIME).to_owned()
}

/// Checks a content encoding.
pub fn check_encoding(text: &str) -> Result<(), Rule> {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b',' | b' ');
    if text.len() > MAX_ENCODING_BYTES || !text.bytes().all(is_valid) {
        return Err("must be at most 64 bytes of letters, digits, - _ . and commas");
    }
    Ok(())
}

/// Checks a text for people.
pub fn check_description(text: &str) -> Result<(), Rule> {
    if text.len() > MAX_DESCRIPTION_BYTES || text.chars().any(|c| is_deceptive(c) && c != '\n') {
        return Err("must be at most 1,024 bytes without control characters");
    }
    Ok(())
}

/// Checks tags.
pub fn check_tags(tags: &[String]) -> Result<(), Rule> {
    if tags.len() > MAX_TAGS {
        return Err("must be at most 64 tags");
    }
    if tags.iter().any(|t| t.is_empty() || t.len() > MAX_TAG_BYTES || t.chars().any(is_deceptive)) {
        return Err("tags must be 1 to 128 bytes without control characters");
    }
    let distinct: std::collections::HashSet<_> = tags.iter().collect();
    if distinct.len() != tags.len() {
        return Err("each tag once");
    }
    Ok(())
}

/// Checks custom metadata: an object within its limits, without NUL, which PostgreSQL cannot hold.
pub fn check_metadata(metadata: &serde_json::Map<String, serde_json::Value>) -> Result<(), Rule> {
    let mut keys = 0;
    for (key, value) in metadata {
        keys += 1;
        check_text(key)?;
        check_value(value, 2, &mut keys)?;
    }
    if keys > MAX_METADATA_KEYS {
        return Err("must have at most 1,000 keys");
    }
    if serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len()) > MAX_METADATA_BYTES {
        return Err("must be at most 64 KiB as JSON");
    }
    Ok(())
}

fn check_value(value: &serde_json::Value, depth: usize, keys: &mut usize) -> Result<(), Rule> {
    use serde_json::Value;
    if depth > MAX_METADATA_DEPTH + 1 {
        return Err("must have at most 16 levels");
    }
    match value {
        Value::String(text) => check_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(item, depth + 1, keys)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            *keys += 1;
            check_text(key)?;
            check_value(value, depth + 1, keys)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), Rule> {
    if text.contains('\0') { Err("must not contain NUL") } else { Ok(()) }
}

/// Whether a text can name an organisation, an app or a project: 1 to 100 characters that can be seen, without `/`, at most 255 bytes.
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.chars().count() <= 100
        && !text.chars().any(|c| is_deceptive(c) || c.is_whitespace() || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mime_types() {
        for good in [
            "text/plain",
            "text/html; charset=utf-8",
            "application/vnd.oasis.opendocument.text",
            "image/svg+xml",
        ] {
            assert_eq!(check_mime(good), Ok(()), "{good}");
        }
        for bad in [
            "text",
            "text/",
            "/plain",
            "text/html\r\nX: y",
            "te xt/plain",
            &format!("text/{}", "x".repeat(100)),
        ] {
            assert!(check_mime(bad).is_err(), "{bad}");
        }
        assert_eq!(mime_of("scan.pdf"), "application/pdf");
        assert_eq!(mime_of("scan"), DEFAULT_MIME);
    }

    #[test]
    fn metadata_has_limits() {
        let check = |value: serde_json::Value| check_metadata(value.as_object().expect("an object"));
        assert_eq!(check(json!({"__proto__": {"a": [1, "x", null]}})), Ok(()));
        assert!(check(json!({"a": "x\0y"})).is_err());
        assert!(check(json!({"a\0": 1})).is_err());
        assert!(check(json!({"a": "x".repeat(MAX_METADATA_BYTES)})).is_err());
        let many: serde_json::Map<_, _> =
            (0..=MAX_METADATA_KEYS).map(|n| (n.to_string(), json!(1))).collect();
        assert!(check_metadata(&many).is_err());
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
        assert_eq!(check(nested(MAX_METADATA_DEPTH)), Ok(()));
        assert!(check(nested(MAX_METADATA_DEPTH + 1)).is_err());
    }

    #[test]
    fn tags_have_limits() {
        let tags = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(check_tags(&tags(&["a", "b"])), Ok(()));
        assert!(check_tags(&tags(&["a", "a"])).is_err());
        assert!(check_tags(&tags(&[""])).is_err());
        assert!(check_tags(&["x".repeat(MAX_TAG_BYTES + 1)]).is_err());
        assert!(check_tags(&(0..=MAX_TAGS).map(|n| n.to_string()).collect::<Vec<_>>()).is_err());
    }

    #[test]
    fn file_ids() {
        assert_eq!(check_file_id("scan:2026/11-a_b.pdf"), Ok(()));
        for bad in ["", "a b", "ü", "file_abc", &"x".repeat(256)] {
            assert!(check_file_id(bad).is_err(), "{bad}");
        }
    }
}

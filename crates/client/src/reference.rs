//! Naming files: in code, and in the text a person types.

use crate::v1::{FileReference, PathReference, file_reference::By};
use uuid::Uuid;

/// The text names no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no file: give a UUID, id:NAME, or a path in the volume")]
pub struct InvalidReference(pub String);

/// The file with this id.
pub fn file_by_id(id: Uuid) -> FileReference {
    FileReference { by: Some(By::Id(id.to_string())) }
}

/// The file with this `file_id`, the caller's own name for it.
pub fn file_by_name(file_id: impl Into<String>) -> FileReference {
    FileReference { by: Some(By::FileId(file_id.into())) }
}

/// The live file at this path in the volume (UUID or name; empty means the service's default volume).
pub fn file_by_path(volume: impl Into<String>, path: impl Into<String>) -> FileReference {
    FileReference { by: Some(By::Path(PathReference { volume: volume.into(), path: path.into() })) }
}

/// Reads a reference as a person types it:
///
/// 1. a UUID with its hyphens is an id;
/// 2. `id:NAME` is the `file_id` NAME;
/// 3. anything else is a path in `volume`. One leading `/` is dropped, so that `/id:x` or `/` and a UUID name paths that
///    the first two rules would take for something else.
///
/// # Errors
/// [`InvalidReference`] if nothing is left after `id:` or the leading `/`.
pub fn parse_reference(text: &str, volume: &str) -> Result<FileReference, InvalidReference> {
    // The other spellings of a UUID (no hyphens, braces, urn:) are more likely names of files than ids.
    const HYPHENATED_BYTES: usize = 36;
    if text.len() == HYPHENATED_BYTES
        && let Ok(id) = Uuid::try_parse(text)
    {
        return Ok(file_by_id(id));
    }
    let (rest, is_name) = match text.strip_prefix("id:") {
        Some(name) => (name, true),
        None => (text.strip_prefix('/').unwrap_or(text), false),
    };
    match (rest, is_name) {
        ("", _) => Err(InvalidReference(text.to_owned())),
        (name, true) => Ok(file_by_name(name)),
        (path, false) => Ok(file_by_path(volume, path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199f3a0-1b2c-7d3e-8f40-112233445566";

    #[test]
    fn the_three_ways_to_name_a_file() {
        let path = |path: &str| file_by_path("main", path);
        let cases = [
            (ID.to_owned(), file_by_id(ID.parse().unwrap())),
            (ID.to_uppercase(), file_by_id(ID.parse().unwrap())),
            ("id:invoice-7".to_owned(), file_by_name("invoice-7")),
            ("id:file_abc".to_owned(), file_by_name("file_abc")),
            (format!("id:{ID}"), file_by_name(ID)),
            ("reports/2024.pdf".to_owned(), path("reports/2024.pdf")),
            ("/reports/2024.pdf".to_owned(), path("reports/2024.pdf")),
            ("//x".to_owned(), path("/x")),
            ("file_abc".to_owned(), path("file_abc")),
            (format!("/{ID}"), path(ID)),
            (ID.replace('-', ""), path(&ID.replace('-', ""))),
            ("/id:x".to_owned(), path("id:x")),
            ("ID:x".to_owned(), path("ID:x")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_reference(&text, "main").as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn nothing_names_nothing() {
        for text in ["", "/", "id:"] {
            assert_eq!(parse_reference(text, "main"), Err(InvalidReference(text.to_owned())));
        }
    }
}

//! Keys in byte order, folder by folder.

use super::{client::Session, files::Found, space::Space, way::Way};
use crate::remote::{Failure, Wanted, insist};
use coffer_domain::{
    driver::{ErrorKind, Listed},
    path::Key,
};
use std::path::PathBuf;

/// Most entries of a folder.
const MOST_ENTRIES: usize = 1_000_000;

/// Objects of a volume, in the order of their keys.
///
/// Names are sorted within a folder, where a folder counts as its name with the slash: so what is below comes where its keys do.
pub(super) async fn list(
    space: &Space,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Listed>, Failure> {
    let Some(wanted) = Wanted::new(prefix, after) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut left = vec![(wanted.folder().to_owned(), Found::Folder)];
    while let Some((name, what)) = left.pop() {
        match what {
            Found::File { .. } => {
                // Names that no key has are not ours.
                let Ok(key) = Key::parse(name) else { continue };
                if wanted.has(&key)
                    && let Some(stat) = what.object()?
                {
                    found.push(Listed { key, stat });
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            Found::Folder if wanted.may_have_below(&name) => {
                let mut entries = insist(|| async {
                    let mut session = space.sessions.get().await?;
                    folder(space, &mut session, &name).await
                })
                .await?;
                entries.sort_by(|(a, _), (b, _)| b.cmp(a));
                left.extend(entries);
            }
            Found::Folder | Found::Other => {}
        }
    }
    Ok(found)
}

/// What is in a folder of the volume, by its name there; that of a folder ends with a slash.
async fn folder(space: &Space, session: &mut Session, name: &str) -> Result<Vec<(String, Found)>, Failure> {
    let path = space.below(name);
    // Of a folder's name its own slash is a part: so it is looked at too.
    match space.way(session, &path).await? {
        Way::Clear => {}
        Way::Nowhere | Way::Elsewhere => {
            // One that is gone meanwhile, or never was, is empty; but not the one that everything is in.
            space.expect_folder(session).await?;
            return Ok(Vec::new());
        }
    }
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let entries = match session.read_folder(path, MOST_ENTRIES).await {
        Ok(Some(entries)) => entries,
        Ok(None) => return Err(Failure::wrong(ErrorKind::BadAnswer, "a folder without an end")),
        Err(failure) if failure.is_absent() => {
            space.expect_folder(session).await?;
            return Ok(Vec::new());
        }
        Err(failure) => return Err(failure),
    };
    let named = entries.into_iter().filter_map(|(own, stat)| Some((text(own)?, Found::from(stat))));
    Ok(named
        .map(|(own, what)| match what {
            Found::Folder => (format!("{name}{own}/"), what),
            _ => (format!("{name}{own}"), what),
        })
        .collect())
}

/// A name that can be a segment of a key.
fn text(own: PathBuf) -> Option<String> {
    let own = own.into_os_string().into_string().ok()?;
    let is_segment = !matches!(own.as_str(), "" | "." | "..")
        && !own.contains(['/', '\\'])
        && !own.chars().any(char::is_control);
    is_segment.then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["a", "...", "a b", "é", "%2e%2e", "~", "*"] {
            assert_eq!(text(name.into()).as_deref(), Some(name));
        }
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\nb", "a\0b", "\u{85}"] {
            assert_eq!(text(name.into()), None, "{name:?}");
        }
        assert_eq!(text(OsString::from_vec(vec![b'a', 0xff]).into()), None);
    }
}

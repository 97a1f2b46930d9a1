//! Keys in byte order, folder by folder.

use super::{client::Client, dav::Entry};
use crate::remote::{Failure, names};
use coffer_domain::{driver::Listed, path::Key};

/// Objects of a volume, in the order of their keys.
///
/// Names are sorted within a folder, where a folder counts as its name with the slash: so what is below comes where its keys do.
pub(super) async fn list(
    client: &Client,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Listed>, Failure> {
    if !names::may_begin_a_key(prefix) {
        return Ok(Vec::new());
    }
    let wanted = Wanted { prefix, after, shows_reserved: names::shows_reserved(prefix, after) };
    let mut found = Vec::new();
    // The innermost folder that all of them are in.
    let first = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
    let mut left = vec![Entry { name: client.below(first), stat: None }];
    while let Some(Entry { name, stat }) = left.pop() {
        let Some(own) = client.inside(&name) else { continue };
        if let Some(stat) = stat {
            // Names that no key has are not ours.
            let Ok(key) = Key::parse(own) else { continue };
            if wanted.has(&key) {
                found.push(Listed { key, stat });
                if found.len() == limit {
                    return Ok(found);
                }
            }
            continue;
        }
        if !wanted.may_have_below(own) {
            continue;
        }
        let Some(mut entries) = client.folder(&name).await? else {
            // One that is gone meanwhile, or never was, is empty; but not the one that everything is in.
            client.expect_folder().await?;
            continue;
        };
        entries.sort_by(|a, b| b.name.cmp(&a.name));
        left.extend(entries);
    }
    Ok(found)
}

struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a Key>,
    shows_reserved: bool,
}

impl Wanted<'_> {
    fn has(&self, key: &Key) -> bool {
        key.as_str().starts_with(self.prefix)
            && self.after.is_none_or(|after| key > after)
            && (self.shows_reserved || !names::is_reserved(key))
    }

    /// Whether something wanted can be in a folder, whose name ends with a slash or is empty.
    fn may_have_below(&self, folder: &str) -> bool {
        let is_reserved = folder.starts_with(".coffer/");
        let is_on_the_way = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        let is_over =
            self.after.is_some_and(|after| after.as_str() > folder && !after.as_str().starts_with(folder));
        is_on_the_way && !is_over && (self.shows_reserved || !is_reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_have_nothing_wanted_are_not_looked_into() {
        let after = Key::parse("b/c/d").unwrap();
        let wanted = |prefix, after| Wanted { prefix, after, shows_reserved: false };
        for (prefix, after, folder, expected) in [
            ("", None, "", true),
            ("", None, "a/", true),
            ("", None, ".coffer/", false),
            ("a/x", None, "a/", true),
            ("a/x", None, "a/xy/", true),
            ("a/x", None, "a/y/", false),
            ("", Some(&after), "a/", false),
            ("", Some(&after), "b/", true),
            ("", Some(&after), "b/c/", true),
            ("", Some(&after), "b/c-/", false),
            ("", Some(&after), "b/d/", true),
        ] {
            assert_eq!(wanted(prefix, after).may_have_below(folder), expected, "{prefix} {after:?} {folder}");
        }
    }
}

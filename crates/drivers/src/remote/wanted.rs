//! What is wanted of a listing.

use super::names;
use coffer_domain::path::Key;

/// What is wanted of a listing, folder by folder.
pub(crate) struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a Key>,
    shows_reserved: bool,
}

impl<'a> Wanted<'a> {
    /// Keys that begin with `prefix`, after `after`; `None` if no key can begin so.
    pub(crate) fn new(prefix: &'a str, after: Option<&'a Key>) -> Option<Self> {
        let shows_reserved = names::shows_reserved(prefix, after);
        names::may_begin_a_key(prefix).then_some(Self { prefix, after, shows_reserved })
    }

    /// The innermost folder that all of them are in: empty, or with a slash at its end.
    pub(crate) fn folder(&self) -> &'a str {
        self.prefix.rfind('/').map_or("", |at| &self.prefix[..=at])
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        key.as_str().starts_with(self.prefix)
            && self.after.is_none_or(|after| key > after)
            && (self.shows_reserved || !names::is_reserved(key))
    }

    /// Whether something wanted can be in a folder, whose name ends with a slash or is empty.
    pub(crate) fn may_have_below(&self, folder: &str) -> bool {
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

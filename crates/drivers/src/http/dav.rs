//! What WebDAV adds to HTTP: folders, what is in them, and names that move.

use super::client::{Ask, Client};
use crate::{
    remote::{
        Failure, insist, moment,
        xml::{Step, walk},
    },
    wire::{self, FIRST_BYTES},
};
use coffer_domain::driver::{ErrorKind, Stat};

/// Most bytes of an answer that tells what is in a folder: some hundred thousand names.
const MOST_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The root of such an answer.
const ROOT: &str = "multistatus";
const PROPERTIES: &[u8] =
    b"<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop><resourcetype/>\
    <getcontentlength/><getlastmodified/></prop></propfind>";

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name in the volume's place; that of a folder ends with a slash.
    pub(super) name: String,
    /// `None` for a folder.
    pub(super) stat: Option<Stat>,
}

impl Client {
    /// What is at a name; `None` if nothing is, or a folder.
    pub(super) async fn dav_stat(&self, name: &str) -> Result<Option<Stat>, Failure> {
        let found = match insist(|| self.properties(name, "0")).await {
            Ok(found) => found,
            Err(failure) if failure.is_absent() || self.is_folder(&failure, name) => return Ok(None),
            // Apache's word for what would be below a file.
            Err(failure) if failure.status() == Some(400) && self.is_below_a_file(name).await? => {
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        match <[Entry; 1]>::try_from(found) {
            Ok([Entry { stat, .. }]) => Ok(stat),
            Err(_) => Err(Failure::wrong(ErrorKind::BadAnswer, "more was told than was asked for")),
        }
    }

    async fn is_below_a_file(&self, name: &str) -> Result<bool, Failure> {
        for (at, _) in name.match_indices('/') {
            match insist(|| self.properties(&name[..at], "0")).await {
                Ok(found) if found.iter().any(|entry| entry.stat.is_some()) => return Ok(true),
                Ok(_) => {}
                Err(failure) if failure.is_absent() => return Ok(false),
                Err(failure) => return Err(failure),
            }
        }
        Ok(false)
    }

    /// Fails if the volume's folder is not there, which looks as if nothing was.
    pub(super) async fn expect_folder(&self) -> Result<(), Failure> {
        let folder = self.below("");
        match insist(|| self.properties(&folder, "0")).await {
            Err(failure) if failure.is_absent() => {
                Err(Failure::wrong(ErrorKind::Unavailable, "the volume's folder is not there"))
            }
            outcome => outcome.map(|_| ()),
        }
    }

    /// What is in a folder, in no order; `None` if there is no folder.
    pub(super) async fn folder(&self, folder: &str) -> Result<Option<Vec<Entry>>, Failure> {
        let found = match insist(|| self.properties(folder, "1")).await {
            Ok(found) => found,
            Err(failure) if failure.is_absent() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let mut entries = Vec::with_capacity(found.len());
        for entry in found {
            if entry.name == folder || format!("{}/", entry.name) == folder {
                // A file has no folder: nothing is below it.
                continue;
            }
            let own = entry.name.strip_prefix(folder).map(|own| own.strip_suffix('/').unwrap_or(own));
            // A server that names what is elsewhere would have us believe in objects that are not ours.
            if own.is_none_or(|own| own.is_empty() || own.contains('/') || matches!(own, "." | "..")) {
                return Err(Failure::wrong(ErrorKind::BadAnswer, "a folder that lists what is not in it"));
            }
            entries.push(entry);
        }
        Ok(Some(entries))
    }

    async fn properties(&self, name: &str, depth: &str) -> Result<Vec<Entry>, Failure> {
        let body = wire::of_pieces(vec![PROPERTIES.into()]);
        let ask = Ask::new("PROPFIND", name)
            .header("depth", depth)
            .header("content-type", "application/xml; charset=utf-8")
            .body(body, PROPERTIES.len() as u64);
        let most = if depth == "0" { FIRST_BYTES } else { MOST_ANSWER_BYTES };
        let document = self.fetch(ask, most, ROOT).await?;
        self.entries(&document)
    }

    fn entries(&self, document: &[u8]) -> Result<Vec<Entry>, Failure> {
        let (mut entries, mut problem) = (Vec::new(), None);
        let mut found = Found::default();
        let (mut text, mut root) = (String::new(), None::<String>);
        walk(document, |step| match step {
            Step::Open(name) => {
                root.get_or_insert_with(|| name.to_owned());
                text.clear();
                match name {
                    "response" => found = Found::default(),
                    "collection" => found.is_folder = true,
                    _ => {}
                }
            }
            Step::Text(part) => text.push_str(part),
            Step::Close("href") if found.href.is_none() => found.href = Some(text.trim().to_owned()),
            // What a server does not have it names too, empty.
            Step::Close("getcontentlength") if !text.trim().is_empty() => {
                found.size = Some(text.trim().to_owned());
            }
            Step::Close("getlastmodified") if !text.trim().is_empty() => {
                found.date = Some(text.trim().to_owned());
            }
            Step::Close("response") => match self.entry(std::mem::take(&mut found)) {
                Ok(entry) => entries.push(entry),
                Err(failure) => {
                    problem.get_or_insert(failure);
                }
            },
            Step::Close(_) => {}
        })?;
        if root.as_deref() != Some(ROOT) {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "an answer that is none of WebDAV's"));
        }
        problem.map_or(Ok(entries), Err)
    }

    fn entry(&self, found: Found) -> Result<Entry, Failure> {
        let Found { href, is_folder, size, date } = found;
        let name = href.and_then(|href| self.name_of(&href));
        let mut name =
            name.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a name that is elsewhere"))?;
        if is_folder {
            if !name.is_empty() && !name.ends_with('/') {
                name.push('/');
            }
            return Ok(Entry { name, stat: None });
        }
        let size = size.and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "an object without a size"))?;
        Ok(Entry { name, stat: Some(Stat { size, changed_at: moment(date.as_deref())? }) })
    }

    /// Makes the folders that a name is in.
    pub(super) async fn make_parents(&self, name: &str) -> Result<(), Failure> {
        let mut folders: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..=at]).collect();
        if name.ends_with('/') {
            folders.pop();
        }
        // Most are there: from the innermost outwards until one is, then back.
        let mut missing = Vec::new();
        while let Some(folder) = folders.pop() {
            match self.make_folder(folder).await {
                Ok(()) => break,
                Err(failure) if matches!(failure.status(), Some(403 | 404 | 409)) && !folders.is_empty() => {
                    missing.push(folder);
                }
                Err(failure) => return Err(failure),
            }
        }
        while let Some(folder) = missing.pop() {
            self.make_folder(folder).await?;
        }
        Ok(())
    }

    /// Makes a folder. One that is there is a success.
    pub(super) async fn make_folder(&self, folder: &str) -> Result<(), Failure> {
        let ask = || insist(|| self.tell(Ask::new("MKCOL", folder)));
        let outcome = match ask().await {
            // So Apache answers the second of two who make it at the same moment; asked again, it says that it is there.
            Err(failure) if failure.status() == Some(403) => ask().await,
            outcome => outcome,
        };
        match outcome {
            Err(failure) if failure.status() == Some(405) => Ok(()),
            outcome => outcome,
        }
    }

    /// Does what needs the folders of `name`, and makes them if it fails for want of them.
    pub(super) async fn within<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        name: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        match attempt().await {
            // Servers differ in what they call a folder that is not there.
            Err(failure) if matches!(failure.status(), Some(403 | 404 | 409)) => {
                self.make_parents(name).await?;
                attempt().await
            }
            outcome => outcome,
        }
    }

    /// Gives an object another name, at which nothing is replaced. `size` is its size: a move whose answer was lost is known by it.
    pub(super) async fn rename(&self, from: &str, to: &str, size: u64) -> Result<(), Failure> {
        let attempt = || {
            let ask = Ask::new("MOVE", from).header("destination", self.url(to)).header("overwrite", "F");
            self.tell(ask)
        };
        // Asked to move into a folder that is not there, Apache says that it failed inside.
        self.make_parents(to).await?;
        let Err(failure) = insist(attempt).await else { return Ok(()) };
        // The try before may have done it.
        let is_done = matches!(failure.status(), Some(403 | 404 | 409 | 412 | 500))
            && self.dav_stat(from).await?.is_none()
            && self.dav_stat(to).await?.is_some_and(|stat| stat.size == size);
        if is_done { Ok(()) } else { Err(failure) }
    }

    /// Removes a folder with all that is in it. An absent one is a success.
    pub(super) async fn remove_folder(&self, folder: &str) -> Result<(), Failure> {
        let attempt = || async {
            match self.tell(Ask::new("DELETE", folder)).await {
                // rclone's word for a file that it has not closed yet.
                Err(failure) if failure.status() == Some(405) => {
                    Err(Failure::wrong(ErrorKind::Unavailable, "the folder is in use"))
                }
                outcome => outcome,
            }
        };
        match insist(attempt).await {
            Err(failure) if failure.is_absent() => Ok(()),
            outcome => outcome,
        }
    }
}

#[derive(Default)]
struct Found {
    href: Option<String>,
    is_folder: bool,
    size: Option<String>,
    date: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{super::config::*, *};

    fn entries(document: &str) -> Result<Vec<Entry>, Failure> {
        let client = Client::new(&Config::new("http://host/dav", None)).unwrap();
        client.entries(document.as_bytes())
    }

    fn multistatus(responses: &str) -> String {
        format!("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">{responses}</D:multistatus>")
    }

    fn file(href: &str, size: &str) -> String {
        format!(
            "<D:response><D:href>{href}</D:href><D:propstat><D:prop><D:resourcetype/>\
             <D:getcontentlength>{size}</D:getcontentlength>\
             <D:getlastmodified>Sun, 22 Nov 2026 19:07:46 GMT</D:getlastmodified></D:prop></D:propstat></D:response>"
        )
    }

    #[test]
    fn files_and_folders_are_told_apart() {
        let folder = "<D:response><D:href>/dav/a</D:href><D:propstat><D:prop><D:resourcetype><D:collection/>\
             </D:resourcetype></D:prop></D:propstat><D:propstat><D:prop><D:getcontentlength/></D:prop></D:propstat>\
             </D:response>";
        let found = entries(&multistatus(&format!("{folder}{}", file("/dav/a%26b&amp;c", "5")))).unwrap();
        assert_eq!(found[0], Entry { name: "a/".to_owned(), stat: None });
        assert_eq!((found[1].name.as_str(), found[1].stat.unwrap().size), ("a&b&c", 5));
    }

    #[test]
    fn hostile_answers_are_refused() {
        let bomb = format!(
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>{}",
            multistatus(&file("/dav/&b;", "1"))
        );
        for document in [
            multistatus(&file("/elsewhere/x", "1")),
            multistatus(&file("http://evil/dav/x", "1")),
            multistatus(&file("/dav/x", "-1")),
            multistatus(&file("/dav/x", "99999999999999999999999")),
            multistatus(&file("/dav/&x;", "1")),
            "<html><body>Please log in</body></html>".to_owned(),
            "not XML".to_owned(),
            multistatus("")[..30].to_owned(),
            bomb,
        ] {
            assert!(entries(&document).is_err(), "{document}");
        }
    }
}

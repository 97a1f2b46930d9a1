//! What servers tell of folders, line by line: in the form of RFC 3659, or as `ls -l` prints it.

use crate::{remote::Failure, wire};
use chrono::NaiveDateTime;
use coffer_domain::{driver::ErrorKind, time::Timestamp};

/// Most bytes of a line.
const MOST_LINE_BYTES: usize = 16 * 1024;
/// Most bytes of all that is told of a folder: some hundred thousand names.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A line that tells of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) is: Is,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    File {
        size: u64,
        /// `None` where a line does not tell it exactly.
        changed_at: Option<Timestamp>,
    },
    Folder,
    /// A link, a device, the folder itself.
    Nothing,
}

/// Lines as they come. One that cannot be understood is an error: it could be of something that is there.
pub(super) struct Lines {
    is_unix: bool,
    found: Vec<Line>,
    rest: Vec<u8>,
    /// Whether lines end as they should, with CR and LF: then an LF alone is a part of a name. `None` until that shows.
    ends_with_cr: Option<bool>,
    bytes: usize,
    /// Whether a folder was found to be in itself, as `ls -a` prints it.
    has_itself: bool,
}

impl Lines {
    /// Of RFC 3659.
    pub(super) fn of_facts() -> Self {
        let rest = Vec::new();
        Self { is_unix: false, found: Vec::new(), rest, ends_with_cr: None, bytes: 0, has_itself: false }
    }

    /// Of `ls -la`.
    pub(super) fn of_unix() -> Self {
        Self { is_unix: true, ..Self::of_facts() }
    }

    /// Takes what has come.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.bytes += piece.len();
        if self.bytes > MOST_BYTES {
            return Err(wire::Failure::TooLarge(MOST_BYTES).into());
        }
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + part.len() > MOST_LINE_BYTES {
                self.give_up_cr()?;
            }
            if self.rest.len() + part.len() > MOST_LINE_BYTES {
                return Err(wire::Failure::TooLarge(MOST_LINE_BYTES).into());
            }
            self.rest.extend_from_slice(part);
            let has_cr = self.rest.ends_with(b"\r\n");
            if has_cr || (self.ends_with_cr == Some(false) && part.ends_with(b"\n")) {
                self.ends_with_cr.get_or_insert(has_cr);
                let line = std::mem::take(&mut self.rest);
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// So much without a CR: the server's lines end without.
    fn give_up_cr(&mut self) -> Result<(), Failure> {
        if self.ends_with_cr.is_some() {
            return Ok(());
        }
        self.ends_with_cr = Some(false);
        let text = std::mem::take(&mut self.rest);
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in text[..end].split_inclusive(|byte| *byte == b'\n') {
            self.line(line)?;
        }
        self.rest = text[end..].to_vec();
        Ok(())
    }

    /// What was found.
    pub(super) fn end(mut self) -> Result<Vec<Line>, Failure> {
        self.give_up_cr()?;
        let last = std::mem::take(&mut self.rest);
        self.line(&last)?;
        if self.is_unix && !self.has_itself {
            // vsftpd's way of saying that a folder may not be looked into.
            return Err(Failure::wrong(ErrorKind::Denied, "a folder that is not even in itself"));
        }
        Ok(self.found)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || (self.is_unix && line.starts_with(b"total ")) {
            return Ok(());
        }
        let (is, name) = match self.is_unix {
            true => of_unix(line),
            false => of_facts(line),
        }
        .ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a line that tells of nothing"))?;
        if name == b"." {
            self.has_itself = true;
        }
        if is == Is::Nothing || matches!(name, b"." | b"..") {
            return Ok(());
        }
        if name.is_empty() || name.contains(&b'/') {
            // It would have us believe in what is elsewhere.
            return Err(Failure::wrong(ErrorKind::BadAnswer, "a folder that lists what is not in it"));
        }
        match std::str::from_utf8(name) {
            Ok(name) if !name.chars().any(char::is_control) => {
                self.found.push(Line { name: name.to_owned(), is });
            }
            // No key has such a name, and no command can hold some of them.
            _ => {}
        }
        Ok(())
    }
}

/// One line of RFC 3659, whatever its name is.
pub(super) fn facts(line: &[u8]) -> Option<Line> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (is, name) = of_facts(line)?;
    Some(Line { name: String::from_utf8_lossy(name).into_owned(), is })
}

/// `type=file;size=5;modify=20261122190746; name`.
fn of_facts(line: &[u8]) -> Option<(Is, &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ')?;
    let (facts, name) = (std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
    let (mut kind, mut size, mut changed_at) = (None, None, None);
    for fact in facts.split_terminator(';') {
        // Where a link leads may have any character.
        let Some((name, value)) = fact.split_once('=') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "size" => size = Some(value.parse().ok()?),
            "modify" => changed_at = Some(moment(value)?),
            _ => {}
        }
    }
    let is = match kind?.as_str() {
        "file" => Is::File { size: size?, changed_at },
        "dir" => Is::Folder,
        _ => Is::Nothing,
    };
    Some((is, name))
}

/// `-rw-r--r--    1 ftp      ftp             5 Nov 22 19:07 name`. What is before the size differs: servers leave out owners, or groups have
/// blanks. So the date is looked for.
fn of_unix(line: &[u8]) -> Option<(Is, &[u8])> {
    let kind = *line.first()?;
    if !b"-dlbcpsD".contains(&kind) || !line.get(1..10)?.iter().all(|byte| b"-rwxsStTlL".contains(byte)) {
        return None;
    }
    let words: Vec<(usize, &[u8])> = words(line).take(16).collect();
    let (size, end) = words.windows(4).skip(1).find_map(|four| {
        let [(_, size), (_, month), (_, day), (at, time)] = four else { return None };
        let is_date = is_month(month) && is_day(day) && is_time_or_year(time);
        is_date.then_some((*size, at + time.len()))
    })?;
    // A name may begin with a blank.
    let name = line.get(end + 1..)?;
    let is = match kind {
        b'-' => Is::File { size: std::str::from_utf8(size).ok()?.parse().ok()?, changed_at: None },
        b'd' => Is::Folder,
        _ => Is::Nothing,
    };
    Some((is, name))
}

/// The words of a line, and where each begins.
fn words(line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += line[at..].iter().position(|byte| *byte != b' ')?;
        let start = at;
        at += line[at..].iter().position(|byte| *byte == b' ').unwrap_or(line.len() - at);
        Some((start, &line[start..at]))
    })
}

fn is_month(word: &[u8]) -> bool {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.iter().any(|month| word.eq_ignore_ascii_case(month))
}

fn is_day(word: &[u8]) -> bool {
    let day = std::str::from_utf8(word).ok().and_then(|word| word.parse::<u8>().ok());
    day.is_some_and(|day| (1..=31).contains(&day))
}

fn is_time_or_year(word: &[u8]) -> bool {
    let has = |digits: &[usize], colon: Option<usize>| {
        digits.iter().all(|at| word[*at].is_ascii_digit()) && colon.is_none_or(|at| word[at] == b':')
    };
    match word.len() {
        5 => has(&[0, 1, 3, 4], Some(2)),
        4 => has(&[0, 1, 2, 3], None) || has(&[0, 2, 3], Some(1)),
        _ => false,
    }
}

/// The moment of `20261122190746`, whatever part of a second follows.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let seconds = text.get(..14)?;
    let rest = &text[14..];
    let is_whole = rest.is_empty() || rest.starts_with('.');
    let parsed = NaiveDateTime::parse_from_str(seconds, "%Y%m%d%H%M%S").ok()?;
    (is_whole && seconds.bytes().all(|byte| byte.is_ascii_digit())).then(|| parsed.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut lines: Lines, text: &[u8]) -> Result<Vec<Line>, Failure> {
        for piece in text.chunks(7) {
            lines.push(piece)?;
        }
        lines.end()
    }

    fn unix(text: &str) -> Result<Vec<Line>, Failure> {
        read(Lines::of_unix(), format!("drwxr-xr-x    2 0 0 4096 Nov 22 19:07 .\r\n{text}").as_bytes())
    }

    fn names(found: Result<Vec<Line>, Failure>) -> Vec<String> {
        found.unwrap().into_iter().map(|line| line.name).collect()
    }

    #[test]
    fn lines_of_ls_are_read() {
        let found = unix(
            "total 4\r\n\
             drwxr-xr-x    2 65534    65534        4096 Nov 22 19:07 ..\r\n\
             -rw-r--r--    1 65534    65534    12345678901 Nov 22  2025 a b\r\n\
             -rw-r--r--    1 ftp 5 Jan  1 00:00  begins with a blank\r\n\
             -rw-r--r--+   1 DOMAIN\\Some Body  Domain Users  7 Feb 29 23:59 May 05 2020\r\n\
             -rw-r--r--    1 0 0 0 Mar  3 3:04 \u{65e5}\u{672c}\r\n\
             lrwxrwxrwx    1 0 0 4 Nov 22 19:07 link -> /etc\r\n\
             crw-rw-rw-    1 0 0 1, 3 Nov 22 19:07 null\r\n\
             drwxr-sr-t    2 0 0 4096 Nov 22 19:07 folder\r\n",
        )
        .unwrap();
        let size = |line: &Line| match line.is {
            Is::File { size, changed_at: None } => Some(size),
            _ => None,
        };
        let found: Vec<_> = found.iter().map(|line| (line.name.as_str(), size(line))).collect();
        assert_eq!(
            found,
            [
                ("a b", Some(12_345_678_901)),
                (" begins with a blank", Some(5)),
                ("May 05 2020", Some(7)),
                ("\u{65e5}\u{672c}", Some(0)),
                ("folder", None),
            ]
        );
    }

    #[test]
    fn facts_are_read() {
        let text = "type=cdir;modify=20261122190746; .\r\n\
                    Type=file;Size=5;Modify=20261122190746.123;UNIX.mode=0644; a; b=c\r\n\
                    type=dir; folder\r\n\
                    type=OS.unix=slink:/etc; link\r\n\
                    type=file;size=6;  blank\r\n";
        let found = read(Lines::of_facts(), text.as_bytes()).unwrap();
        let changed_at = moment("20261122190746");
        assert_eq!(changed_at.unwrap().to_rfc3339(), "2026-11-22T19:07:46+00:00");
        let file =
            |name: &str, size, changed_at| Line { name: name.to_owned(), is: Is::File { size, changed_at } };
        let folder = Line { name: "folder".to_owned(), is: Is::Folder };
        assert_eq!(found, [file("a; b=c", 5, changed_at), folder, file(" blank", 6, None)]);
    }

    #[test]
    fn names_that_no_key_has_are_skipped() {
        let bytes = b"type=file;size=1; b\nc\r\ntype=file;size=1; a\r\ntype=file;size=1; b\nc\r\ntype=file;size=1; d\re\r\n\
                      type=file;size=1; \xff\xfe\r\ntype=file;size=1; f\r\n";
        assert_eq!(names(read(Lines::of_facts(), bytes)), ["a", "f"]);
        assert_eq!(names(read(Lines::of_facts(), b"type=file;size=1; a\ntype=file;size=1; b")), ["a", "b"]);
        let many = "type=file;size=1; a\n".repeat(2_000);
        assert_eq!(names(read(Lines::of_facts(), many.as_bytes())).len(), 2_000);
    }

    #[test]
    fn what_cannot_be_understood_is_no_empty_folder() {
        for text in [
            "11-22-26  07:07PM       <DIR>          folder\r\n",
            "hello\r\n",
            "-rw-r--r-- 1 0 0 x Nov 22 19:07 a\r\n",
            "-rw-r--r-- 1 0 0 -1 Nov 22 19:07 a\r\n",
            "-rw-r--r-- 1 0 0 5 Nov 22 19:07 \r\n",
            "-rw-r--r-- 1 0 0 5 Nov 22 19:07 ../a\r\n",
            "-rw-r--r-- 1 0 0 5 Nov 22 19:07 /etc/passwd\r\n",
            "-rw-r--r-- 1 0 0 5 Nov 22\r\n",
        ] {
            assert_eq!(unix(text).unwrap_err().kind(), ErrorKind::BadAnswer, "{text}");
        }
        for text in [
            "type=file; a",
            "size=1; a",
            "type=file;size=x; a",
            "type=file;size=1;a",
            "type=file;size=1; a/b",
        ] {
            assert!(read(Lines::of_facts(), text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(read(Lines::of_unix(), b"").unwrap_err().kind(), ErrorKind::Denied);
        let endless = vec![b'a'; MOST_LINE_BYTES + 1];
        assert_eq!(read(Lines::of_facts(), &endless).unwrap_err().kind(), ErrorKind::BadAnswer);
    }

    #[test]
    fn moments_that_are_none_are_refused() {
        for text in ["", "2026", "20261322190746", "20261122190746x", "2026112219074", "+0261122190746"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}

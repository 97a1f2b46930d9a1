//! The server's log file.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// At this size a start puts the log aside as `postgres.log.1`, in place of the one before.
const ROTATE_BYTES: u64 = 16 * 1024 * 1024;

/// How much of the end is quoted in an error.
const QUOTED_LINES: usize = 20;
const QUOTED_BYTES: u64 = 16 * 1024;

/// A log file, of which what was written after opening belongs to this start.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    begin_bytes: u64,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        if fs::metadata(&path).is_ok_and(|found| found.len() >= ROTATE_BYTES) {
            let aside = path.with_added_extension("1");
            fs::rename(&path, &aside).map_err(Error::io("rename", &path))?;
        }
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let begin_bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        Ok(Self { path, file, begin_bytes })
    }

    /// Another handle, for a child to write to.
    pub(crate) fn writer(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(Error::io("open", &self.path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines of this start, or why they cannot be read: it is for an error that must not be lost.
    pub(crate) fn tail(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let begin = file.metadata()?.len().saturating_sub(QUOTED_BYTES).max(self.begin_bytes);
            file.seek(SeekFrom::Start(begin))?;
            let mut text = Vec::new();
            file.take(QUOTED_BYTES).read_to_end(&mut text)?;
            Ok(text)
        };
        read().map_or_else(|error| format!("(cannot be read: {error})"), |text| last_lines(&text))
    }
}

/// The last lines of a program's output.
pub(crate) fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_of_this_start_and_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgres.log");
        fs::write(&path, "of an earlier start\n").unwrap();
        let log = Log::open(path).unwrap();
        assert_eq!(log.tail(), "");
        for line in 0..2_000 {
            writeln!(log.writer().unwrap(), "line {line} {}", "x".repeat(20)).unwrap();
        }
        let tail = log.tail();
        assert_eq!(tail.lines().count(), QUOTED_LINES);
        assert!(tail.lines().last().unwrap().starts_with("line 1999 "), "{tail}");
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgres.log");
        File::create(&path).unwrap().set_len(ROTATE_BYTES).unwrap();
        Log::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(fs::metadata(dir.path().join("postgres.log.1")).unwrap().len(), ROTATE_BYTES);
    }
}

//! `coffer download`

use super::{Context, bar::Bar, exit::Failure, json, output::printable};
use clap::Args;
use coffer_client::{Destination, Downloaded, v1};
use indicatif::BinaryBytes;
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

#[derive(Args)]
pub(super) struct Download {
    /// The file
    #[arg(value_name = "REF")]
    reference: String,
    /// File or directory to write to; - is standard output. Without it, or in a directory, the file's own name is used
    /// and no file is replaced
    #[arg(value_name = "DEST")]
    destination: Option<PathBuf>,
    /// UUID or name of the volume for a path, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// Only these bytes: FIRST-LAST, FIRST- to the end, or -COUNT from the end
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    range: Option<Range>,
    /// Replace a file even where its name was not given
    #[arg(long)]
    force: bool,
}

/// A range as HTTP writes it, held as the contract has it: `offset` from the end if negative; `length` 0 is to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    offset: i64,
    length: i64,
}

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "must be FIRST-LAST, FIRST- or -COUNT";
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<i64>().map_err(|_| PROBLEM),
            false => Err(PROBLEM),
        };
        match text.split_once('-').ok_or(PROBLEM)? {
            ("", count) => match number(count)? {
                0 => Err("-0 would be no byte at all"),
                count => Ok(Self { offset: -count, length: 0 }),
            },
            (first, "") => Ok(Self { offset: number(first)?, length: 0 }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return Err("LAST must not be before FIRST");
                }
                let length = (last - first).checked_add(1).ok_or(PROBLEM)?;
                Ok(Self { offset: first, length })
            }
        }
    }
}

impl Download {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let file = context.reference(&self.reference, self.volume.as_deref())?;
        let Range { offset, length } = self.range.unwrap_or_default();
        let request = v1::ReadFileRequest { file: Some(file), version: 0, offset, length };
        let bar = Bar::new(printable(&self.reference).into_owned());
        let progress = |progress| bar.update(progress);
        let Some(destination) = self.destination() else {
            // With --json, too, standard output holds the bytes and nothing else.
            context.client.download(request, io::stdout(), progress).await?;
            return Ok(());
        };
        let downloaded = context.client.download_file(request, destination, progress).await?;
        drop(bar);
        let path = downloaded.path.to_string_lossy();
        if context.output.json {
            let file = json::message("File", &downloaded.file);
            let Downloaded { written_bytes, attempts, .. } = downloaded;
            return context.output.line(json!({
                "path": path,
                "written_bytes": written_bytes,
                "attempts": attempts,
                "file": file,
            }));
        }
        context.output.line(format!("{}  {}", printable(&path), BinaryBytes(downloaded.written_bytes)))
    }

    /// `None` for standard output.
    fn destination(&self) -> Option<Destination> {
        // Joined with a name it is the name alone: the current directory.
        let here = PathBuf::new();
        match &self.destination {
            Some(path) if path == Path::new("-") => None,
            Some(path) if path.is_dir() || path.to_string_lossy().ends_with('/') => {
                Some(Destination::Directory { path: path.clone(), replace: self.force })
            }
            Some(path) => Some(Destination::File(path.clone())),
            None => Some(Destination::Directory { path: here, replace: self.force }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |offset, length| Ok(Range { offset, length });
        assert_eq!("0-0".parse(), range(0, 1));
        assert_eq!("5-9".parse(), range(5, 5));
        assert_eq!("5-".parse(), range(5, 0));
        assert_eq!("0-".parse(), range(0, 0));
        assert_eq!("-7".parse(), range(-7, 0));
        let far = format!("{0}-{0}", i64::MAX);
        assert_eq!(far.parse(), range(i64::MAX, 1));
        for bad in ["", "-", "5", "9-5", "-0", "a-b", "1-2-3", "--5", "+1-2", "0-9223372036854775807", "0x1-"]
        {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}

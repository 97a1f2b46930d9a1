//! What is secret comes from a file or from standard input: arguments can be seen by other users of the machine.

use crate::command::exit::Failure;
use clap::Args;
use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::PathBuf,
};

/// Most bytes that are read: more than any secret may have.
const MOST_BYTES: u64 = 8 * 1024;

#[derive(Args)]
pub(super) struct Source {
    /// Read the secret from this file and not from standard input; one line end at its end is not part of it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Source {
    /// The secret.
    pub(super) fn read(&self) -> Result<String, Failure> {
        match &self.secret_file {
            Some(path) => {
                let file = File::open(path)
                    .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
                secret(file)
            }
            // It would be shown while it is typed.
            None if io::stdin().is_terminal() => {
                Err(Failure::Usage("the secret comes from --secret-file or from standard input".to_owned()))
            }
            None => secret(io::stdin().lock()),
        }
    }
}

fn secret(source: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    // The error may not quote what was read.
    let read = source.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::Usage(format!("cannot read the secret: {}", error.kind())))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Failure::Usage("the secret is too long".to_owned()));
    }
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() { Err(Failure::Usage("the secret is empty".to_owned())) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        for (text, expected) in
            [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" abc ", " abc "), ("a\n\n", "a\n")]
        {
            assert_eq!(secret(text.as_bytes()).unwrap(), expected);
        }
        for bad in [&b""[..], b"\n", b"\xff", &[b'a'; 9000]] {
            let Err(Failure::Usage(problem)) = secret(bad) else { panic!("{bad:?}") };
            assert!(!problem.contains("aa"), "{problem}");
        }
    }
}

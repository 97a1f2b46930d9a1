//! What the verbs tell on standard output.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line about what was done or found. That nobody reads it, as behind `| head`, is no reason to stop half way.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}")
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("cofferd: cannot write to standard output: {error}");
    }
}

/// Writes the one thing that was asked for.
pub(crate) fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

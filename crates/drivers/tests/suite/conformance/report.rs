//! How each case ended, for whoever makes a table of it: a line in the file that `COFFER_CONFORMANCE` names, if it names one.

use std::{cell::Cell, fs::File, io::Write as _};

/// Names the file.
const FILE: &str = "COFFER_CONFORMANCE";

thread_local! {
    /// What the case that runs on this thread needs and its driver does not offer.
    static LACKED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Says that the case ends here, since its driver has not this capability.
pub(super) fn lacks(capability: &'static str) {
    eprintln!("not offered: {capability}");
    LACKED.set(Some(capability));
}

/// A case on a backend. One that ends without a word has failed.
pub(super) struct Case {
    backend: &'static str,
    name: &'static str,
    is_over: bool,
}

impl Case {
    pub(super) fn begin(backend: &'static str, name: &'static str) -> Self {
        LACKED.set(None);
        Self { backend, name, is_over: false }
    }

    /// It is kept, or not offered.
    pub(super) fn kept(self) {
        match LACKED.take() {
            None => self.end("ok", ""),
            Some(capability) => self.end("-", capability),
        }
    }

    /// Its backend is missing.
    pub(super) fn ignored(self) {
        self.end("ignored", "");
    }

    fn end(mut self, outcome: &str, note: &str) {
        self.is_over = true;
        self.tell(outcome, note);
    }

    fn tell(&self, outcome: &str, note: &str) {
        let Some(path) = std::env::var_os(FILE) else { return };
        let line = format!("{}\t{}\t{outcome}\t{note}\n", self.backend, self.name);
        // One write: cases run beside each other.
        let written = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if !self.is_over {
            self.tell("failed", "");
        }
    }
}

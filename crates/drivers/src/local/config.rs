//! Where a local volume is, and how it is written.

use std::path::PathBuf;

/// A volume in a directory of the host.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The directory, absolute. It has to exist and its last component must not be a symlink.
    pub root: PathBuf,
    /// Put before every key: empty, or segments each followed by `/`. Its directories are made when they are needed.
    pub prefix: String,
    /// Where an object is while it is being written.
    pub staging: Staging,
}

/// Where an object is while it is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Staging {
    /// In a file without a name, where the file system can (`O_TMPFILE`): it ends with the process that writes it. Else as
    /// [`Staging::Named`].
    #[default]
    Unnamed,
    /// In `.coffer/staging/{upload id}`.
    Named,
}

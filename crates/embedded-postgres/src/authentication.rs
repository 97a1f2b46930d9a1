//! Who may connect: this process's user, over the socket, as the role `coffer`. There is no password anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::run_as::RunAs;

/// The two files that tell PostgreSQL so. They lie outside the data directory and are written at every start,
/// because the user who starts a cluster may be another than the one who made it.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) hba: PathBuf,
    pub(crate) ident: PathBuf,
}

pub(crate) fn write(dir: &Path, run_as: RunAs) -> Result<Files, Error> {
    let files = Files { hba: dir.join("pg_hba.conf"), ident: dir.join("pg_ident.conf") };
    let client = run_as.client_name()?;
    write_file(&files.hba, "local all all peer map=coffer\n")?;
    write_file(&files.ident, &format!("coffer \"{client}\" coffer\n"))?;
    Ok(files)
}

fn write_file(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(Error::io("write", path))?;
    // Whatever our umask is, the user that runs PostgreSQL has to read it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .map_err(Error::io("change the mode of", path))
}

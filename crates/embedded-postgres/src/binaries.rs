//! Which PostgreSQL to run.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// Where Debian and Ubuntu keep their versions, outside PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

const PROGRAMS: [&str; 3] = ["postgres", "initdb", "psql"];

/// The programs of one installed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    dir: PathBuf,
    /// The major version, such as 15.
    pub(crate) version: u32,
}

impl Binaries {
    /// The installed version: from `COFFER_POSTGRES_BIN`, else from PATH, else the highest below
    /// `/usr/lib/postgresql`; where `data` already is a data directory, the first of the version that made it.
    pub(crate) fn find(data: &Path) -> Result<Self, Error> {
        let explicit = std::env::var_os("COFFER_POSTGRES_BIN").filter(|dir| !dir.is_empty());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = match explicit {
            Some(dir) => vec![explicitly(Path::new(&dir))?],
            None => installed(&path, Path::new(DEBIAN)),
        };
        choose(found, data)
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(crate) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    pub(crate) fn psql(&self) -> PathBuf {
        self.dir.join("psql")
    }
}

fn explicitly(dir: &Path) -> Result<Binaries, Error> {
    let bad = |reason: String| Error::BadBinaries { dir: dir.to_owned(), reason };
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !dir.join(program).is_file()) {
        return Err(bad(format!("no program {missing} in it")));
    }
    let version = version(dir).map_err(|error| bad(error.to_string()))?;
    Ok(Binaries { dir: dir.canonicalize().map_err(|error| bad(error.to_string()))?, version })
}

/// Every usable version, the preferred one first.
fn installed(path: &OsStr, debian: &Path) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    // `postgres` in PATH is often a link, and the `psql` beside it a wrapper that chooses another version:
    // the directory behind the link has the programs that belong together.
    let in_path = std::env::split_paths(path)
        .filter_map(|dir| dir.join("postgres").canonicalize().ok()?.parent().map(Path::to_owned));
    let mut below_debian: Vec<Binaries> = fs::read_dir(debian)
        .into_iter()
        .flatten()
        .filter_map(|entry| usable(entry.ok()?.path().join("bin")))
        .collect();
    below_debian.sort_by_key(|binaries| std::cmp::Reverse(binaries.version));
    for binaries in in_path.filter_map(usable).chain(below_debian) {
        if !found.contains(&binaries) {
            found.push(binaries);
        }
    }
    found
}

fn usable(dir: PathBuf) -> Option<Binaries> {
    if PROGRAMS.iter().any(|program| !dir.join(program).is_file()) {
        return None;
    }
    let version = version(&dir).ok()?;
    Some(Binaries { dir, version })
}

/// The major version in "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
fn version(dir: &Path) -> io::Result<u32> {
    let output = Command::new(dir.join("postgres")).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.split_whitespace().nth(2).unwrap_or_default();
    let major: String = number.chars().take_while(char::is_ascii_digit).collect();
    major.parse().map_err(|_| io::Error::other(format!("no version in the answer {:?}", text.trim())))
}

fn choose(found: Vec<Binaries>, data: &Path) -> Result<Binaries, Error> {
    let file = data.join("PG_VERSION");
    let wanted = match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read", &file)(error)),
    };
    let Some(wanted) = wanted else { return found.into_iter().next().ok_or(Error::NotInstalled) };
    let versions: Vec<String> = found.iter().map(|binaries| binaries.version.to_string()).collect();
    if versions.is_empty() {
        return Err(Error::NotInstalled);
    }
    found.into_iter().find(|binaries| binaries.version == wanted).ok_or_else(|| Error::Version {
        data: data.to_owned(),
        wanted,
        found: versions.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Programs that do no more than tell a version.
    fn install(dir: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        for program in PROGRAMS {
            let file = dir.join(program);
            fs::write(&file, format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir.to_owned()
    }

    #[test]
    fn path_is_first_and_links_are_followed_then_the_highest_version() {
        let root = tempfile::tempdir().unwrap();
        let linked = install(&root.path().join("14/bin"), "14.9");
        install(&root.path().join("debian/9/bin"), "9.6");
        install(&root.path().join("debian/17/bin"), "17beta1 (Debian)");
        install(&root.path().join("debian/16/bin"), "16.2");
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(linked.join("postgres"), bin.join("postgres")).unwrap();

        let found = installed(bin.as_os_str(), &root.path().join("debian"));
        let versions: Vec<u32> = found.iter().map(|binaries| binaries.version).collect();
        assert_eq!(versions, [14, 17, 16, 9]);
        assert_eq!(found[0].dir, linked.canonicalize().unwrap());
    }

    #[test]
    fn an_incomplete_installation_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let dir = install(&root.path().join("15/bin"), "15.1");
        fs::remove_file(dir.join("psql")).unwrap();
        assert_eq!(installed(dir.as_os_str(), root.path()), []);
        assert!(matches!(choose(Vec::new(), root.path()), Err(Error::NotInstalled)));
        let error = explicitly(&dir).unwrap_err();
        assert!(error.to_string().contains("no program psql"), "{error}");
    }

    #[test]
    fn existing_data_choose_their_own_version() {
        let root = tempfile::tempdir().unwrap();
        install(&root.path().join("17/bin"), "17.1");
        install(&root.path().join("15/bin"), "15.1");
        let data = root.path().join("pg");
        fs::create_dir(&data).unwrap();
        let found = installed(OsStr::new(""), root.path());

        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(choose(found.clone(), &data).unwrap().version, 15);
        fs::write(data.join("PG_VERSION"), "16\n").unwrap();
        let error = choose(found, &data).unwrap_err();
        assert!(matches!(&error, Error::Version { wanted: 16, found, .. } if found == "17, 15"), "{error}");
    }
}

//! Files to transfer, and directories for the time of a task.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::process::output;
use crate::workspace::Workspace;

/// Bytes in a KiB, and so on.
pub(crate) const MIB: u64 = 1024 * 1024;

/// Writes `size_bytes` of content that does not compress, the same every time.
pub(crate) fn write(path: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).with_context(context)?);
    let mut state = 0x00c0_ffe4_u64;
    let mut left = size_bytes;
    while left > 0 {
        let word = split_mix(&mut state).to_le_bytes();
        let take = left.min(8);
        // At most 8.
        file.write_all(&word[..take as usize]).with_context(context)?;
        left -= take;
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?.sync_all()?;
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SHA-256 of a file by `sha256sum`, a witness that shares no code with Coffer.
pub(crate) fn sha256(workspace: &Workspace, path: &Path) -> anyhow::Result<String> {
    let printed = output(workspace.command("sha256sum").arg("--binary").arg(path))?;
    let digest = printed.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    ensure!(digest.len() == 64, "sha256sum printed {printed:?}");
    Ok(digest.to_owned())
}

/// A new directory below `target/`, removed with all that is in it when dropped.
pub(crate) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(crate) fn new(workspace: &Workspace, task: &str) -> anyhow::Result<Self> {
        let path = workspace.target(format!("{task}-{}", std::process::id()));
        // What a killed task with the same process id may have left.
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot clear {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_mix;

    #[test]
    fn the_numbers_are_those_of_the_paper() {
        // The reference implementation's first three with seed 1234567.
        let mut state = 1_234_567;
        let first = [(); 3].map(|()| split_mix(&mut state));
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}

//! What is found out of a server before it is used.

use super::client::{Mode, Session};
use crate::remote::Failure;
use coffer_domain::driver::ErrorKind;
use std::path::PathBuf;

/// What is written to find out what the server does: as much again of it is put in its second half's place.
const FIRST: &[u8] = b"what a server keeps of a file it gives back";
const SECOND: &[u8] = b"WHAT A SERVER KEEPS OF A FILE IT GIVES BACK";
const HALF: usize = 20;

/// What a server does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Can {
    /// Sync a file to its disk.
    pub(super) sync: bool,
    /// Write into the middle of a file, and cut it.
    pub(super) resume: bool,
    /// Refuse to give a file the name of another.
    pub(super) refuse: bool,
}

/// The folder that the configuration names, with a slash at its end.
pub(super) async fn find_root(session: &mut Session, path: &str) -> Result<String, Failure> {
    let trimmed = path.trim_end_matches('/');
    if path.starts_with('/') {
        return Ok(format!("{trimmed}/"));
    }
    let found = session.real_path(if trimmed.is_empty() { "." } else { trimmed }).await;
    match found {
        Ok(found) => real(found),
        Err(failure) if failure.is_absent() => {
            Err(Failure::wrong(ErrorKind::Unavailable, "the volume's folder is not there"))
        }
        Err(failure) => Err(failure),
    }
}

/// A folder's full name, which leads nowhere else.
fn real(found: PathBuf) -> Result<String, Failure> {
    let text = found.into_os_string().into_string().ok();
    let is_real = |text: &String| {
        let rest = text.strip_prefix('/');
        let is_plain = |segment: &str| !matches!(segment, "" | "." | "..");
        rest.is_some_and(|rest| rest.is_empty() || rest.split('/').all(is_plain))
            && !text.chars().any(char::is_control)
    };
    match text.filter(is_real) {
        Some(text) if text == "/" => Ok(text),
        Some(text) => Ok(format!("{text}/")),
        None => Err(Failure::wrong(ErrorKind::BadAnswer, "the server names a folder that is none")),
    }
}

/// What the server does with two files.
pub(super) async fn try_out(session: &mut Session, [one, other]: &[String; 2]) -> Result<Can, Failure> {
    session.create(one).await?;
    session.write_at(0, FIRST).await?;
    let sync = succeeds(session.sync().await)?;
    session.close().await?;
    if read_whole(session, one).await? != FIRST {
        return Err(Failure::wrong(ErrorKind::BadAnswer, "a file that was written reads as another"));
    }
    let resumed = async {
        session.open(one, Mode::Write).await?;
        session.cut(HALF as u64).await?;
        session.write_at(HALF as u64, &SECOND[HALF..]).await?;
        session.close().await
    };
    let resumed = succeeds(resumed.await)?;
    session.close().await?;
    let mixed = [&FIRST[..HALF], &SECOND[HALF..]].concat();
    let resume = resumed && read_whole(session, one).await? == mixed;
    session.write_whole(other, SECOND, false).await?;
    let refuse = !succeeds(session.rename(other, one).await)? && read_whole(session, other).await? == SECOND;
    Ok(Can { sync, resume, refuse })
}

/// Whether the server did it, or refused.
fn succeeds<T>(outcome: Result<T, Failure>) -> Result<bool, Failure> {
    match outcome {
        Ok(_) => Ok(true),
        Err(Failure::Refused { .. }) => Ok(false),
        // A write that was refused without a reason.
        Err(Failure::Wrong { .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}

async fn read_whole(session: &mut Session, path: &str) -> Result<Vec<u8>, Failure> {
    session.open(path, Mode::Read).await?;
    // A server may have more to say than it was given.
    let mut content = vec![0; FIRST.len() + 1];
    let read = session.read_at(0, &mut content).await?;
    session.close().await?;
    content.truncate(read);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_name_is_a_folder() {
        for (found, expected) in [("/", Some("/")), ("/a", Some("/a/")), ("/a/b c", Some("/a/b c/"))] {
            assert_eq!(real(found.into()).ok().as_deref(), expected, "{found}");
        }
        for found in ["", "a", ".", "..", "/..", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\nb"] {
            assert_eq!(real(found.into()).unwrap_err().kind(), ErrorKind::BadAnswer, "{found:?}");
        }
    }
}

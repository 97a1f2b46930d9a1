//! Goes on with what a writer has left.

use super::{
    client::Mode,
    files::Found,
    space::Space,
    writer::{Task, Writer},
};
use crate::remote::{Failure, Hold, insist};
use coffer_domain::{
    driver::{ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use std::sync::Arc;

/// A writer that takes bytes from `size` on. What is at the key is taken back first, by its staged name.
pub(super) async fn resume(
    space: Arc<Space>,
    upload: UploadId,
    key: Key,
    size: u64,
    options: WriteOptions,
    hold: Hold,
) -> Result<Writer, Failure> {
    let turn = space.turn(upload).await?;
    let (staged, target) = (space.staged(upload), space.path(&key));
    let mut session = insist(|| space.sessions.get()).await?;
    space.expect_way(&mut session, &staged).await?;
    space.expect_way(&mut session, &target).await?;
    let there = match session.object(&staged).await? {
        Some(stat) => {
            // A server that was stopped while it published leaves both names; another file at the key is left alone.
            if session.is_one_file(&staged, &target).await? {
                session.remove(&target).await?;
            }
            Some(stat.size)
        }
        None => match session.look(&target).await? {
            Some(Found::File { size: Some(there), .. }) if there >= size => {
                session = space.rename(Some(session), &target, &staged, there).await?;
                Some(there)
            }
            Some(_) if size > 0 => return Err(less()),
            _ => None,
        },
    };
    let task = Task::new(Arc::clone(&space), staged.clone(), turn);
    let task = match there {
        Some(there) if there < size => return Err(less()),
        Some(there) => {
            session.open(&staged, Mode::Write).await?;
            if there > size {
                session.cut(size).await?;
            }
            if session.size().await? != size {
                return Err(Failure::wrong(ErrorKind::BadAnswer, "the server does not cut a file"));
            }
            task.follow(session, size)
        }
        None if size == 0 => task,
        None => return Err(less()),
    };
    Ok(Writer::new(space, key, options, Some(hold), task, size))
}

fn less() -> Failure {
    Failure::wrong(ErrorKind::NotFound, "less was stored")
}

//! Goes on with what a writer has left.
//!
//! A resumable upload is staged in one file, whose name is when its writer began. Who goes on with it gives it a new name first: what a
//! writer that is believed dead begins later, he begins at the old one.

use super::{
    lines::Is,
    space::Space,
    writer::{Writer, copy},
};
use crate::remote::{Failure, Hold};
use coffer_domain::{
    driver::{ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use std::sync::Arc;

/// Where the first writer of an upload stages it.
pub(super) fn first(space: &Space, upload: UploadId) -> String {
    name(space, upload, now())
}

/// A writer that takes bytes from `size` on. What is at the key is taken back where nothing is staged: it is what was.
pub(super) async fn resume(
    space: Arc<Space>,
    upload: UploadId,
    key: &Key,
    size: u64,
    options: WriteOptions,
    hold: Hold,
) -> Result<Writer, Failure> {
    let published = space.client.name(key);
    if size == 0 {
        space.sweep(upload).await?;
        space.client.remove(&published).await?;
        let staged = first(&space, upload);
        return Ok(Writer::new(space, upload, key.clone(), options, Some(hold), staged));
    }
    let found = newest(&space, upload).await?;
    let generation = found.map_or(0, |(generation, _)| generation.saturating_add(1)).max(now());
    let mut staged = name(&space, upload, generation);
    let (from, length) = match found {
        Some((found, length)) => (name(&space, upload, found), Some(length)),
        None => {
            let length = space.client.size(&published).await?;
            (published, length)
        }
    };
    let mut length = length.filter(|length| *length >= size).ok_or_else(less_is_there)?;
    space.client.rename(&from, &staged, length).await.map_err(|failure| match failure.kind() {
        // Somebody else was faster.
        ErrorKind::NotFound | ErrorKind::Denied => {
            Failure::wrong(ErrorKind::Unavailable, "what is staged has another name meanwhile")
        }
        _ => failure,
    })?;
    if length > size && !space.overwrites {
        // Named as one that counts when it is whole.
        let cut = format!("{}whole", space.folder(upload));
        copy(&space, &staged, &cut, size).await?;
        let shorter = name(&space, upload, generation.saturating_add(1));
        space.client.rename(&cut, &shorter, size).await?;
        space.client.remove(&staged).await?;
        (staged, length) = (shorter, size);
    }
    let mut writer = Writer::new(space, upload, key.clone(), options, Some(hold), staged);
    writer.follow(size, length);
    Ok(writer)
}

fn less_is_there() -> Failure {
    Failure::wrong(ErrorKind::NotFound, "less was stored")
}

/// The file of the last writer, and its length.
async fn newest(space: &Space, upload: UploadId) -> Result<Option<(u64, u64)>, Failure> {
    let folder = space.folder(upload);
    let Some(entries) = space.client.folder(&folder).await? else {
        return Ok(None);
    };
    let generation = |name: &str| {
        let own = name.strip_prefix(&folder).filter(|own| own.len() == 16)?;
        u64::from_str_radix(own, 16).ok()
    };
    let files = entries.iter().filter_map(|entry| match entry.is {
        Is::File { size, .. } => Some((generation(&entry.name)?, size)),
        Is::Folder | Is::Nothing => None,
    });
    Ok(files.max())
}

fn name(space: &Space, upload: UploadId, generation: u64) -> String {
    format!("{}{generation:016x}", space.folder(upload))
}

/// In milliseconds of the clock.
fn now() -> u64 {
    u64::try_from(coffer_domain::time::now().timestamp_millis()).unwrap_or_default()
}

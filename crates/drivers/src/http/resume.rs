//! Goes on with what a writer has left. Needs WebDAV: without it nobody tells what is there.

use super::{space::Space, writer::Writer};
use crate::remote::{Failure, Hold, Piece, cover, next_generation};
use coffer_domain::{
    driver::{ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use std::sync::Arc;

/// A writer that takes bytes from `size` on. What is at the key is taken back first, by a name among the pieces.
pub(super) async fn resume(
    space: Arc<Space>,
    upload: UploadId,
    key: &Key,
    size: u64,
    options: WriteOptions,
    hold: Hold,
) -> Result<Writer, Failure> {
    let name = space.client.name(key);
    let mut pieces = find(&space, upload).await?;
    let published = space.stat(&name).await?;
    let mut generation = next_generation(&pieces);
    let mut writer = Writer::new(Arc::clone(&space), upload, key.clone(), options, Some(hold));
    if size == 0 {
        space.sweep(upload).await?;
        if published.is_some() {
            space.remove(&name).await?;
        }
        writer.follow(generation, 0, Vec::new());
        return Ok(writer);
    }
    let is_covered = cover(&pieces, 0, size).is_some();
    match published {
        Some(_) if is_covered => space.remove(&name).await?,
        Some(stat) if stat.size >= size => {
            let piece = Piece { generation, begin: 0, range: 0..stat.size };
            let folder = space.folder(upload);
            space.client.rename(&name, &format!("{folder}{piece}"), stat.size).await?;
            pieces.push(piece);
            generation += 1;
        }
        None if is_covered => {}
        _ => return Err(Failure::wrong(ErrorKind::NotFound, "less was stored")),
    }
    writer.follow(generation, size, pieces);
    Ok(writer)
}

/// The pieces that are whole: a server may keep half of one whose sender was cut off.
async fn find(space: &Space, upload: UploadId) -> Result<Vec<Piece>, Failure> {
    let folder = space.folder(upload);
    let found = space.client.folder(&folder).await?.unwrap_or_default();
    let pieces = found.into_iter().filter_map(|entry| {
        let piece = Piece::parse(entry.name.strip_prefix(&folder)?)?;
        (entry.stat?.size == piece.range.end - piece.range.start).then_some(piece)
    });
    Ok(pieces.collect())
}

//! Goes on with what a writer has left.

use super::{
    super::{
        bucket::Bucket,
        multipart::{Layout, Multipart, Part},
        objects::Head,
        reader::Content,
        writer::Writer,
    },
    Staged, clear, find, piece_name,
};
use crate::remote::{Failure, Hold, Piece, cover, next_generation, reading};
use coffer_domain::{
    driver::{ErrorKind, WriteOptions},
    id::UploadId,
    path::Key,
};
use futures_util::TryStreamExt as _;
use std::sync::Arc;

/// A writer that takes bytes from `size` on.
///
/// What is at the key is taken back first, by a copy among the pieces. Then the parts that end before `size` are kept, and what is
/// between them and `size` is read from the pieces. Each step may be repeated: if this is given up, the next try goes on where it was.
pub(in super::super) async fn resume(
    bucket: Arc<Bucket>,
    upload: UploadId,
    key: &Key,
    size: u64,
    options: WriteOptions,
    hold: Hold,
) -> Result<Writer, Failure> {
    let client = Arc::clone(&bucket.client);
    let name = client.name(key);
    let mut staged = find(&client, upload).await?;
    let published = client.head(&name).await?.filter(|head| head.may_be_of(upload));
    let mut generation = next_generation(&staged.pieces);
    if size == 0 {
        clear(&client, upload, staged).await?;
        if published.is_some_and(|head| head.is_of(upload)) {
            client.remove(&name).await?;
        }
        let mut writer = Writer::new(bucket, upload, key.clone(), options, Some(hold));
        writer.follow(generation, 0);
        return Ok(writer);
    }
    let kept = kept(&bucket, &staged, key, size).await?;
    let is_covered = cover(&staged.pieces, kept.end, size).is_some();
    match published {
        Some(head) => {
            if !is_covered {
                let piece = take_back(&bucket, upload, &name, size, &head, generation).await?;
                staged.names.push(piece_name(&client, upload, &piece));
                staged.pieces.push(piece);
                generation += 1;
            }
            client.remove(&name).await?;
        }
        None if is_covered => {}
        None => return Err(Failure::wrong(ErrorKind::NotFound, "less was stored")),
    }
    let pieces = cover(&staged.pieces, kept.end, size)
        .ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "pieces that were there are not"))?;
    let mut writer = Writer::new(bucket, upload, key.clone(), options, Some(hold));
    writer.follow(generation, size);
    writer.go_on(kept.multipart, kept.parts, kept.end, staged.names.clone());
    for (piece, range) in &pieces {
        let wanted = range.start - piece.range.start..range.end - piece.range.start;
        let content = Content { client: Arc::clone(&client), name: piece_name(&client, upload, piece) };
        let mut bytes = reading::read(content, wanted).await?;
        while let Some(bytes) = bytes.try_next().await? {
            writer.append(bytes).await?;
        }
        if writer.written() != range.end {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "a piece is shorter than its name says"));
        }
    }
    writer.settle().await?;
    let in_next_part = pieces.iter().filter(|(_, range)| range.end > writer.part_start()).count();
    writer.count_pieces(in_next_part);
    Ok(writer)
}

/// Parts that stay.
struct Kept {
    multipart: Option<(Multipart, Layout)>,
    parts: Vec<Part>,
    end: u64,
}

/// The parts that are whole, lie as they must, and end at `size` at the latest.
async fn kept(bucket: &Arc<Bucket>, staged: &Staged, key: &Key, size: u64) -> Result<Kept, Failure> {
    let none = Kept { multipart: None, parts: Vec::new(), end: 0 };
    let Some(record) = staged.record.as_ref().filter(|record| record.key == *key && !record.id.is_empty())
    else {
        return Ok(none);
    };
    let multipart = Multipart { name: bucket.client.name(key), id: record.id.clone() };
    let Some(found) = bucket.client.parts(&multipart).await? else { return Ok(none) };
    let (mut parts, mut end) = (Vec::new(), 0);
    for part in found {
        let number = parts.len() + 1;
        let is_next = part.number == number as i64 && part.size == record.layout.size(number);
        if !is_next || end + part.size > size {
            break;
        }
        end += part.size;
        parts.push(part);
    }
    Ok(Kept { multipart: Some((multipart, record.layout)), parts, end })
}

/// Makes a piece of the object at the key.
async fn take_back(
    bucket: &Bucket,
    upload: UploadId,
    name: &str,
    size: u64,
    head: &Head,
    generation: u64,
) -> Result<Piece, Failure> {
    if head.size < size {
        return Err(Failure::wrong(ErrorKind::NotFound, "less was published"));
    }
    let piece = Piece { generation, begin: 0, range: 0..head.size };
    let copy = piece_name(&bucket.client, upload, &piece);
    bucket.client.copy(name, &copy).await?;
    // Some servers answer well and copy nothing.
    match bucket.client.head(&copy).await? {
        Some(copy) if copy.size == head.size => Ok(piece),
        _ => Err(Failure::wrong(ErrorKind::Unsupported, "copies are not made")),
    }
}

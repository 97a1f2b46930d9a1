//! Keys in byte order.

use super::{
    client::{Client, Shape},
    objects::size,
};
use crate::remote::{Failure, insist, moment, names};
use coffer_domain::{
    driver::{ErrorKind, Listed, Stat},
    path::Key,
};
use rusoto_s3::{ListObjectsV2Request, Object, S3 as _};
use std::sync::Arc;

/// Most names of a page.
const PAGE: usize = 1_000;
/// Pages that are asked for without a name that counts before the listing is given up.
const MOST_EMPTY_PAGES: usize = 1_000;

/// Objects of a volume, in the order of their keys.
pub(super) async fn list(
    client: &Arc<Client>,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Listed>, Failure> {
    if !names::may_begin_a_key(prefix) {
        return Ok(Vec::new());
    }
    let shows_reserved = names::shows_reserved(prefix, after);
    let (mut found, mut cursor) = (Vec::new(), after.map(|key| client.name(key)));
    for _ in 0..MOST_EMPTY_PAGES {
        let (page, is_last) =
            page(client, &client.below(prefix), cursor.as_deref(), limit.saturating_sub(found.len())).await?;
        let mut is_skipping = false;
        for Object { key, size: bytes, last_modified, .. } in page {
            let name = names::unescape(key.as_deref().unwrap_or_default(), true);
            let name = name.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a name that is no text"))?;
            if cursor.as_ref().is_some_and(|last| *last >= name) {
                return Err(Failure::wrong(ErrorKind::BadAnswer, "a listing that is not in order"));
            }
            let inside = client.inside(&name).map(str::to_owned);
            cursor = Some(name);
            // Folder markers and names that no key has are not ours.
            let Some(key) = inside.and_then(|inside| Key::parse(inside).ok()) else { continue };
            if !shows_reserved && names::is_reserved(&key) {
                is_skipping = true;
                break;
            }
            let stat = Stat { size: size(bytes)?, changed_at: moment(last_modified.as_deref())? };
            found.push(Listed { key, stat });
        }
        if is_skipping {
            // Behind everything that the service keeps there.
            cursor = Some(client.below(".coffer/~")).max(cursor);
        } else if is_last || found.len() >= limit {
            return Ok(found);
        }
        if found.len() >= limit {
            return Ok(found);
        }
    }
    Err(Failure::wrong(ErrorKind::BadAnswer, "too many names that are no keys"))
}

async fn page(
    client: &Arc<Client>,
    prefix: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<Object>, bool), Failure> {
    let request = ListObjectsV2Request {
        bucket: client.bucket.clone(),
        prefix: Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()),
        start_after: cursor.map(str::to_owned),
        max_keys: Some(limit.clamp(1, PAGE) as i64),
        // XML cannot carry every character.
        encoding_type: Some("url".to_owned()),
        ..ListObjectsV2Request::default()
    };
    let ask = || {
        client.call(Shape::root("ListBucketResult"), |s3| {
            let request = request.clone();
            async move { s3.list_objects_v2(request).await }
        })
    };
    let page = insist(ask).await?;
    let objects = page.contents.unwrap_or_default();
    match page.is_truncated {
        Some(true) if objects.is_empty() => Err(Failure::wrong(ErrorKind::BadAnswer, "a page without names")),
        Some(is_truncated) => Ok((objects, !is_truncated)),
        None => Err(Failure::wrong(ErrorKind::BadAnswer, "a page that does not say whether it is the last")),
    }
}

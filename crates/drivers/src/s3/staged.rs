//! What an upload leaves below `.coffer/staging/{upload id}/`, so that another process can go on with it or remove it.
//!
//! - `multipart`: the key, the backend's id of the multipart upload, and the layout of its parts. Written without the id before there is
//!   one, so that one that nobody heard of can be found.
//! - pieces: bytes that are in no part yet, or an object that was taken back. See [`Piece`].

mod resume;

pub(super) use resume::resume;

use super::{
    bucket::Bucket,
    client::{Client, Shape},
    multipart::{Layout, Multipart},
    reader::Content,
};
use crate::remote::{Failure, Piece, insist, reading};
use bytes::{Bytes, BytesMut};
use coffer_domain::{
    driver::ErrorKind,
    id::UploadId,
    path::{Key, STAGING},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rusoto_s3::{ListObjectsV2Request, S3 as _};
use std::sync::Arc;

/// Most objects that an upload leaves, which is far more than a writer makes.
const MOST_STAGED: usize = 100_000;
/// Removals under way at a time.
const REMOVALS: usize = 8;
const RECORD: &str = "multipart";

/// What was found of an upload.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// Names in the bucket, of everything.
    pub(super) names: Vec<String>,
    /// Bytes that are objects of their own.
    pub(super) pieces: Vec<Piece>,
    pub(super) record: Option<Record>,
}

/// What is noted of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Key,
    /// The backend's id; empty before there is one.
    pub(super) id: String,
    pub(super) layout: Layout,
}

impl Record {
    fn to_text(&self) -> String {
        let Self { key, id, layout: Layout { first, period } } = self;
        format!("{key}\n{id}\n{first}\n{period}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (key, id) = (Key::parse(lines.next()?).ok()?, lines.next()?.to_owned());
        let (first, period) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
        (first > 0 && period > 0).then_some(Self { key, id, layout: Layout { first, period } })
    }
}

/// Where everything of an upload is.
fn folder(client: &Client, upload: UploadId) -> String {
    client.below(&format!("{STAGING}{upload}/"))
}

/// The name of the record.
pub(super) fn record_name(client: &Client, upload: UploadId) -> String {
    format!("{}{RECORD}", folder(client, upload))
}

/// The key of a piece.
fn piece_key(upload: UploadId, piece: &Piece) -> Key {
    Key::parse(format!("{STAGING}{upload}/{piece}")).expect("an id and hexadecimal digits are segments")
}

/// The name of a piece.
pub(super) fn piece_name(client: &Client, upload: UploadId, piece: &Piece) -> String {
    format!("{}{piece}", folder(client, upload))
}

/// Writes the record.
pub(super) async fn note(bucket: &Bucket, upload: UploadId, record: &Record) -> Result<(), Failure> {
    let content = Bytes::from(record.to_text());
    let parcel = bucket.integrity.parcel(vec![content]).await;
    bucket.client.put(&record_name(&bucket.client, upload), &parcel, None).await.map(drop)
}

/// Everything that an upload has left.
pub(super) async fn find(client: &Arc<Client>, upload: UploadId) -> Result<Staged, Failure> {
    let folder = folder(client, upload);
    let mut staged = Staged::default();
    let mut cursor: Option<String> = None;
    loop {
        let request = ListObjectsV2Request {
            bucket: client.bucket.clone(),
            prefix: Some(folder.clone()),
            start_after: cursor.clone(),
            ..ListObjectsV2Request::default()
        };
        let ask = || {
            client.call(Shape::root("ListBucketResult"), |s3| {
                let request = request.clone();
                async move { s3.list_objects_v2(request).await }
            })
        };
        let page = insist(ask).await?;
        for object in page.contents.unwrap_or_default() {
            let Some(name) = object.key else { continue };
            let Some(own) = name.strip_prefix(&folder) else { continue };
            staged.pieces.extend(Piece::parse(own));
            cursor = Some(name.clone());
            staged.names.push(name);
        }
        if page.is_truncated != Some(true) {
            break;
        }
        if staged.names.len() > MOST_STAGED {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "more is staged than there may be"));
        }
    }
    let record = record_name(client, upload);
    if staged.names.contains(&record) {
        let text = whole(client, &record).await?;
        staged.record = std::str::from_utf8(&text).ok().and_then(Record::parse);
    }
    Ok(staged)
}

async fn whole(client: &Arc<Client>, name: &str) -> Result<Bytes, Failure> {
    /// A key, an id and two numbers.
    const MOST: u64 = 16 * 1024;
    let content = Content { client: Arc::clone(client), name: name.to_owned(), version: None };
    let pieces = reading::read(content, 0..MOST).await?;
    let whole = pieces.try_fold(BytesMut::new(), |mut whole, piece| async move {
        whole.extend_from_slice(&piece);
        Ok(whole)
    });
    Ok(whole.await?.freeze())
}

/// Removes objects, and where the bucket keeps versions those too: nobody will ask for what was staged.
pub(super) async fn remove(client: &Arc<Client>, names: Vec<String>) -> Result<(), Failure> {
    stream::iter(names.into_iter().map(Ok))
        .try_for_each_concurrent(REMOVALS, |name| async move { client.erase(&name).await })
        .await
}

/// Removes everything that an upload has left. The record goes last: without it nobody finds the parts.
pub(super) async fn sweep(client: &Arc<Client>, upload: UploadId) -> Result<(), Failure> {
    let staged = find(client, upload).await?;
    clear(client, upload, staged).await
}

/// Removes what was found.
pub(super) async fn clear(client: &Arc<Client>, upload: UploadId, staged: Staged) -> Result<(), Failure> {
    if let Some(record) = &staged.record {
        end(client, record).await?;
    }
    let record = record_name(client, upload);
    let (last, first): (Vec<_>, Vec<_>) = staged.names.into_iter().partition(|name| *name == record);
    remove(client, first).await?;
    remove(client, last).await
}

/// Ends the multipart upload of a record, without an object. One that is over is a success.
pub(super) async fn end(client: &Arc<Client>, record: &Record) -> Result<(), Failure> {
    let name = client.name(&record.key);
    let under_way = match record.id.is_empty() {
        // Whoever asked for one did not live to hear its id.
        true => client.multiparts(&name).await?,
        false => vec![Multipart { name, id: record.id.clone() }],
    };
    stream::iter(under_way).map(Ok).try_for_each(|one| async move { client.abort(&one).await }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back() {
        let record = Record {
            key: Key::parse("a b/ü").unwrap(),
            id: "2~x/+=".to_owned(),
            layout: Layout { first: 5, period: 7 },
        };
        assert_eq!(Record::parse(&record.to_text()), Some(record.clone()));
        let unheard = Record { id: String::new(), ..record };
        assert_eq!(Record::parse(&unheard.to_text()), Some(unheard));
        for bad in ["", "a\nid\n1\n", "a/../b\nid\n1\n1\n", "a\nid\n0\n1\n", "a\nid\nx\n1\n"] {
            assert_eq!(Record::parse(bad), None, "{bad:?}");
        }
    }
}

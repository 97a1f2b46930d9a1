//! Objects that the backend makes of others.

use super::{
    bucket::Bucket,
    client::{Client, Shape},
    integrity::Integrity,
    multipart::{Layout, Multipart, Part},
    objects::metadata,
    staged::{self, Record},
};
use crate::{
    remote::{Failure, insist, time_to_copy},
    wire,
};
use coffer_domain::{
    driver::{ErrorKind, Published},
    id::UploadId,
    path::Key,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rusoto_s3::{CopyObjectRequest, S3 as _, UploadPartCopyRequest};
use std::{ops::Range, sync::Arc};

/// Bytes of a part: of 5 GiB that it may have, few enough for an answer in time.
const PART_BYTES: u64 = 1024 * 1024 * 1024;
/// Parts under way at a time.
const PARTS: usize = 4;

/// Copies the object of this name and size to `to`, as one of `upload`; answers the copy. Nothing is left of what fails but
/// what [`staged::sweep`] removes.
pub(super) async fn copy(
    bucket: &Bucket,
    upload: UploadId,
    from: &str,
    size: u64,
    to: &Key,
) -> Result<Published, Failure> {
    let client = &bucket.client;
    let name = client.name(to);
    if size <= bucket.copied_at_once_bytes {
        client.copy(from, size, &name, upload).await?;
    } else {
        match in_parts(bucket, upload, from, size, to).await {
            // Servers that cannot do that have no limit for the whole either.
            Err(failure) if failure.kind() == ErrorKind::Unsupported => {
                client.copy(from, size, &name, upload).await.map_err(too_large)?;
            }
            outcome => outcome?,
        }
    }
    // Some servers answer well and copy nothing.
    match client.head(&name).await? {
        Some(head) if head.size == size => Ok(Published { size, version: head.version }),
        head => {
            if head.is_some() {
                client.erase(&name).await?;
            }
            Err(Failure::wrong(ErrorKind::Unsupported, "copies are not made"))
        }
    }
}

async fn in_parts(bucket: &Bucket, upload: UploadId, from: &str, size: u64, to: &Key) -> Result<(), Failure> {
    let client = &bucket.client;
    // Of an earlier try, which nobody would find behind the record of this one.
    if let Some(record) = staged::find(client, upload).await?.record {
        staged::end(client, &record).await?;
    }
    let layout = Layout::new(bucket.part_bytes, Some(size));
    let mut record = Record { key: to.clone(), id: String::new(), layout };
    staged::note(bucket, upload, &record).await?;
    // Without sums: those of the source are not known here.
    let multipart = client.create(&client.name(to), upload, Integrity::Md5).await?;
    record.id.clone_from(&multipart.id);
    staged::note(bucket, upload, &record).await?;
    let part_bytes = PART_BYTES.min(bucket.copied_at_once_bytes);
    let copied = client.copy_parts(&multipart, from, ranges(size, part_bytes)).await;
    let outcome = match copied {
        Ok(parts) => client.complete(&multipart, &parts).await,
        Err(failure) => Err(failure),
    };
    if outcome.is_err() {
        // The failure that is told is the first; what stays is swept.
        let _ = client.abort(&multipart).await;
    }
    let tidied = client.erase(&staged::record_name(client, upload)).await;
    outcome.and(tidied)
}

/// What S3 says of an object that it does not copy by one request.
fn too_large(failure: Failure) -> Failure {
    match failure.code() {
        "EntityTooLarge" | "InvalidRequest" => Failure::wrong(ErrorKind::Unsupported, NO_PARTS),
        _ => failure,
    }
}

/// Parts of equal size; the last has the rest.
fn ranges(size: u64, part_bytes: u64) -> Vec<Range<u64>> {
    (0..size.div_ceil(part_bytes)).map(|n| n * part_bytes..size.min((n + 1) * part_bytes)).collect()
}

impl Client {
    fn source(&self, name: &str) -> String {
        rusoto_core::signature::encode_uri_path(&format!("{}/{name}", self.bucket))
    }

    /// Copies an object within the bucket, by one request.
    async fn copy(
        self: &Arc<Self>,
        from: &str,
        size: u64,
        to: &str,
        upload: UploadId,
    ) -> Result<(), Failure> {
        let request = CopyObjectRequest {
            bucket: self.bucket.clone(),
            key: to.to_owned(),
            copy_source: self.source(from),
            metadata: Some(metadata(upload)),
            metadata_directive: Some("REPLACE".to_owned()),
            ..CopyObjectRequest::default()
        };
        let shape = Shape { longer: time_to_copy(size), ..Shape::root("CopyObjectResult") };
        let ask = || {
            self.call(shape.clone(), |s3| {
                let request = request.clone();
                async move { s3.copy_object(request).await }
            })
        };
        insist(ask).await.map(|_| ())
    }

    async fn copy_parts(
        self: &Arc<Self>,
        multipart: &Multipart,
        from: &str,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<Part>, Failure> {
        let parts = stream::iter(ranges.clone().into_iter().zip(1..))
            .map(|(range, number)| self.copy_part(multipart, from, range, number));
        let parts: Vec<Part> = parts.buffered(PARTS).try_collect().await?;
        // Some servers answer well and store nothing.
        let stored = self.parts(multipart).await?.unwrap_or_default();
        let is_whole = stored.iter().map(|part| part.size).eq(ranges.iter().map(|r| r.end - r.start));
        if is_whole { Ok(parts) } else { Err(Failure::wrong(ErrorKind::Unsupported, NO_PARTS)) }
    }

    async fn copy_part(
        self: &Arc<Self>,
        multipart: &Multipart,
        from: &str,
        range: Range<u64>,
        number: i64,
    ) -> Result<Part, Failure> {
        let size = range.end - range.start;
        let request = UploadPartCopyRequest {
            bucket: self.bucket.clone(),
            key: multipart.name.clone(),
            upload_id: multipart.id.clone(),
            part_number: number,
            copy_source: self.source(from),
            copy_source_range: Some(format!("bytes={}-{}", range.start, range.end - 1)),
            ..UploadPartCopyRequest::default()
        };
        let shape = Shape { longer: time_to_copy(size), ..Shape::root("CopyPartResult") };
        let ask = || {
            self.call(shape.clone(), |s3| {
                let request = request.clone();
                async move { s3.upload_part_copy(request).await }
            })
        };
        match insist(ask).await {
            Ok(answer) => match answer.copy_part_result.and_then(|result| result.e_tag) {
                Some(etag) => Ok(Part { number, size, etag, crc32c: None }),
                None => Err(Failure::wrong(ErrorKind::Unsupported, NO_PARTS)),
            },
            // What a server says that has taken it for the part itself.
            Err(Failure::Wire(wire::Failure::Malformed(_))) => {
                Err(Failure::wrong(ErrorKind::Unsupported, NO_PARTS))
            }
            Err(failure) => Err(failure),
        }
    }
}

const NO_PARTS: &str = "parts of objects are not copied";

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn parts_cover_the_whole_and_keep_within_limits() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(ranges(25, 10), [0..10, 10..20, 20..25]);
        assert_eq!(ranges(20, 10), [0..10, 10..20]);
        let largest = ranges(5 * 1024 * GIB, super::PART_BYTES);
        assert!(largest.len() <= 10_000 && largest.iter().all(|range| range.end - range.start <= 5 * GIB));
    }
}

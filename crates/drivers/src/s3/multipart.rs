//! Multipart uploads: objects that arrive in parts and appear at once.

use super::{
    client::{Client, Shape},
    integrity::Integrity,
    objects::{metadata, size},
    part::PartContent,
};
use crate::remote::{
    Failure, insist,
    xml::{Step, walk},
};
use coffer_domain::{
    driver::{ErrorKind, NativeVersion},
    id::UploadId,
};
use rusoto_s3::{
    AbortMultipartUploadRequest, CompleteMultipartUploadRequest, CreateMultipartUploadRequest,
    ListMultipartUploadsRequest, ListPartsRequest, S3 as _, UploadPartRequest,
};
use std::{collections::HashMap, fmt::Write as _, sync::Arc};

/// Most pages that a listing of parts or uploads has: ten thousand parts, a thousand each.
const MOST_PAGES: usize = 20;

/// One under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Multipart {
    /// The object's name in the bucket.
    pub(super) name: String,
    /// The backend's id.
    pub(super) id: String,
}

/// A part that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: i64,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) crc32c: Option<String>,
}

/// Where parts begin and end: a function of their numbers, so that it is the same for whoever goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the first parts.
    pub(super) first: u64,
    /// After so many parts they are twice as large.
    pub(super) period: u64,
}

impl Layout {
    /// For an object of this size, if that is known. Ten thousand parts are allowed; a thousand are left for what was not declared.
    pub(super) fn new(least: u64, declared: Option<u64>) -> Self {
        match declared {
            Some(size) => Self { first: least.max(size.div_ceil(9_000)), period: 9_000 },
            None => Self { first: least, period: 1_000 },
        }
    }

    /// Bytes of the part of this number, from 1.
    pub(super) fn size(self, number: usize) -> u64 {
        let doublings = (number as u64).saturating_sub(1) / self.period;
        self.first << doublings.min(16)
    }
}

impl Client {
    /// Begins one.
    pub(super) async fn create(
        self: &Arc<Self>,
        name: &str,
        upload: UploadId,
        integrity: Integrity,
    ) -> Result<Multipart, Failure> {
        let request = CreateMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: name.to_owned(),
            metadata: Some(metadata(upload)),
            ..CreateMultipartUploadRequest::default()
        };
        let mut shape = Shape::root("InitiateMultipartUploadResult");
        if integrity == Integrity::Crc32c {
            shape.headers.push(("x-amz-checksum-algorithm", "CRC32C".to_owned()));
        }
        let ask = || {
            self.call(shape.clone(), |s3| {
                let request = request.clone();
                async move { s3.create_multipart_upload(request).await }
            })
        };
        let id = insist(ask).await?.upload_id.filter(|id| !id.is_empty() && !id.contains('\n'));
        let id =
            id.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a multipart upload without an id"))?;
        Ok(Multipart { name: name.to_owned(), id })
    }

    /// Stores a part.
    pub(super) async fn send(
        self: &Arc<Self>,
        multipart: &Multipart,
        number: i64,
        content: &PartContent,
    ) -> Result<Part, Failure> {
        let (size, sum) = content.told();
        let attempt = || async {
            let request = UploadPartRequest {
                bucket: self.bucket.clone(),
                key: multipart.name.clone(),
                upload_id: multipart.id.clone(),
                part_number: number,
                body: Some(content.body(self)?),
                ..UploadPartRequest::default()
            };
            let shape = Shape { headers: vec![sum.header()], ..Shape::default() };
            self.call(shape, |s3| async move { s3.upload_part(request).await }).await
        };
        let etag = insist(attempt).await?.e_tag;
        let etag = etag.ok_or_else(|| Failure::wrong(ErrorKind::BadAnswer, "a part without an ETag"))?;
        Ok(Part { number, size, etag, crc32c: sum.crc32c().map(str::to_owned) })
    }

    /// The parts that are stored, by number; `None` if the upload is over.
    pub(super) async fn parts(self: &Arc<Self>, multipart: &Multipart) -> Result<Option<Vec<Part>>, Failure> {
        let (mut parts, mut marker) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let request = ListPartsRequest {
                bucket: self.bucket.clone(),
                key: multipart.name.clone(),
                upload_id: multipart.id.clone(),
                part_number_marker: marker,
                ..ListPartsRequest::default()
            };
            let ask = || {
                self.call_seen(Shape::root("ListPartsResult"), |s3| {
                    let request = request.clone();
                    async move { s3.list_parts(request).await }
                })
            };
            let (page, document) = match insist(ask).await {
                Ok(page) => page,
                Err(failure) if failure.is_absent() => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let sums = sums(&document)?;
            for part in page.parts.unwrap_or_default() {
                let (Some(number), Some(etag)) = (part.part_number, part.e_tag) else {
                    return Err(Failure::wrong(ErrorKind::BadAnswer, "a part without a number or an ETag"));
                };
                let crc32c = sums.get(&number).cloned();
                parts.push(Part { number, size: size(part.size)?, etag, crc32c });
            }
            if page.is_truncated != Some(true) {
                parts.sort_by_key(|part| part.number);
                return Ok(Some(parts));
            }
            marker = parts.last().map(|part| part.number);
        }
        Err(Failure::wrong(ErrorKind::BadAnswer, "more parts than there may be"))
    }

    /// Makes the object of its parts; answers its version, where the bucket keeps them.
    pub(super) async fn complete(
        self: &Arc<Self>,
        multipart: &Multipart,
        parts: &[Part],
    ) -> Result<Option<NativeVersion>, Failure> {
        let request = CompleteMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: multipart.name.clone(),
            upload_id: multipart.id.clone(),
            ..CompleteMultipartUploadRequest::default()
        };
        // rusoto's types have no place for the sums.
        let mut shape = Shape::root("CompleteMultipartUploadResult");
        shape.body = Some(list(parts).into());
        let ask = || {
            self.call(shape.clone(), |s3| {
                let request = request.clone();
                async move { s3.complete_multipart_upload(request).await }
            })
        };
        self.version(insist(ask).await?.version_id)
    }

    /// Ends one without an object. One that is over is a success.
    pub(super) async fn abort(self: &Arc<Self>, multipart: &Multipart) -> Result<(), Failure> {
        let request = AbortMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: multipart.name.clone(),
            upload_id: multipart.id.clone(),
            ..AbortMultipartUploadRequest::default()
        };
        let ask = || {
            self.call(Shape::default(), |s3| {
                let request = request.clone();
                async move { s3.abort_multipart_upload(request).await }
            })
        };
        match insist(ask).await {
            Err(failure) if failure.is_absent() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// Those under way for an object of this name.
    pub(super) async fn multiparts(self: &Arc<Self>, name: &str) -> Result<Vec<Multipart>, Failure> {
        let request = ListMultipartUploadsRequest {
            bucket: self.bucket.clone(),
            prefix: Some(name.to_owned()),
            ..ListMultipartUploadsRequest::default()
        };
        let ask = || {
            self.call(Shape::root("ListMultipartUploadsResult"), |s3| {
                let request = request.clone();
                async move { s3.list_multipart_uploads(request).await }
            })
        };
        let found = insist(ask).await?.uploads.unwrap_or_default().into_iter();
        let ours = found.filter(|found| found.key.as_deref() == Some(name));
        Ok(ours
            .filter_map(|found| found.upload_id)
            .map(|id| Multipart { name: name.to_owned(), id })
            .collect())
    }
}

fn list(parts: &[Part]) -> String {
    let mut document =
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for Part { number, etag, crc32c, size: _ } in parts {
        let etag = quick_xml::escape::escape(etag.as_str());
        let sum = crc32c.as_deref().map(|sum| format!("<ChecksumCRC32C>{sum}</ChecksumCRC32C>"));
        let _ = write!(
            document,
            "<Part>{}<ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>",
            sum.unwrap_or_default()
        );
    }
    document.push_str("</CompleteMultipartUpload>");
    document
}

/// The sums of a list of parts, which rusoto's types have no place for.
fn sums(document: &[u8]) -> Result<HashMap<i64, String>, Failure> {
    let mut sums = HashMap::new();
    let (mut number, mut sum, mut text) = (String::new(), String::new(), String::new());
    walk(document, |step| match step {
        Step::Open(_) => text.clear(),
        Step::Text(part) => text.push_str(part),
        Step::Close("PartNumber") => number = std::mem::take(&mut text),
        Step::Close("ChecksumCRC32C") => sum = std::mem::take(&mut text),
        Step::Close("Part") => {
            let sum = std::mem::take(&mut sum);
            let is_base64 = data_encoding::BASE64.decode(sum.as_bytes()).is_ok_and(|bytes| bytes.len() == 4);
            if let (Ok(number), true) = (number.trim().parse(), is_base64) {
                sums.insert(number, sum);
            }
        }
        Step::Close(_) => {}
    })?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_what_is_declared_and_terabytes_if_nothing_is() {
        const MIB: u64 = 1024 * 1024;
        let reach = |layout: Layout| (1..=10_000).map(|number| layout.size(number)).sum::<u64>();
        let small = Layout::new(8 * MIB, Some(1));
        assert_eq!((small.size(1), small.size(9_000)), (8 * MIB, 8 * MIB));
        for declared in [100 * MIB, 72_000 * MIB, 1 << 40, 5 << 40] {
            assert!(reach(Layout::new(8 * MIB, Some(declared))) > declared);
        }
        let unknown = Layout::new(8 * MIB, None);
        assert_eq!(
            (unknown.size(1_000), unknown.size(1_001), unknown.size(2_001)),
            (8 * MIB, 16 * MIB, 32 * MIB)
        );
        assert!(reach(unknown) > 5 << 40);
    }

    #[test]
    fn sums_are_read_from_a_list_of_parts_and_told_at_its_end() {
        let document =
            b"<ListPartsResult><Part><PartNumber>1</PartNumber><ChecksumCRC32C>4waSgw==</ChecksumCRC32C>\
            </Part><Part><PartNumber>2</PartNumber></Part><Part><ChecksumCRC32C>?</ChecksumCRC32C>\
            <PartNumber>3</PartNumber></Part></ListPartsResult>";
        assert_eq!(sums(document).unwrap(), HashMap::from([(1, "4waSgw==".to_owned())]));
        let part = |number, crc32c: Option<&str>| Part {
            number,
            size: 1,
            etag: "\"a&b\"".to_owned(),
            crc32c: crc32c.map(str::to_owned),
        };
        let text = list(&[part(1, Some("4waSgw==")), part(2, None)]);
        assert_eq!(crate::remote::xml::root(text.as_bytes()).unwrap(), "CompleteMultipartUpload");
        assert!(text.contains("<ChecksumCRC32C>4waSgw==</ChecksumCRC32C><ETag>&quot;a&amp;b&quot;</ETag>"));
    }
}

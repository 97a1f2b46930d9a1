//! Content as it comes. A stream that breaks goes on where it was, of the same object or not at all.

use super::{
    client::{Client, Shape},
    error::Failure,
};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use rusoto_s3::{GetObjectRequest, S3 as _};
use std::{io, ops::Range, sync::Arc};

/// How often a stream is taken up without having brought [`PROGRESS`] bytes.
const TRIES: u32 = 4;
/// Bytes after which a stream may break anew.
const PROGRESS: u64 = 256 * 1024;

/// A stream under way.
struct Reading {
    client: Arc<Client>,
    name: String,
    etag: Option<String>,
    /// The next byte, and the one behind the last.
    at: u64,
    end: u64,
    body: BoxStream<'static, io::Result<Bytes>>,
    /// Failures since the stream was at `mark`.
    failures: u32,
    mark: u64,
}

struct Fetched {
    etag: Option<String>,
    end: u64,
    body: BoxStream<'static, io::Result<Bytes>>,
}

/// The bytes of a range of an object, cut at its end.
pub(super) async fn read(
    client: Arc<Client>,
    name: String,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
    if range.is_empty() {
        return match client.head(&name).await? {
            Some(_) => Ok(stream::empty().boxed()),
            None => Err(Failure::wrong(ErrorKind::NotFound, "there is no object")),
        };
    }
    let fetched = match client.insist(|| fetch(&client, &name, range.clone(), None)).await {
        Ok(fetched) => fetched,
        Err(failure) if failure.is_past_the_end() => return Ok(stream::empty().boxed()),
        Err(failure) => return Err(failure),
    };
    let Fetched { etag, end, body } = fetched;
    let (at, end) = (range.start, end.min(range.end));
    let reading = Reading { client, name, etag, at, end, body, failures: 0, mark: at };
    Ok(reading.stream().boxed())
}

impl Reading {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        stream::unfold(Some(self), |left| async move {
            let mut reading = left?;
            if reading.at >= reading.end {
                return None;
            }
            match reading.next().await {
                Ok(piece) => Some((Ok(piece), Some(reading))),
                Err(failure) => Some((Err(failure), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            let problem = match self.body.next().await {
                Some(Ok(mut piece)) => {
                    let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
                    piece.truncate(left);
                    if piece.is_empty() {
                        continue;
                    }
                    self.at += piece.len() as u64;
                    if self.at - self.mark >= PROGRESS {
                        (self.mark, self.failures) = (self.at, 0);
                    }
                    return Ok(piece);
                }
                Some(Err(error)) => crate::wire::Failure::Broken(error.to_string()).into(),
                None => Failure::wrong(ErrorKind::Unavailable, "the answer is shorter than it says"),
            };
            self.take_up(problem).await?;
        }
    }

    async fn take_up(&mut self, problem: Failure) -> Result<(), Failure> {
        self.failures += 1;
        if self.failures > TRIES {
            return Err(problem);
        }
        let range = self.at..self.end;
        let fetched = self
            .client
            .insist(|| fetch(&self.client, &self.name, range.clone(), self.etag.clone()))
            .await?;
        if fetched.end < self.end {
            return Err(Failure::wrong(ErrorKind::Other, "the object has become shorter"));
        }
        self.body = fetched.body;
        Ok(())
    }
}

async fn fetch(
    client: &Arc<Client>,
    name: &str,
    range: Range<u64>,
    etag: Option<String>,
) -> Result<Fetched, Failure> {
    let wanted = match (range.start, range.end) {
        (0, u64::MAX) => None,
        (start, u64::MAX) => Some(format!("bytes={start}-")),
        (start, end) => Some(format!("bytes={start}-{}", end - 1)),
    };
    let request = GetObjectRequest {
        bucket: client.bucket.clone(),
        key: name.to_owned(),
        range: wanted,
        if_match: etag,
        ..GetObjectRequest::default()
    };
    let shape = Shape { is_stream: true, ..Shape::default() };
    let found = client.call(shape, |s3| async move { s3.get_object(request).await }).await?;
    let length = super::objects::size(found.content_length)?;
    let end = match found.content_range.as_deref().map(begins_and_ends) {
        Some(Some((start, end))) if start == range.start && end - start == length => end,
        Some(_) => return Err(Failure::wrong(ErrorKind::Other, "another range than was asked for")),
        None if range.start == 0 => length,
        None => return Err(Failure::wrong(ErrorKind::Unsupported, "ranges are ignored")),
    };
    let body = match found.body {
        Some(body) => body.boxed(),
        None => stream::empty().boxed(),
    };
    Ok(Fetched { etag: found.e_tag, end, body })
}

/// 5 and 10 of "bytes 5-9/100".
fn begins_and_ends(text: &str) -> Option<(u64, u64)> {
    let (start, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
    let last: u64 = rest.split('/').next()?.parse().ok()?;
    let (start, end) = (start.parse().ok()?, last.checked_add(1)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_of_answers_are_read() {
        let parse = super::begins_and_ends;
        assert_eq!(parse("bytes 5-9/100"), Some((5, 10)));
        assert_eq!(parse("bytes 0-0/*"), Some((0, 1)));
        for bad in ["", "bytes */100", "5-9/100", "bytes 9-5/100", "bytes 0-18446744073709551615/1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

//! Content as it comes. A stream that breaks goes on where it was, of the same object or not at all.

use super::{Failure, insist, pause};
use bytes::Bytes;
use coffer_domain::driver::ErrorKind;
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use std::ops::Range;

/// How often a stream is taken up without having brought [`PROGRESS`] bytes.
const TRIES: u32 = 4;
/// Bytes after which a stream may break anew.
const PROGRESS: u64 = 256 * 1024;

/// Where content comes from.
pub(crate) trait Source: Send + Sync + 'static {
    /// A range of the object: of the one with this ETag, if one is named. It may end later than was asked for.
    fn fetch(
        &self,
        range: Range<u64>,
        etag: Option<String>,
    ) -> impl Future<Output = Result<Fetched, Failure>> + Send;

    /// Whether there is an object.
    fn exists(&self) -> impl Future<Output = Result<bool, Failure>> + Send;
}

/// A stream under way.
struct Reading<S> {
    source: S,
    etag: Option<String>,
    /// The next byte, and the one behind the last.
    at: u64,
    end: u64,
    body: BoxStream<'static, Result<Bytes, Failure>>,
    /// Failures since the stream was at `mark`.
    failures: u32,
    mark: u64,
}

/// What a backend answers.
pub(crate) struct Fetched {
    /// Of the object.
    pub(crate) etag: Option<String>,
    /// The byte behind the last of the answer.
    pub(crate) end: u64,
    /// The bytes from the beginning of the range to there.
    pub(crate) body: BoxStream<'static, Result<Bytes, Failure>>,
}

/// The bytes of a range of an object, cut at its end.
pub(crate) async fn read<S: Source>(
    source: S,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
    if range.is_empty() {
        return match source.exists().await? {
            true => Ok(stream::empty().boxed()),
            false => Err(Failure::wrong(ErrorKind::NotFound, "there is no object")),
        };
    }
    let fetched = match insist(|| source.fetch(range.clone(), None)).await {
        Ok(fetched) => fetched,
        Err(failure) if failure.is_past_the_end() => return Ok(stream::empty().boxed()),
        Err(failure) => return Err(failure),
    };
    let Fetched { etag, end, body } = fetched;
    let (at, end) = (range.start, end.min(range.end));
    let reading = Reading { source, etag, at, end, body, failures: 0, mark: at };
    Ok(reading.stream().boxed())
}

impl<S: Source> Reading<S> {
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
                Some(Err(failure)) => failure,
                None => Failure::wrong(ErrorKind::Unavailable, "the answer is shorter than it says"),
            };
            self.take_up(problem).await?;
        }
    }

    async fn take_up(&mut self, problem: Failure) -> Result<(), Failure> {
        self.failures += 1;
        if self.failures > TRIES || !problem.kind().is_retryable() {
            return Err(problem);
        }
        pause(self.failures).await;
        let range = self.at..self.end;
        let fetched = insist(|| self.source.fetch(range.clone(), self.etag.clone())).await?;
        if self.etag.is_some() && opaque(&fetched.etag) != opaque(&self.etag) {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "the object was replaced"));
        }
        if fetched.end < self.end {
            return Err(Failure::wrong(ErrorKind::BadAnswer, "the object has become shorter"));
        }
        self.body = fetched.body;
        Ok(())
    }
}

/// An ETag, be it strong or weak.
fn opaque(etag: &Option<String>) -> Option<&str> {
    etag.as_deref().map(|etag| etag.strip_prefix("W/").unwrap_or(etag))
}

/// 5 and 10 of "bytes 5-9/100".
fn begins_and_ends(text: &str) -> Option<(u64, u64)> {
    let (start, rest) = text.strip_prefix("bytes ")?.split_once('-')?;
    let last: u64 = rest.split('/').next()?.parse().ok()?;
    let (start, end) = (start.parse().ok()?, last.checked_add(1)?);
    (start < end).then_some((start, end))
}

/// The header that asks for a range; `None` for everything.
pub(crate) fn range_header(range: &Range<u64>) -> Option<String> {
    match (range.start, range.end) {
        (0, u64::MAX) => None,
        (start, u64::MAX) => Some(format!("bytes={start}-")),
        (start, end) => Some(format!("bytes={start}-{}", end - 1)),
    }
}

/// The byte behind the last of an answer of this length to a question for a range.
pub(crate) fn end_of_answer(
    asked: &Range<u64>,
    length: u64,
    content_range: Option<&str>,
) -> Result<u64, Failure> {
    match content_range.map(begins_and_ends) {
        Some(Some((start, end))) if start == asked.start && end - start == length => Ok(end),
        Some(_) => Err(Failure::wrong(ErrorKind::BadAnswer, "another range than was asked for")),
        None if asked.start == 0 => Ok(length),
        None => Err(Failure::wrong(ErrorKind::Unsupported, "ranges are ignored")),
    }
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

//! Lists as streams of pages.

use crate::{Error, Result};
use futures_util::{Stream, stream};
use std::future::Future;

/// Most bytes of one page that are accepted. The transport's own limit of 4 MiB is too small for 1,000 descriptions of files,
/// each with up to 64 KiB of metadata.
pub(crate) const MAX_PAGE_BYTES: usize = 128 * 1024 * 1024;

/// One page and the token of the next, empty on the last.
pub(crate) type Page<T> = (Vec<T>, String);

/// Fetches page after page, each when it is asked for. Ends after the last page or the first error.
pub(crate) fn pages<T, F>(
    first_token: String,
    fetch: impl Fn(String) -> F,
) -> impl Stream<Item = Result<Vec<T>>>
where
    F: Future<Output = Result<Page<T>>>,
{
    stream::try_unfold((Some(first_token), fetch), |(token, fetch)| async move {
        let Some(token) = token else { return Ok(None) };
        let (items, next) = fetch(token.clone()).await?;
        if !next.is_empty() && next == token {
            return Err(Error::Protocol("a page names itself as the next one".to_owned()));
        }
        let next = (!next.is_empty()).then_some(next);
        Ok(Some((items, (next, fetch))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    #[tokio::test]
    async fn pages_follow_their_tokens() {
        let fetch = |token: String| async move {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "a".to_owned()),
                "a" => (vec![], "b".to_owned()),
                "b" => (vec![3], String::new()),
                other => return Err(Error::Protocol(format!("asked for {other}"))),
            })
        };
        let all: Vec<Vec<i32>> = pages(String::new(), fetch).try_collect().await.unwrap();
        assert_eq!(all, [vec![1, 2], vec![], vec![3]]);
        let rest: Vec<Vec<i32>> = pages("b".to_owned(), fetch).try_collect().await.unwrap();
        assert_eq!(rest, [vec![3]]);
    }

    #[tokio::test]
    async fn a_page_that_leads_to_itself_is_an_error() {
        let fetch = |_| async { Ok((vec![1], "again".to_owned())) };
        let outcome = pages(String::new(), fetch).try_collect::<Vec<_>>().await;
        assert!(matches!(outcome, Err(Error::Protocol(_))), "{outcome:?}");
    }
}

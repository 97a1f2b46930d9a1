//! Pieces as large as their taker wants, of pieces as large as they came.

use bytes::Bytes;
use coffer_domain::driver::{ByteStream, Error, PieceSize};
use futures_util::{StreamExt as _, stream, stream::BoxStream};

/// The same bytes in pieces of at most `size`; what fails is made the port's error.
pub(crate) fn resized<F: Send + 'static>(
    pieces: BoxStream<'static, Result<Bytes, F>>,
    size: PieceSize,
    fail: impl Fn(F) -> Error + Send + 'static,
) -> ByteStream {
    let left = Some((pieces, Bytes::new(), fail));
    stream::unfold(left, move |left| {
        let size = size.clone();
        async move {
            let (mut pieces, mut rest, fail) = left?;
            while rest.is_empty() {
                match pieces.next().await? {
                    Ok(piece) => rest = piece,
                    Err(failure) => return Some((Err(fail(failure)), None)),
                }
            }
            let piece = rest.split_to(rest.len().min(size.get()));
            Some((Ok(piece), Some((pieces, rest, fail))))
        }
    })
    .boxed()
}

use super::*;
use crate::edge::{Pace, Progress};
use bytes::Bytes;
use coffer_domain::time::now;
use coffer_proto::v1::{ChecksummedData, WriteFileRequest};
use std::time::Duration;
use tonic::Status;

fn data(write_offset: i64, content: &[u8]) -> WriteFileRequest {
    let data = ChecksummedData { content: Bytes::copy_from_slice(content), crc32c: Some(7) };
    WriteFileRequest { write_offset, data: Some(data), ..Default::default() }
}

fn finish(message: WriteFileRequest) -> WriteFileRequest {
    WriteFileRequest { finish: true, ..message }
}

/// What becomes of a stream, and how many messages are still to come if it is not stored at once.
async fn gathered(sent: Vec<WriteFileRequest>) -> Result<Vec<Bytes>, usize> {
    let pace = Pace { stall_timeout: Duration::from_secs(30), min_rate: 0 };
    let sent = tokio_stream::iter(sent.into_iter().map(Ok::<_, Status>));
    let mut messages = Messages::new(sent, Progress::new(pace), now() + chrono::TimeDelta::hours(1));
    let first = messages.next().await.unwrap().expect("a first message");
    let first = later_message(first).unwrap();
    match gather(&first, &mut messages).await {
        Some(whole) => {
            assert!(whole.pieces.iter().all(|piece| piece.crc32c == Some(7)));
            Ok(whole.pieces.into_iter().map(|piece| piece.bytes).collect())
        }
        None => {
            let mut left = 0;
            while messages.next().await.unwrap().is_some() {
                left += 1;
            }
            Err(left)
        }
    }
}

#[tokio::test]
async fn small_contents_are_gathered_however_they_are_cut() {
    let empty = WriteFileRequest::default;
    assert_eq!(gathered(vec![finish(data(0, b"whole"))]).await.unwrap(), ["whole"]);
    assert_eq!(gathered(vec![finish(empty())]).await.unwrap(), [""; 0]);
    let parts = vec![empty(), data(0, b"in "), data(3, b"parts"), finish(empty())];
    assert_eq!(gathered(parts).await.unwrap(), ["in ", "parts"]);
    let full = vec![7; MAX_WHOLE_BYTES];
    assert_eq!(gathered(vec![data(0, &full), finish(empty())]).await.unwrap(), [full]);
}

#[tokio::test]
async fn of_what_is_larger_or_wrong_nothing_is_lost() {
    let empty = WriteFileRequest::default;
    let full = vec![7; MAX_WHOLE_BYTES];
    assert_eq!(
        gathered(vec![data(0, &full), data(MAX_WHOLE_BYTES as i64, b"+"), finish(empty())]).await,
        Err(2)
    );
    assert_eq!(gathered(vec![data(0, b"no end"), data(6, b".")]).await, Err(1));
    assert_eq!(gathered(vec![data(0, b"a gap"), finish(data(6, b"."))]).await, Err(1));
    assert_eq!(gathered(vec![data(0, b"again"), finish(data(0, b"again"))]).await, Err(1));
    assert_eq!(gathered(vec![finish(data(0, b"end")), data(3, b"more")]).await, Err(1));
    let misplaced = WriteFileRequest { sha256: "0".repeat(64), ..data(5, b".") };
    assert_eq!(gathered(vec![data(0, b"begin"), misplaced]).await, Err(1));
    assert_eq!(gathered(std::iter::repeat_with(empty).take(100).collect()).await, Err(99));
}

//! What it costs that an upload can be resumed: the same content in one stream without a request, and by StartUpload and WriteFile.

use bytes::Bytes;
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    dice::number_of_run,
    grpc::{Clients, at, by_id, finish, first, noise, of_upload},
};
use futures_util::stream;
use std::time::{Duration, Instant};

/// Size and pairs in the run of the suite, which shows that both ways store the same; `COFFER_SIZE_MIB` and `COFFER_PAIRS` ask for more.
const SIZE_MIB: u64 = 24;
const PAIRS: u64 = 1;
const MESSAGE_BYTES: usize = 256 * 1024;

/// Time a disk is given to free what was removed.
const PAUSE: Duration = Duration::from_secs(1);

/// Removes a file and its bytes, and waits until the disk has nothing left to do: it would be the next upload's burden. Discarding the
/// blocks of a large file takes some file systems long after the sync.
async fn settle(clients: &Clients, file: v1::File) -> String {
    let mut files = clients.files.clone();
    files.delete_file(v1::DeleteFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap();
    files.purge_file(v1::PurgeFileRequest { file: by_id(&file.id), ..Default::default() }).await.unwrap();
    assert!(std::process::Command::new("sync").status().unwrap().success());
    tokio::time::sleep(PAUSE).await;
    file.sha256
}

/// Sends `messages` pieces of `piece` after a first message; answers the file.
async fn write(clients: &Clients, head: v1::WriteFileRequest, piece: &Bytes, messages: u64) -> v1::File {
    let piece = piece.clone();
    let size = messages * piece.len() as u64;
    let pieces = (0..messages).map(move |n| v1::WriteFileRequest {
        write_offset: (n * piece.len() as u64) as i64,
        data: Some(v1::ChecksummedData { content: piece.clone(), crc32c: None }),
        ..Default::default()
    });
    let all = std::iter::once(head).chain(pieces).chain([finish(size as i64)]);
    clients.transfers.clone().write_file(stream::iter(all)).await.unwrap().into_inner().file.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_can_be_resumed_costs_little_more() {
    let (size_mib, pairs) =
        (number_of_run("COFFER_SIZE_MIB", SIZE_MIB), number_of_run("COFFER_PAIRS", PAIRS));
    let cofferd = Cofferd::start().await;
    let clients = cofferd.clients(&Token::user("ann", "clinic")).await;
    let piece = Bytes::from(noise(MESSAGE_BYTES));
    let messages = size_mib * 1024 * 1024 / MESSAGE_BYTES as u64;
    let spec = v1::UploadSpec { size_bytes: Some((size_mib * 1024 * 1024) as i64), ..at("speed") };
    let one_shot = async || {
        let since = Instant::now();
        let file = write(&clients, first(spec.clone()), &piece, messages).await;
        (since.elapsed(), settle(&clients, file).await)
    };
    let resumable = async || {
        let since = Instant::now();
        let spec = v1::UploadSpec { request_id: uuid::Uuid::now_v7().to_string(), ..spec.clone() };
        let upload = clients.start_upload(spec).await.unwrap();
        let file = write(&clients, of_upload(&upload.id), &piece, messages).await;
        (since.elapsed(), settle(&clients, file).await)
    };
    let (mut ratios, mut once, mut twice): (Vec<f64>, Vec<Duration>, Vec<Duration>) = Default::default();
    for pair in 0..pairs {
        // Whoever is first in a pair has the colder machine: they take turns.
        let ((a, sum_a), (b, sum_b)) = if pair % 2 == 0 {
            let first = one_shot().await;
            (first, resumable().await)
        } else {
            let first = resumable().await;
            (one_shot().await, first)
        };
        assert_eq!(sum_a, sum_b);
        ratios.push(b.as_secs_f64() / a.as_secs_f64());
        once.push(a);
        twice.push(b);
    }
    ratios.sort_by(f64::total_cmp);
    once.sort();
    twice.sort();
    let middle = pairs as usize / 2;
    println!(
        "{pairs} pairs of {size_mib} MiB: one-shot {:.0} ms, StartUpload + WriteFile {:.0} ms (medians); ratio in a pair: median {:.3}, {:.3} to {:.3}",
        once[middle].as_secs_f64() * 1e3,
        twice[middle].as_secs_f64() * 1e3,
        ratios[middle],
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

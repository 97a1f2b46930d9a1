//! What many uploads at once to one server cost the service in memory.

use super::{Remote, content::Content, resumable};
use coffer_proto::v1;
use coffer_test_servers::Kind;
use coffer_tests::{
    dice::number_of_run,
    grpc::{Clients, first},
};
use futures_util::{StreamExt as _, future::join_all, stream};
use std::{sync::Arc, time::Instant};
use tokio::sync::Barrier;

const MIB: u64 = 1024 * 1024;
/// Uploads in the run of all tests, and size of each; `COFFER_UPLOADS` and `COFFER_EACH_MIB` ask for more.
const UPLOADS: u64 = 4;
const EACH_MIB: u64 = 18;
/// The most memory that the service may have had, with so many uploads.
const GOAL_BYTES: u64 = 256 * MIB;
const GOAL_UPLOADS: u64 = 32;

/// What the service is told of a content's size.
#[derive(Debug, Clone, Copy)]
enum Size {
    Declared,
    Unknown,
}

async fn many_uploads_take_little_memory(kind: Kind) {
    let uploads = number_of_run("COFFER_UPLOADS", UPLOADS);
    // The last part is not full.
    let each = number_of_run("COFFER_EACH_MIB", EACH_MIB) * MIB + 12_345;
    for size in [Size::Declared, Size::Unknown] {
        // A service of its own: what is measured is the most that it ever had.
        let Some(far) = Remote::beside(kind).await else { return };
        let before = peak_bytes(far.cofferd.pid());
        let since = Instant::now();
        let under_way = Arc::new(Barrier::new(uploads as usize));
        let stored = (0..uploads).map(|number| {
            let clients = Clients::at(far.cofferd.grpc_addr(), Some(&far.token));
            tokio::spawn(upload(clients, number, each, size, Arc::clone(&under_way)))
        });
        let stored = join_all(stored).await;
        let took = since.elapsed().as_secs_f64();
        let peak = peak_bytes(far.cofferd.pid());
        let is_judged = uploads >= GOAL_UPLOADS;
        let verdict = match peak <= GOAL_BYTES {
            _ if !is_judged => "",
            true => ", goal 256: reached",
            false => ", goal 256: missed",
        };
        println!(
            "{kind:?}: {uploads} uploads of {} MiB at once, sizes {size:?}, {took:.1} s ({:.0} MiB/s): at most {:.1} MiB of memory, \
             {:.1} before{verdict}",
            each / MIB,
            (uploads * each / MIB) as f64 / took,
            peak as f64 / MIB as f64,
            before as f64 / MIB as f64,
        );
        for (file, number) in stored.into_iter().zip(0..) {
            let content = Content::new(number, each);
            let sha256 = tokio::task::spawn_blocking(move || content.sha256()).await.unwrap();
            let file = file.unwrap();
            assert_eq!(file.sha256, sha256, "upload {number}");
            assert_eq!(super::purge(&far.ann, &file.id).await, each as i64);
        }
        far.is_settled().await;
        assert!(peak <= GOAL_BYTES || !is_judged, "{} MiB", peak / MIB);
    }
}

/// Uploads, and waits in the middle until all others are there as well.
async fn upload(clients: Clients, number: u64, bytes: u64, size: Size, under_way: Arc<Barrier>) -> v1::File {
    let content = Content::new(number, bytes);
    let size_bytes = match size {
        Size::Declared => Some(bytes as i64),
        Size::Unknown => None,
    };
    let spec = v1::UploadSpec { size_bytes, ..resumable(&format!("crowd/{number}")) };
    let middle = content.count() / 2;
    let messages = std::iter::once(first(spec)).chain(content.messages()).chain([content.end()]);
    let messages = stream::iter(messages.zip(0..)).then(move |(message, at)| {
        let under_way = Arc::clone(&under_way);
        async move {
            if at == middle {
                under_way.wait().await;
            }
            message
        }
    });
    clients.transfers.clone().write_file(messages).await.unwrap().into_inner().file.unwrap()
}

/// The most bytes of a process's memory that have been in RAM.
fn peak_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 => many_uploads_take_little_memory;
}

//! Connections that are lost at random places of an upload, on either side of the service: its content arrives whole, and what was sent
//! twice is told. The client's connections to a volume on a disk are lost in `resume.rs`.

use super::{Remote, content::digest_of, on_far};
use crate::resume::{MAX_RESENT_PER_CUT, coffer, content, ended};
use coffer_test_servers::Kind;
use coffer_tests::{
    dice::{Dice, number_of_run},
    grpc::{Clients, noise, refusal},
    proxy::Proxy,
};
use std::{path::PathBuf, time::Instant};
use tonic::Code;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 64 * MIB;
/// Lost connections on each side; `COFFER_CUTS` asks for others.
const CUTS: u64 = 5;
/// Where each is one upload more.
const FATAL_CUTS: u64 = 2;
/// Those of one upload on the server's side: a request is sent four times, so that they never end it, wherever they are.
const CUTS_OF_AN_UPLOAD: u64 = 3;
/// Frames and heads of all messages: less than one of those has.
const FRAMING_BYTES: u64 = 64 * 1024;

/// Uploads of one file by `coffer`, through a proxy of their own.
struct Uploads {
    proxy: Proxy,
    source: PathBuf,
    sha256: String,
    dice: Dice,
}

/// What an upload took.
struct Took {
    id: String,
    /// By the client's own count.
    sent_bytes: u64,
    attempts: u64,
    /// On the wire.
    from_client_bytes: u64,
    to_server_bytes: u64,
}

impl Uploads {
    async fn of(far: &Remote, seed: u64) -> Self {
        let mut dice = Dice::of_run(seed);
        let (source, sha256) = content(far.cofferd.data_dir(), SIZE / MIB, &mut dice);
        Self { proxy: Proxy::start(far.cofferd.grpc_addr()).await, source, sha256, dice }
    }

    /// Random places of so many bytes.
    fn places(&mut self, count: u64, bytes: u64) -> Vec<u64> {
        let mut places: Vec<_> = (0..count).map(|_| self.dice.below(bytes)).collect();
        places.sort_unstable();
        places
    }

    /// One upload, which arrives whole.
    async fn run(&self, far: &Remote, path: &str) -> Took {
        let before = (self.proxy.traffic().to_server_bytes, far.proxy.traffic().to_server_bytes);
        let source = self.source.to_str().unwrap();
        let arguments = ["upload", source, path, "--volume", "far", "--json"];
        let client = coffer(&self.proxy.addr(), &far.token, &arguments).spawn().unwrap();
        let file = ended(client).await;
        let after = (self.proxy.traffic().to_server_bytes, far.proxy.traffic().to_server_bytes);
        assert_eq!(file["sha256"], self.sha256.as_str());
        let id = file["id"].as_str().unwrap().to_owned();
        assert_eq!(digest_of(&far.ann, &id).await, (self.sha256.clone(), SIZE));
        let number = |name: &str| file["upload"][name].as_u64().unwrap();
        Took {
            id,
            sent_bytes: number("sent_bytes"),
            attempts: number("attempts"),
            from_client_bytes: after.0 - before.0,
            to_server_bytes: after.1 - before.1,
        }
    }
}

/// The client goes on from what the service has put on the server.
async fn connections_to_the_client_are_lost(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let cuts = number_of_run("COFFER_CUTS", CUTS);
    let mut uploads = Uploads::of(&far, 4).await;
    let places = uploads.places(cuts, SIZE);
    uploads.proxy.cut_at(places);
    let since = Instant::now();
    let took = uploads.run(&far, "cut").await;
    let again = took.from_client_bytes - SIZE;
    println!(
        "{kind:?}: {cuts} cuts of the client's connection in {:?}: the client sent {again} bytes more than the content, {} per cut; \
         the service {}",
        since.elapsed(),
        again / cuts,
        took.to_server_bytes - SIZE,
    );
    assert_eq!(uploads.proxy.traffic().cuts, cuts);
    assert!(again <= cuts * MAX_RESENT_PER_CUT + FRAMING_BYTES, "{again} bytes");
    far.is_settled().await;
}

/// The client sends nothing twice. It may have to ask again for the end, where a server puts the rest of a broken request in the place of what
/// was sent after it.
async fn connections_to_the_server_are_lost(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    let cuts = number_of_run("COFFER_CUTS", CUTS);
    let mut uploads = Uploads::of(&far, 3).await;
    let uncut = uploads.run(&far, "uncut").await;
    let mut stored = vec![uncut.id];
    let (since, mut met, mut rounds, mut again, mut asked) = (Instant::now(), 0, 0, 0, 0);
    while met < cuts {
        let before = far.proxy.traffic().cuts;
        // All that is sent is meant: some servers get a content in pieces, and then the whole.
        let places = uploads.places(CUTS_OF_AN_UPLOAD.min(cuts - met), uncut.to_server_bytes);
        far.proxy.cut_at(places);
        let took = uploads.run(&far, &format!("cut/{rounds}")).await;
        // What another upload sends may be less, by some pieces of checkpoints: then a place was not reached.
        far.proxy.cut_at([]);
        assert_eq!(took.sent_bytes, SIZE, "the client sends nothing twice");
        assert!((SIZE..SIZE + FRAMING_BYTES).contains(&took.from_client_bytes), "{}", took.from_client_bytes);
        again += took.to_server_bytes.saturating_sub(uncut.to_server_bytes);
        asked += took.attempts - 1;
        met += far.proxy.traffic().cuts - before;
        rounds += 1;
        assert!(rounds <= cuts, "{met} of {cuts} cuts in {rounds} uploads");
        stored.push(took.id);
    }
    println!(
        "{kind:?}: {met} cuts of the service's connections in {rounds} uploads in {:?}: nothing twice from the client, \
         which asked {asked} times again; the service sent {again} bytes more than without, {} per cut; without it sends {} more than the \
         content",
        since.elapsed(),
        again / met,
        uncut.to_server_bytes - SIZE,
    );
    // Not one after the other: rclone's server refuses an object whose folder it is just removing, since it was empty.
    for id in stored {
        assert_eq!(super::purge(&far.ann, &id).await, SIZE as i64);
    }
    far.is_settled().await;
}

/// Where nothing can be gone on with, nothing is left of an upload whose connection is lost, on whichever side. It is sent again.
async fn lost_connections_leave_nothing(kind: Kind) {
    let Some(far) = Remote::on(kind).await else { return };
    assert!(!far.check().await.capabilities.unwrap().resume);
    let cuts = number_of_run("COFFER_CUTS", FATAL_CUTS);
    let mut dice = Dice::of_run(5);
    let content = noise(SIZE as usize);
    let of_client = Proxy::start(far.cofferd.grpc_addr()).await;
    let ann = Clients::at(&of_client.addr(), Some(&far.token));
    for (side, proxy) in [("client's", &of_client), ("service's", &far.proxy)] {
        let (since, mut again, before) = (Instant::now(), 0, proxy.traffic().cuts);
        for cut in 0..cuts {
            // In the content, whatever is asked before it.
            let place = MIB + dice.below(SIZE - MIB);
            proxy.cut_at([place]);
            let spec = on_far(&format!("{side}/{cut}"));
            let refused = ann.upload(spec.clone(), &content).await.unwrap_err();
            if side == "service's" {
                assert_eq!(refusal(&refused), (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned()));
            }
            again += place;
            let file = ann.upload(spec, &content).await.unwrap();
            assert_eq!(digest_of(&far.ann, &file.id).await, (file.sha256.clone(), SIZE));
            assert_eq!(super::purge(&far.ann, &file.id).await, SIZE as i64);
        }
        assert_eq!(proxy.traffic().cuts - before, cuts);
        println!(
            "{kind:?}: {cuts} cuts of the {side} connection in {:?}: {again} bytes sent twice, {} per cut",
            since.elapsed(),
            again / cuts
        );
        far.is_settled().await;
    }
}

on_servers! {
    s3_of_rclone: Kind::RcloneS3 => connections_to_the_client_are_lost, connections_to_the_server_are_lost;
    webdav_of_rclone: Kind::RcloneWebdav => connections_to_the_client_are_lost, connections_to_the_server_are_lost;
    webdav_of_apache: Kind::ApacheDav => connections_to_the_client_are_lost, connections_to_the_server_are_lost;
    http_of_nginx: Kind::Nginx => lost_connections_leave_nothing;
}

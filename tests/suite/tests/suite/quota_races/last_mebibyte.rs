//! Many clients race for the last mebibyte of a quota, with contents of all sizes, some of which they give up.

use super::rig::{Rig, Sampler, Way, cut, put};
use crate::quotas::{bytes, cancel, quota, request_id, set, start};
use bytes::Bytes;
use coffer_proto::v1::{self, quota_key::Of, write_file_request::FirstMessage};
use coffer_tests::{
    Token,
    dice::number_of_run,
    grpc::{Clients, at, noise, refusal},
};
use futures_util::StreamExt as _;
use tonic::{Code, Status};

/// Rounds in the run of the suite; `COFFER_ROUNDS` asks for more.
const ROUNDS: u64 = 5;
const CLIENTS: usize = 256;
const MIB: usize = 1024 * 1024;
/// Sizes of contents: small ones fill what large ones leave.
const SIZES: [usize; 16] = [
    1,
    1,
    300,
    700,
    1_000,
    2_000,
    4_096,
    4_096,
    10_000,
    20_000,
    20_000,
    40_000,
    65_536,
    200_000,
    MIB,
    MIB + 1,
];

/// What a client does.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Put(Way),
    /// StartUpload, then CancelUpload.
    Cancel,
    /// A stream that ends before the last message.
    Leave,
}

/// Whom the last mebibyte is of, round by round.
fn quotas(user: &str) -> [Of; 6] {
    let on_volume = v1::UserOnVolume { user_id: user.to_owned(), ..Default::default() };
    [
        Of::OrganisationId(String::new()),
        Of::Volume("main".into()),
        Of::UserOnVolume(on_volume),
        Of::AppOnVolume(v1::AppOnVolume { app_id: "viewer".into(), ..Default::default() }),
        Of::UserId(user.to_owned()),
        Of::ProjectId("trial".into()),
    ]
}

fn spec(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { project_id: "trial".into(), ..at(path) }
}

/// Carries a plan out; the file if there is one.
async fn carry_out(
    clients: Clients,
    path: String,
    content: Bytes,
    plan: Plan,
) -> Result<Option<v1::File>, Status> {
    match plan {
        Plan::Put(way) => put(&clients, spec(&path), content, way).await.map(Some),
        Plan::Cancel => {
            let size_bytes = Some(content.len() as i64);
            let begun = v1::UploadSpec { size_bytes, request_id: request_id(), ..spec(&path) };
            let begun = start(&clients, begun).await?;
            cancel(&clients, &begun.id).await.map(|_| None)
        }
        Plan::Leave => {
            let mut messages = cut(FirstMessage::Spec(spec(&path)), content);
            messages.last_mut().expect("at least one").finish = false;
            // The stream stays open, so that leaving and not its end is what the service sees.
            let messages = tokio_stream::iter(messages).chain(futures_util::stream::pending());
            let mut transfers = clients.transfers.clone();
            let call = tokio::spawn(async move { transfers.write_file(messages).await });
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            call.abort();
            match call.await {
                Ok(Ok(_)) => panic!("a stream without an end was answered"),
                Ok(Err(status)) => Err(status),
                Err(_) => Ok(None),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_mebibyte_is_never_given_away_twice() {
    let rounds = number_of_run("COFFER_ROUNDS", ROUNDS);
    let rig = Rig::start().await;
    let token = Token::user("ann", "clinic").through("viewer").project("trial");
    let connections = rig.connections(&token).await;
    let user = connections[0].upload(spec("first"), b"first").await.unwrap().owner_user_id;
    let content = Bytes::from(noise(MIB + 1));
    let sampler = Sampler::start(&rig.cofferd.database).await;
    let (mut files, mut refused) = (0_u64, 0_u64);
    for round in 0..rounds {
        let of = quotas(&user)[round as usize % 6].clone();
        let before = quota(&rig.operator, of.clone()).await;
        let limit = before.used_bytes + MIB as i64;
        set(&rig.operator, bytes(of.clone(), limit)).await.unwrap();
        let clients = (0..CLIENTS).map(|i| {
            // Multiplied by odd numbers, every size meets every plan, and another one in every round.
            let turn = i * 5 + round as usize * 3;
            let content = content.slice(..SIZES[turn % SIZES.len()]);
            let plan = match (i / SIZES.len()) % 8 {
                0 | 1 => Plan::Put(Way::Declared),
                2 | 3 => Plan::Put(Way::Undeclared),
                4 | 5 => Plan::Put(Way::Started),
                6 => Plan::Cancel,
                _ => Plan::Leave,
            };
            let clients = connections[i % connections.len()].clone();
            tokio::spawn(carry_out(clients, format!("{round}/{i}"), content, plan))
        });
        let mut stored = Vec::new();
        for outcome in futures_util::future::join_all(clients).await {
            match outcome.unwrap() {
                Ok(file) => stored.extend(file),
                Err(status) => {
                    let expected = (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned());
                    assert_eq!(refusal(&status), expected, "{status:?}");
                    refused += 1;
                }
            }
        }
        rig.settled().await;
        let after = quota(&rig.operator, of.clone()).await;
        let bytes: i64 = stored.iter().map(|file| file.size_bytes).sum();
        assert_eq!(
            after.used_bytes - before.used_bytes,
            bytes,
            "round {round}: what was answered is what counts"
        );
        assert!(after.used_bytes <= limit, "round {round}: {} bytes over", after.used_bytes - limit);
        // What is left is not lost: it can be had to the last byte, and then there is no more.
        let left = (limit - after.used_bytes) as usize;
        let rest = put(&connections[0], spec(&format!("{round}/rest")), content.slice(..left), Way::Declared);
        rest.await.unwrap_or_else(|status| panic!("round {round}: {left} bytes are left: {status:?}"));
        let more =
            put(&connections[0], spec(&format!("{round}/more")), content.slice(..1), Way::Declared).await;
        assert_eq!(refusal(&more.unwrap_err()).1, "QUOTA_EXCEEDED");
        files += stored.len() as u64;
        set(&rig.operator, crate::quotas::unlimited(of)).await.unwrap();
    }
    let looks = sampler.looks().await;
    println!(
        "{rounds} rounds of {CLIENTS} clients, {files} files, {refused} refused, {looks} looks, 0 bytes over"
    );
    assert!(files >= rounds && refused > rounds, "they raced: {files} files, {refused} refused");
    rig.settled().await;
}

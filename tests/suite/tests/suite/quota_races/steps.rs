//! Unknown sizes that grow in steps past what there is.

use super::rig::{Rig, Sampler, Way, got_in, put};
use crate::quotas::{bytes, quota, set};
use coffer_proto::v1::quota_key::Of;
use coffer_tests::{
    Token,
    grpc::{at, noise},
};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn growing_uploads_are_never_over_and_one_gets_in() {
    const UPLOADS: usize = 8;
    const SIZE: usize = 4 * MIB + 77;
    let rig = Rig::start().await;
    let connections = rig.connections(&Token::user("ann", "clinic")).await;
    let content = bytes::Bytes::from(noise(SIZE));
    let sampler = Sampler::start(&rig.cofferd.database).await;
    for round in 0..2 {
        let used = quota(&rig.operator, Of::OrganisationId(String::new())).await.used_bytes;
        // Room for two and a half.
        let limit = used + (SIZE * 5 / 2) as i64;
        set(&rig.operator, bytes(Of::OrganisationId(String::new()), limit)).await.unwrap();
        let uploads = (0..UPLOADS).map(|i| {
            let (clients, content) = (connections[i % connections.len()].clone(), content.clone());
            tokio::spawn(
                async move { put(&clients, at(&format!("{round}/{i}")), content, Way::Undeclared).await },
            )
        });
        let outcomes = futures_util::future::join_all(uploads).await;
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
        let files = got_in(outcomes, "organisation:");
        assert!(files <= 2, "{files} of two and a half");
        rig.settled().await;
        // Those who grow at once may all be refused half-way; whoever comes alone is not.
        let alone =
            put(&connections[0], at(&format!("{round}/alone")), content.clone(), Way::Undeclared).await;
        assert_eq!(alone.is_ok(), files < 2, "{files} got in before: {alone:?}");
        assert!(files + usize::from(alone.is_ok()) >= 1);
        rig.settled().await;
    }
    let looks = sampler.looks().await;
    println!("{looks} looks, 0 over");
    assert!(looks > 20, "{looks} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_upload_gets_the_last_byte_there_is() {
    let rig = Rig::start().await;
    let ann = rig.cofferd.clients(&Token::user("ann", "clinic")).await;
    let content = bytes::Bytes::from(noise(3 * MIB + 1));
    let sampler = Sampler::start(&rig.cofferd.database).await;
    for (n, size) in [1, MIB - 1, MIB, MIB + 1, 3 * MIB].into_iter().enumerate() {
        let used = quota(&rig.operator, Of::Volume("main".into())).await.used_bytes;
        let limit = used + size as i64;
        set(&rig.operator, bytes(Of::Volume("main".into()), limit)).await.unwrap();
        let too_large = put(&ann, at(&format!("{n}")), content.slice(..size + 1), Way::Undeclared).await;
        assert_eq!(got_in(vec![too_large], "volume:"), 0, "{size} and one more");
        let exact = put(&ann, at(&format!("{n}")), content.slice(..size), Way::Undeclared).await;
        assert_eq!(got_in(vec![exact], "volume:"), 1, "{size}, exactly");
        rig.settled().await;
    }
    assert!(sampler.looks().await > 10);
}

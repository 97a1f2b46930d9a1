//! Each dimension in turn: 200 uploads at once where 100 fit. A third is sent in each way; `COFFER_WAYS=1` asks for 200 of each way
//! alone as well.

use super::rig::{Rig, Sampler, Way, got_in, operator, put};
use crate::quotas::{quota, set, unlimited};
use coffer_proto::v1::{self, quota_key::Of};
use coffer_tests::{
    Token,
    dice::number_of_run,
    grpc::{Clients, at, noise},
};

const UPLOADS: usize = 200;
const FITTING: usize = 100;
/// Of each content; small, because how many race is the point.
const SIZE: usize = 2_000;

/// What of a quota is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limited {
    Bytes,
    Files,
    /// Bytes of a single file: half of the contents are one byte too large.
    File,
}

/// Each dimension: the quota, what of it is limited, how refusals name it.
fn dimensions(user: &str, app: &str) -> Vec<(Of, Limited, &'static str)> {
    use Limited::{Bytes, File, Files};
    let on_volume = v1::UserOnVolume { user_id: user.to_owned(), ..Default::default() };
    let of_app = v1::AppOnVolume { app_id: app.to_owned(), ..Default::default() };
    let of_user = || Of::UserId(user.to_owned());
    let organisation = || Of::OrganisationId(String::new());
    let project = || Of::ProjectId("trial".into());
    vec![
        (Of::Volume("main".into()), Bytes, "volume:"),
        (Of::UserOnVolume(on_volume), Bytes, "user:"),
        (Of::AppOnVolume(of_app), Bytes, "app:"),
        (of_user(), Bytes, "user:"),
        (of_user(), Files, "user:"),
        (organisation(), Bytes, "organisation:"),
        (organisation(), Files, "organisation:"),
        (project(), Bytes, "project:"),
        (project(), Files, "project:"),
        (of_user(), File, "user:"),
        (organisation(), File, "organisation:"),
        (project(), File, "project:"),
    ]
}

/// A limit that lets exactly [`FITTING`] uploads in.
async fn let_in(operator: &Clients, of: Of, limited: Limited) {
    let now = quota(operator, of.clone()).await;
    let none = unlimited(of);
    let request = match limited {
        Limited::Bytes => {
            v1::SetQuotaRequest { limit_bytes: Some(now.used_bytes + (FITTING * SIZE) as i64), ..none }
        }
        Limited::Files => v1::SetQuotaRequest { limit_files: Some(now.used_files + FITTING as i64), ..none },
        Limited::File => v1::SetQuotaRequest { max_file_bytes: Some(SIZE as i64), ..none },
    };
    set(operator, request).await.unwrap();
}

/// Every dimension in a tenant of its own, so that nothing of one is in the way of another.
async fn race(rig: &Rig, name: &str, ways: &[Way]) {
    let content = bytes::Bytes::from(noise(SIZE + 1));
    let sampler = Sampler::start(&rig.cofferd.database).await;
    let count = dimensions("", "").len();
    for n in 0..count {
        let organisation = format!("{name}-{n}");
        let app = format!("app-{name}-{n}");
        let token = Token::user("ann", &organisation).through(&app).project("trial");
        let connections = rig.connections(&token).await;
        let spec = |path: String| v1::UploadSpec { project_id: "trial".into(), ..at(&path) };
        let first = connections[0].upload(spec("first".into()), b"first").await.unwrap();
        let operator = rig.cofferd.clients(&operator(&organisation)).await;
        let (of, limited, subject) = dimensions(&first.owner_user_id, &app).remove(n);
        let_in(&operator, of.clone(), limited).await;

        let uploads = (0..UPLOADS).map(|i| {
            let clients = connections[i % connections.len()].clone();
            let is_larger = limited == Limited::File && i >= FITTING;
            let content = content.slice(..SIZE + usize::from(is_larger));
            let (spec, way) = (spec(format!("{i}")), ways[i % ways.len()]);
            tokio::spawn(async move { put(&clients, spec, content, way).await })
        });
        let outcomes = futures_util::future::join_all(uploads).await;
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
        assert_eq!(got_in(outcomes, subject), FITTING, "{of:?}, {limited:?}");

        rig.settled().await;
        let full = quota(&operator, of.clone()).await;
        match limited {
            Limited::Bytes => assert_eq!(Some(full.used_bytes), full.limit_bytes),
            Limited::Files => assert_eq!(Some(full.used_files), full.limit_files),
            Limited::File => assert_eq!(full.used_bytes, (FITTING * SIZE + 5) as i64),
        }
        set(&operator, unlimited(of)).await.unwrap();
    }
    let looks = sampler.looks().await;
    println!("{ways:?}: {count} dimensions, {UPLOADS} uploads each, {looks} looks, 0 over");
    assert!(looks > 10 * count as u64, "{looks} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_uploads_100_fit() {
    let each = [Way::Declared, Way::Undeclared, Way::Started];
    let rig = Rig::start().await;
    race(&rig, "all", &each).await;
    let mut races = 1;
    if number_of_run("COFFER_WAYS", 0) > 0 {
        for way in each {
            race(&rig, &format!("{way:?}"), &[way]).await;
            races += 1;
        }
    }
    let stored = races * dimensions("", "").len() * (FITTING + 1);
    crate::quotas::eventually("no refused upload leaves bytes", async || {
        rig.cofferd.objects().len() == stored
    })
    .await;
}

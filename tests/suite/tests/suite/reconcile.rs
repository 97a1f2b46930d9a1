//! A volume compared with its rows on request: what is told is what is done, and a strange volume is not touched.

use coffer_proto::v1::{self, difference::Kind};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, by_id, data, first, noise, refusal},
};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use tonic::{Code, Status};

async fn reconcile(clients: &Clients, dry_run: bool) -> Result<v1::ReconcileVolumeResponse, Status> {
    let request = v1::ReconcileVolumeRequest { volume: "main".into(), dry_run };
    Ok(clients.volumes.clone().reconcile_volume(request).await?.into_inner())
}

fn differences(report: &v1::ReconcileVolumeResponse) -> BTreeSet<(i32, &str)> {
    report.differences.iter().map(|difference| (difference.kind, difference.key.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_tells_what_the_run_then_does() {
    let cofferd = Cofferd::start_with(&[("reconcile.orphan_grace", "1s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    assert_eq!(refusal(&reconcile(&ann, true).await.unwrap_err()).0, Code::PermissionDenied);

    let kept = ann.upload(at("kept.bin"), &noise(1_000)).await.unwrap();
    let lost = ann.upload(at("lost.bin"), &noise(1_000)).await.unwrap();
    // An upload under way, with bytes staged.
    let request_id = uuid::Uuid::now_v7().to_string();
    let stream = ann.writing();
    assert!(stream.send(first(v1::UploadSpec { request_id, ..at("open.bin") })).await);
    assert!(stream.send(data(0, &noise(100_000))).await);
    let since = Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_uploads WHERE persisted_size = 100000").await
        == 0
    {
        assert!(since.elapsed() < Duration::from_secs(20), "progress is recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let volume = cofferd.main_volume();
    let plant = |key: &str| {
        let path = volume.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"stranger").unwrap();
    };
    let id = uuid::Uuid::now_v7().to_string();
    let orphan = format!("{}/{}/{id}", &id[..5], &id[5..8]);
    let (foreign, sibling) = ("backup/of/somebody.tar", format!("{}/xxx/{id}", &id[..5]));
    let staged = format!(".coffer/staging/{}", uuid::Uuid::now_v7());
    let not_staged = ".coffer/staging/notes.txt";
    for key in [&orphan, foreign, &sibling, &staged, not_staged] {
        plant(key);
    }
    let key = "SELECT provider_path FROM storage_files WHERE filename = 'lost.bin'";
    let lost_key: String = cofferd.database.connect().await.query_one(key, &[]).await.unwrap().get(0);
    fs::remove_file(volume.join(&lost_key)).unwrap();

    let expected = BTreeSet::from([
        (Kind::Orphan as i32, orphan.as_str()),
        (Kind::OrphanLeft as i32, foreign),
        (Kind::OrphanLeft as i32, sibling.as_str()),
        (Kind::Missing as i32, lost_key.as_str()),
        (Kind::Staged as i32, staged.as_str()),
    ]);
    // Until what was planted is older than the grace.
    let since = Instant::now();
    let told = loop {
        let told = reconcile(&operator, true).await.unwrap();
        if differences(&told) == expected {
            break told;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((told.objects_compared, told.orphans_removed, told.orphans_left), (4, 1, 2));
    assert_eq!((told.objects_missing, told.staged_removed, told.staged_left), (1, 1, 2));
    assert!(volume.join(&orphan).exists() && volume.join(&staged).exists(), "a rehearsal changes nothing");
    let seen = async |id: &str| {
        let request = v1::GetFileRequest { file: by_id(id) };
        ann.files.clone().get_file(request).await.unwrap().into_inner().file.unwrap().status()
    };
    assert_eq!(seen(&lost.id).await, v1::FileStatus::Active);

    assert_eq!(reconcile(&operator, false).await.unwrap(), told);
    assert!(!volume.join(&orphan).exists() && !volume.join(&staged).exists());
    for key in [foreign, &sibling, not_staged] {
        assert!(volume.join(key).exists(), "{key} is not ours");
    }
    assert_eq!(seen(&lost.id).await, v1::FileStatus::Corrupted);
    assert_eq!(seen(&kept.id).await, v1::FileStatus::Active);
    let after = reconcile(&operator, true).await.unwrap();
    assert_eq!((after.orphans_removed, after.staged_removed, after.staged_left), (0, 0, 2));
    // What is under way was spared: it is finished.
    let finish = v1::WriteFileRequest { write_offset: 100_000, finish: true, ..Default::default() };
    assert!(stream.send(finish).await);
    assert_eq!(stream.end().await.unwrap().file.unwrap().size_bytes, 100_000);
    super::quotas::nothing_drifts(&cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_its_marker_is_not_touched() {
    let cofferd = Cofferd::start_with(&[("reconcile.orphan_grace", "1s")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    ann.upload(at("a.bin"), &noise(1_000)).await.unwrap();
    let before = cofferd.objects();
    let marker = cofferd.main_volume().join(".coffer/volume.json");
    let ours = fs::read_to_string(&marker).unwrap();
    let mut strange: serde_json::Value = serde_json::from_str(&ours).unwrap();
    strange["cluster"] = uuid::Uuid::now_v7().to_string().into();
    // As if the rows were those of another database: all objects would be orphans.
    let sql = cofferd.database.connect().await;
    sql.batch_execute("UPDATE storage_objects SET state = 'deleting', refs = 0").await.unwrap();
    for content in [None, Some(strange.to_string())] {
        match content {
            None => fs::remove_file(&marker).unwrap(),
            Some(text) => fs::write(&marker, text).unwrap(),
        }
        for dry_run in [true, false] {
            let refused = refusal(&reconcile(&operator, dry_run).await.unwrap_err());
            assert_eq!(refused, (Code::Unavailable, "VOLUME_NOT_ON_THIS_NODE".to_owned()));
        }
        assert_eq!(cofferd.objects(), before);
    }
}

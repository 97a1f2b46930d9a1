//! Secrets stay secret, and move to another key while everything goes on.

use crate::{
    backends::backend,
    endpoints::{basic, bearer, bucket, create, header, http, s3, store},
    ftp_endpoints::{ftp, password, private_key, sftp},
    volumes,
};
use coffer_persistence::secrets::add_key;
use coffer_proto::v1::{self, task::State};
use coffer_test_servers::Kind;
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, refusal},
};
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tonic::{Code, Streaming};

async fn operator(cofferd: &Cofferd) -> Clients {
    cofferd.clients(&Token::user("olga", "clinic").role("operator")).await
}

/// Credentials of two kinds of endpoints.
async fn fill(operator: &Clients, count: usize) {
    let photos = create(operator, bucket("photos")).await.unwrap().id;
    let web = create(operator, http("http://example.org")).await.unwrap().id;
    for n in 0..count / 2 {
        store(operator, &photos, s3(&format!("secret-{n}"))).await.unwrap();
        store(operator, &web, basic(&format!("secret-{n}"))).await.unwrap();
    }
}

async fn rotate(operator: &Clients) -> Result<v1::Task, tonic::Status> {
    let answer = operator.maintenance.clone().rotate_keys(v1::RotateKeysRequest::default()).await?;
    Ok(answer.into_inner().task.unwrap())
}

async fn watch(operator: &Clients, id: &str) -> Streaming<v1::WatchTaskResponse> {
    let request = v1::WatchTaskRequest { id: id.to_owned() };
    operator.maintenance.clone().watch_task(request).await.unwrap().into_inner()
}

/// The last state of a task.
async fn ended(operator: &Clients, id: &str) -> v1::Task {
    let (mut changes, mut last) = (watch(operator, id).await, None);
    while let Some(change) = changes.message().await.unwrap() {
        last = change.task;
    }
    last.unwrap()
}

async fn under_other_keys(cofferd: &Cofferd, key: &str) -> i64 {
    cofferd
        .database
        .number(&format!(
            "SELECT count(*) FROM (SELECT split_part(secret_key, '.', 2) AS kid FROM s3_credentials
             UNION ALL SELECT credentials ->> 'kid' FROM http_credentials
             UNION ALL SELECT split_part(password, '.', 2) FROM ftp_endpoints
             UNION ALL SELECT split_part(private_key, '.', 2) FROM ftp_endpoints) AS k WHERE kid <> '{key}'"
        ))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_database_nor_the_log_holds_a_secret() {
    let cofferd = Cofferd::start_with(&[("telemetry.log_filter", "trace")]).await;
    let operator = operator(&cofferd).await;
    let photos = create(&operator, bucket("photos")).await.unwrap().id;
    let web = create(&operator, http("http://example.org")).await.unwrap().id;
    let secrets: Vec<String> =
        (0..8).map(|n| format!("Swordfish{n}{}", uuid::Uuid::new_v4().simple())).collect();
    store(&operator, &photos, s3(&secrets[0])).await.unwrap();
    store(&operator, &web, basic(&secrets[1])).await.unwrap();
    store(&operator, &web, bearer(&secrets[2])).await.unwrap();
    let last = store(&operator, &web, header("x-key", &secrets[3])).await.unwrap();
    let change = v1::UpdateCredentialRequest {
        id: last.id,
        login: Some(v1::Login { kind: Some(basic(&secrets[4])) }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["login".into()] }),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    operator.volumes.clone().update_credential(change).await.unwrap();
    // Refusals are told and recorded, too.
    store(&operator, &web, basic(&format!("{}\n", secrets[5]))).await.unwrap_err();
    store(&operator, &web, s3(&secrets[5])).await.unwrap_err();
    let plain = create(&operator, ftp("ftp.example")).await.unwrap().id;
    let secure = create(&operator, sftp("sftp.example")).await.unwrap().id;
    store(&operator, &plain, password(&secrets[6])).await.unwrap();
    store(&operator, &plain, password(&format!("{}\n", secrets[5]))).await.unwrap_err();
    store(&operator, &plain, private_key(&BASE64.encode(secrets[5].as_bytes()))).await.unwrap_err();
    store(&operator, &secure, private_key(&BASE64.encode(secrets[7].as_bytes()))).await.unwrap();

    let directory: String = cofferd
        .database
        .connect()
        .await
        .query_one("SELECT setting FROM pg_config WHERE name = 'BINDIR'", &[])
        .await
        .unwrap()
        .get(0);
    let dump =
        Command::new(format!("{directory}/pg_dump")).arg(cofferd.database.url().await).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(
        dump.contains("AKEXAMPLE") && cofferd.log().contains("CreateCredential"),
        "the search finds what is there"
    );
    for (place, text) in [("the database", dump), ("the log", cofferd.log())] {
        for secret in &secrets {
            let bytes = secret.as_bytes();
            // Wherever a base64 of something longer begins, most of it looks like one of these.
            let shifted = (0..3).map(|skip| BASE64.encode(&bytes[skip..])[4..40].to_owned());
            let forms =
                [secret.clone(), HEXLOWER.encode(bytes), HEXUPPER.encode(bytes), BASE64URL.encode(bytes)];
            for form in forms.into_iter().chain(shifted) {
                assert!(!text.contains(&form), "{place} holds {form}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_secret_hurts_its_volume_alone() {
    let Some(server) = Kind::RcloneS3.shared() else { return };
    let mut cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.0/8")]).await;
    let clients = operator(&cofferd).await;
    for name in ["one", "two"] {
        let address = server.address().to_string();
        let backend = backend(&clients, &server, Kind::RcloneS3, &address, &server.place()).await;
        let volume = v1::Volume { name: name.into(), backend: Some(backend), ..Default::default() };
        volumes::create(&clients, volume).await.unwrap();
    }
    let session = cofferd.database.connect().await;
    let stored = session.query("SELECT secret_key FROM s3_credentials ORDER BY id", &[]).await.unwrap();
    let (one, two): (String, String) = (stored[0].get(0), stored[1].get(0));
    for (of, damaged) in [
        ("cut off", one[..one.len() - 4].to_owned()),
        ("another row's", two.clone()),
        ("under a key that nobody has", one.replace(".test.", ".4294967295.")),
        ("of another form", one.replacen("v1.", "v127.", 1)),
    ] {
        assert_ne!(damaged, one, "{of}");
        let damage = "UPDATE s3_credentials SET secret_key = $1 WHERE id = (SELECT min(id::text)::uuid FROM s3_credentials)";
        assert_eq!(session.execute(damage, &[&damaged]).await.unwrap(), 1);
        // What is open stays so: it has to be opened again.
        cofferd.kill();
        cofferd.launch().await;
        let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
        let on = |volume: &str| v1::UploadSpec { volume: volume.into(), ..at(&format!("{of}.txt")) };
        let status = ann.upload(on("one"), b"content").await.unwrap_err();
        assert_eq!(refusal(&status), (Code::DataLoss, "SECRET_UNREADABLE".to_owned()), "{of}");
        ann.upload(on("two"), b"content").await.unwrap();
        let check = v1::CheckVolumeRequest { volume: "one".into() };
        let check = operator(&cofferd).await.volumes.check_volume(check).await.unwrap().into_inner();
        assert_eq!(check.steps[0].problem, "SECRET_UNREADABLE", "{of}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_nothing_is_stored() {
    let cofferd = Cofferd::start_with(&[("secrets.keys_file", "")]).await;
    let operator = operator(&cofferd).await;
    let web = create(&operator, http("http://example.org")).await.unwrap().id;
    let missing = (Code::FailedPrecondition, "KEYS_MISSING".to_owned());
    assert_eq!(refusal(&store(&operator, &web, basic("x")).await.unwrap_err()), missing);
    assert_eq!(refusal(&rotate(&operator).await.unwrap_err()), missing);
    assert_eq!(cofferd.database.number("SELECT count(*) FROM http_credentials").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_from_the_command_line_while_uploads_run() {
    let cofferd = Cofferd::start().await;
    let operator = operator(&cofferd).await;
    fill(&operator, 120).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let is_over = AtomicBool::new(false);
    let uploads = async {
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            ann.upload(at(&format!("{count}.txt")), b"content").await.unwrap();
            count += 1;
        }
        count
    };
    let rotation = async {
        let output = cofferd.tool(&["keys", "rotate"]).await;
        is_over.store(true, Ordering::Relaxed);
        output
    };
    let (uploads, output) = tokio::join!(uploads, rotation);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(uploads > 0);
    let key = said.lines().find_map(|line| line.strip_prefix("made the key ")).unwrap();
    let key = key.split(',').next().unwrap();
    assert!(said.contains("sealed anew: 120 of 120"), "{said}");
    assert_eq!(under_other_keys(&cofferd, key).await, 0);
    // The server has not been told, and finds the key by itself.
    let request = v1::RotateKeysRequest { key_id: key.to_owned(), ..Default::default() };
    let task = operator.maintenance.clone().rotate_keys(request).await.unwrap().into_inner().task.unwrap();
    assert_eq!(ended(&operator, &task.id).await.state(), State::Succeeded);
    for (key_id, code) in
        [("unknown", Code::NotFound), ("test", Code::InvalidArgument), ("a b", Code::InvalidArgument)]
    {
        let request = v1::RotateKeysRequest { key_id: key_id.to_owned(), ..Default::default() };
        assert_eq!(
            operator.maintenance.clone().rotate_keys(request).await.unwrap_err().code(),
            code,
            "{key_id}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_goes_on_at_the_next_start() {
    let mut cofferd = Cofferd::start().await;
    let clients = operator(&cofferd).await;
    fill(&clients, 300).await;
    let key = add_key(&cofferd.data_dir().join("keys.json")).unwrap().to_string();
    // The first page is 100 secrets; this one stands in the way of the second.
    let mut session = cofferd.database.connect().await;
    let barrier = session.transaction().await.unwrap();
    barrier
        .execute("SELECT FROM s3_credentials WHERE id = (SELECT id FROM s3_credentials ORDER BY id OFFSET 120 LIMIT 1) FOR UPDATE", &[])
        .await
        .unwrap();
    let task = rotate(&clients).await.unwrap();
    assert_eq!((task.items_total, task.kind()), (300, v1::TaskKind::RotateKeys));
    let mut changes = watch(&clients, &task.id).await;
    while changes.message().await.unwrap().unwrap().task.unwrap().items_done < 100 {}
    assert_eq!(refusal(&rotate(&clients).await.unwrap_err()), (Code::Aborted, "TASK_RUNNING".to_owned()));
    cofferd.kill();
    assert!(changes.message().await.is_err(), "whoever watches is told");
    barrier.rollback().await.unwrap();
    assert_eq!(under_other_keys(&cofferd, &key).await, 200, "neither more nor less than what is recorded");

    cofferd.launch().await;
    let clients = operator(&cofferd).await;
    let last = ended(&clients, &task.id).await;
    assert_eq!((last.state(), last.items_done, last.items_failed), (State::Succeeded, 300, 0));
    assert_eq!(under_other_keys(&cofferd, &key).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_watched_and_ended_by_operators_alone() {
    let cofferd = Cofferd::start().await;
    let clients = operator(&cofferd).await;
    fill(&clients, 240).await;
    add_key(&cofferd.data_dir().join("keys.json")).unwrap();
    let mut session = cofferd.database.connect().await;
    let barrier = session.transaction().await.unwrap();
    barrier
        .execute("SELECT FROM s3_credentials WHERE id = (SELECT id FROM s3_credentials ORDER BY id OFFSET 110 LIMIT 1) FOR UPDATE", &[])
        .await
        .unwrap();
    let task = rotate(&clients).await.unwrap();
    let mut tasks = clients.maintenance.clone();
    let cancel = v1::CancelTaskRequest { id: task.id.clone(), ..Default::default() };
    while tasks
        .get_task(v1::GetTaskRequest { id: task.id.clone() })
        .await
        .unwrap()
        .into_inner()
        .task
        .unwrap()
        .items_done
        < 100
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let asked = tokio::spawn({
        let (mut tasks, cancel) = (tasks.clone(), cancel.clone());
        async move { tasks.cancel_task(cancel).await }
    });
    barrier.rollback().await.unwrap();
    asked.await.unwrap().unwrap();
    let last = ended(&clients, &task.id).await;
    // It may have been over before it was asked.
    assert!(matches!(last.state(), State::Cancelled | State::Succeeded), "{last:?}");
    assert!(last.end_time.is_some());
    assert_eq!(tasks.cancel_task(cancel.clone()).await.unwrap().into_inner().task, Some(last.clone()));
    let list = |state: State| v1::ListTasksRequest { state: state.into(), ..Default::default() };
    assert_eq!(tasks.list_tasks(list(last.state())).await.unwrap().into_inner().tasks, [last]);
    assert!(tasks.list_tasks(list(State::Running)).await.unwrap().into_inner().tasks.is_empty());

    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let mut tasks = ann.maintenance.clone();
    let id = || task.id.clone();
    for status in [
        rotate(&ann).await.unwrap_err(),
        tasks.get_task(v1::GetTaskRequest { id: id() }).await.unwrap_err(),
        tasks.list_tasks(v1::ListTasksRequest::default()).await.unwrap_err(),
        tasks.cancel_task(cancel).await.unwrap_err(),
        tasks.watch_task(v1::WatchTaskRequest { id: id() }).await.unwrap_err(),
    ] {
        assert_eq!(refusal(&status), (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()));
    }
    let absent = v1::GetTaskRequest { id: uuid::Uuid::now_v7().to_string() };
    assert_eq!(clients.maintenance.clone().get_task(absent).await.unwrap_err().code(), Code::NotFound);
}

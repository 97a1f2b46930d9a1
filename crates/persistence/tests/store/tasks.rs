//! Long work: sealing all secrets anew, also when it is cut off.

use std::time::Duration;

use coffer_domain::endpoint::Login;
use coffer_domain::error::{Conflict, Error, Resource};
use coffer_domain::id::{EndpointId, NodeId, TaskId};
use coffer_domain::operation::OperationKind;
use coffer_domain::page::PageRequest;
use coffer_domain::secret::KeyId;
use coffer_domain::store::{NodeStart, Store};
use coffer_domain::task::{Filter, NewTask, Task, TaskKind, TaskState, Work};

use crate::endpoints::{Keyed, bucket, http, http_logins, ring, s3_login, store_login};
use crate::ftp::{ftp, password, private_key, sftp};
use crate::rig::operation;

const NOT_UNDER: &str = "SELECT count(*) FROM (
    SELECT split_part(secret_key, '.', 2) AS kid FROM s3_credentials
    UNION ALL SELECT credentials ->> 'kid' FROM http_credentials
    UNION ALL SELECT split_part(password, '.', 2) FROM ftp_endpoints
    UNION ALL SELECT split_part(private_key, '.', 2) FROM ftp_endpoints) AS k WHERE kid <> ";

/// Secrets of every kind, six of each endpoint.
async fn fill(keyed: &Keyed) -> Vec<(EndpointId, Login)> {
    let (s3, web) = (keyed.endpoint(bucket("photos")).await.id, keyed.endpoint(http("http://h")).await.id);
    let mut stored = Vec::new();
    for n in 0..2 {
        for login in http_logins(&format!("web-{n}")) {
            stored.push((web, login));
            stored.push((s3, s3_login(&format!("s3-{n}-{}", stored.len()))));
        }
    }
    for (endpoint, login) in &stored {
        keyed.credential(*endpoint, login).await;
    }
    stored
}

/// Everything that can be opened, oldest first, of each endpoint.
async fn opened(keyed: &Keyed, endpoint: EndpointId) -> Vec<Login> {
    let page = PageRequest { size: 100, skip: 0, after: None };
    let mut logins = Vec::new();
    for credential in keyed.store.credentials(endpoint, &page).await.unwrap().items {
        logins.push(keyed.store.login(endpoint, Some(credential.id)).await.unwrap().unwrap());
    }
    logins
}

async fn begin(keyed: &Keyed, start: NodeStart, key_id: &KeyId) -> Result<Task, Error> {
    let task = NewTask { id: TaskId::new(), work: Work::RotateKeys { key_id: key_id.clone() } };
    keyed.store.create_task(&task, start, &operation(OperationKind::RotateKeys), None).await
}

async fn step(keyed: &Keyed, task: TaskId, start: NodeStart) -> Result<Task, Error> {
    keyed.store.rotate_secrets(task, start, 4, &operation(OperationKind::RotateKeys)).await
}

async fn to_its_end(keyed: &Keyed, task: TaskId, start: NodeStart) -> Task {
    for _ in 0..100 {
        let task = step(keyed, task, start).await.unwrap();
        if task.state != TaskState::Running {
            return task;
        }
    }
    panic!("it does not end");
}

#[tokio::test]
async fn all_secrets_end_under_the_new_key_and_open_as_before() {
    let keyed = Keyed::new().await;
    let stored = fill(&keyed).await;
    let key = keyed.add_key();
    assert_eq!(keyed.store.current_key(None).await.unwrap(), key);
    let task = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    assert_eq!((task.state, task.items_total, task.items_done), (TaskState::Running, 12, 0));
    let again = begin(&keyed, keyed.rig.start, &key).await;
    assert!(matches!(again, Err(Error::Conflict(Conflict::TaskRunning))), "{again:?}");

    let ended = to_its_end(&keyed, task.id, keyed.rig.start).await;
    assert_eq!((ended.state, ended.items_done, ended.items_failed), (TaskState::Succeeded, 12, 0));
    assert!(ended.ended_at.is_some() && ended.error.is_none());
    assert_eq!(keyed.rig.text(&format!("{NOT_UNDER} '{key}'")).await, "0");
    for endpoint in [stored[0].0, stored[1].0] {
        let expected: Vec<_> =
            stored.iter().filter(|(of, _)| *of == endpoint).map(|(_, login)| login.clone()).collect();
        assert_eq!(opened(&keyed, endpoint).await, expected);
    }
    let kinds = "SELECT count(*) FROM storage_operations WHERE operation = 'rotate_keys'";
    assert_eq!(keyed.rig.text(kinds).await, "2", "its beginning and its end");
    let next = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    let ended = to_its_end(&keyed, next.id, keyed.rig.start).await;
    assert_eq!((ended.state, ended.items_done), (TaskState::Succeeded, 0));
}

#[tokio::test]
async fn a_task_whose_node_died_goes_on_where_it_was() {
    let keyed = Keyed::new().await;
    fill(&keyed).await;
    let key = keyed.add_key();
    let node = NodeId::new();
    let dead = keyed.store.start_node(node, "test", Duration::from_secs(60)).await.unwrap();
    let task = begin(&keyed, dead, &key).await.unwrap();
    let before = step(&keyed, task.id, dead).await.unwrap();
    assert_eq!(before.items_done, 4);
    assert_eq!(keyed.store.take_tasks(keyed.rig.start).await.unwrap(), [], "its node lives");

    let anew = keyed.store.start_node(node, "test", Duration::from_secs(60)).await.unwrap();
    let taken = keyed.store.take_tasks(keyed.rig.start).await.unwrap();
    assert_eq!(taken.iter().map(|task| task.id).collect::<Vec<_>>(), [task.id]);
    assert_eq!(taken[0].items_done, 4);
    for late in [dead, anew] {
        let refused = step(&keyed, task.id, late).await;
        assert!(matches!(refused, Err(Error::Conflict(Conflict::Fenced))), "{refused:?}");
    }
    let ended = to_its_end(&keyed, task.id, keyed.rig.start).await;
    assert_eq!((ended.state, ended.items_done), (TaskState::Succeeded, 12), "each once");
    let over = step(&keyed, task.id, keyed.rig.start).await;
    assert!(matches!(over, Err(Error::Conflict(Conflict::Fenced))), "{over:?}");
}

#[tokio::test]
async fn what_comes_under_an_old_key_meanwhile_is_sealed_anew_too() {
    let keyed = Keyed::new().await;
    let stored = fill(&keyed).await;
    // Another process that has not heard of the new key.
    let stale = keyed.rig.store.clone().with_keys(ring(keyed.directory.path()));
    let key = keyed.add_key();
    keyed.store.current_key(Some(&key)).await.unwrap();
    let task = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    let mut late = 0;
    let ended = loop {
        let task = step(&keyed, task.id, keyed.rig.start).await.unwrap();
        if task.state != TaskState::Running {
            break task;
        }
        if late < 8 {
            let (endpoint, login) = &stored[late % stored.len()];
            store_login(&stale, *endpoint, login).await.unwrap();
            late += 1;
        }
    };
    assert_eq!((ended.state, ended.items_done), (TaskState::Succeeded, 12 + late as u64));
    assert_eq!(keyed.rig.text(&format!("{NOT_UNDER} '{key}'")).await, "0");
}

#[tokio::test]
async fn a_secret_that_cannot_be_opened_fails_the_task_and_no_other_secret() {
    let keyed = Keyed::new().await;
    let stored = fill(&keyed).await;
    keyed
        .rig
        .run(
            "UPDATE s3_credentials SET secret_key = 'v1.lost.AAAA'
             WHERE id = (SELECT id FROM s3_credentials ORDER BY id LIMIT 1)",
        )
        .await;
    let key = keyed.add_key();
    keyed.store.current_key(Some(&key)).await.unwrap();
    let task = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    let ended = to_its_end(&keyed, task.id, keyed.rig.start).await;
    assert_eq!((ended.state, ended.items_done, ended.items_failed), (TaskState::Failed, 11, 1));
    assert_eq!(ended.error.unwrap().reason, "SECRET_UNREADABLE");
    assert_eq!(keyed.rig.text(&format!("{NOT_UNDER} '{key}'")).await, "1");
    assert_eq!(opened(&keyed, stored[0].0).await.len(), 6);
    let status = "SELECT concat_ws(' ', status, error_code) FROM storage_operations
        WHERE operation = 'rotate_keys' ORDER BY id DESC LIMIT 1";
    assert_eq!(keyed.rig.text(status).await, "failed SECRET_UNREADABLE");
}

#[tokio::test]
async fn a_task_ends_when_it_is_asked_to_or_cannot_go_on() {
    let keyed = Keyed::new().await;
    fill(&keyed).await;
    let key = keyed.add_key();
    keyed.store.current_key(Some(&key)).await.unwrap();
    let task = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    step(&keyed, task.id, keyed.rig.start).await.unwrap();
    let cancel = async |id| keyed.store.cancel_task(id, &operation(OperationKind::CancelTask), None).await;
    let asked = cancel(task.id).await.unwrap();
    assert_eq!((asked.state, asked.is_cancel_requested), (TaskState::Running, true));
    let ended = step(&keyed, task.id, keyed.rig.start).await.unwrap();
    assert_eq!((ended.state, ended.items_done), (TaskState::Cancelled, 4));
    assert_eq!(cancel(task.id).await.unwrap(), ended, "it stays as it is");
    let absent = cancel(TaskId::new()).await;
    assert!(matches!(absent, Err(Error::NotFound(Resource::Task(_)))), "{absent:?}");

    let lost: KeyId = "lost".parse().unwrap();
    let second = begin(&keyed, keyed.rig.start, &lost).await.unwrap();
    let stuck = step(&keyed, second.id, keyed.rig.start).await;
    assert!(matches!(stuck, Err(Error::SecretUnreadable { .. })), "{stuck:?}");
    let message = "x".repeat(5_000);
    let failed = keyed
        .store
        .fail_task(second.id, keyed.rig.start, "WHY", &message, &operation(OperationKind::RotateKeys))
        .await
        .unwrap();
    let error = failed.error.unwrap();
    assert_eq!((failed.state, error.reason.as_str()), (TaskState::Failed, "WHY"));
    assert!(!error.message.is_empty() && error.message.len() < 1_024);

    let page = |after| PageRequest { size: 1, skip: 0, after };
    let listed = async |filter: Filter, after| keyed.store.tasks(&filter, &page(after)).await.unwrap();
    let first = listed(Filter::default(), None).await;
    assert_eq!(first.items[0].id, second.id, "newest first");
    assert_eq!(listed(Filter::default(), first.next).await.items[0].id, task.id);
    let cancelled = Filter { state: Some(TaskState::Cancelled), kind: Some(TaskKind::RotateKeys) };
    assert_eq!(listed(cancelled, None).await.items, [ended]);
}

#[tokio::test]
async fn what_opens_servers_is_sealed_anew_in_their_rows() {
    let keyed = Keyed::new().await;
    let mut stored = Vec::new();
    for n in 0..5 {
        let (plain, secure) = (ftp(&format!("ftp-{n}")), sftp(&format!("sftp-{n}")));
        stored.push((keyed.endpoint(plain).await.id, password(&format!("password-{n}"))));
        stored.push((keyed.endpoint(secure).await.id, private_key(&format!("key-{n}"))));
    }
    for (endpoint, login) in &stored {
        keyed.credential(*endpoint, login).await;
    }
    // Nothing of these is sealed.
    let file = Login::KeyFile { path: "clinic/id".to_owned() };
    let (of_file, without) = (keyed.endpoint(sftp("file")).await.id, keyed.endpoint(sftp("none")).await.id);
    keyed.credential(of_file, &file).await;
    let key = keyed.add_key();
    assert_eq!(keyed.store.current_key(None).await.unwrap(), key);
    let task = begin(&keyed, keyed.rig.start, &key).await.unwrap();
    assert_eq!(task.items_total, 10);
    let ended = to_its_end(&keyed, task.id, keyed.rig.start).await;
    assert_eq!((ended.state, ended.items_done, ended.items_failed), (TaskState::Succeeded, 10, 0));
    assert_eq!(keyed.rig.text(&format!("{NOT_UNDER} '{key}'")).await, "0");
    stored.push((of_file, file));
    for (endpoint, login) in stored {
        assert_eq!(keyed.store.login(endpoint, None).await.unwrap(), Some(login));
    }
    assert_eq!(keyed.store.login(without, None).await.unwrap(), None);
}

//! The audit trail.

use std::collections::HashSet;

use coffer_domain::error::Error;
use coffer_domain::id::{FileId, NodeId, OperationId, UserId, VolumeId};
use coffer_domain::operation::{Filter, Operation, OperationKind, OperationStatus};
use coffer_domain::page::PageRequest;
use coffer_domain::store::Store;
use coffer_domain::time::Timestamp;
use coffer_domain::volume::Provider;
use serde_json::json;
use uuid::{NoContext, Uuid};

use crate::rig::{Actor, Rig, operation};

fn full() -> Operation {
    Operation {
        file_id: Some(FileId::new()),
        volume_id: Some(VolumeId::new()),
        provider: Some(Provider::Local),
        bytes_transferred: 12,
        duration_ms: 3_000_000_000,
        client_ip: Some("2001:db8::1".to_owned()),
        user_agent: Some("agent\0".to_owned()),
        user_id: Some(UserId::new()),
        app_id: Some("chat".to_owned()),
        organisation: "clinic".to_owned(),
        session_id: Some("s".to_owned()),
        correlation_id: Some("c".to_owned()),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        node_id: Some(NodeId::new()),
        purpose: Some("treatment".to_owned()),
        completes: Some(OperationId::new()),
        ..operation(OperationKind::Download)
    }
    .failed(&Error::invalid("path", "a\0b"))
    .with("key\0", json!(["v\0", {"x\0": 1}]))
}

async fn list(
    rig: &Rig,
    filter: &Filter,
    page: &PageRequest,
) -> (Vec<Operation>, Option<coffer_domain::page::Cursor>) {
    let page = rig.store.operations("clinic", filter, page).await.unwrap();
    (page.items.iter().map(|record| Operation::from_record(record).unwrap()).collect(), page.next)
}

fn all() -> PageRequest {
    PageRequest::new(1_000, 0, None).unwrap()
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_written() {
    let rig = Rig::new().await;
    let written = full();
    rig.store.record(std::slice::from_ref(&written)).await.unwrap();
    let page = rig.store.operations("clinic", &Filter::default(), &all()).await.unwrap();
    assert_eq!(page.items, [written.record()]);
    assert_eq!(list(&rig, &Filter::default(), &all()).await.0, std::slice::from_ref(&written));
    // The columns are an index: without what they cannot hold or refer to.
    assert_eq!(
        rig.text(
            "SELECT concat_ws('|', file_id, user_agent, duration_ms, error_code, metadata, app_id, node_id)
            FROM storage_operations WHERE organisation_id = 'clinic'"
        )
        .await,
        format!(
            "agent\u{FFFD}|2147483647|FIELD_INVALID|{{\"key\u{FFFD}\": [\"v\u{FFFD}\", {{\"x\u{FFFD}\": 1}}]}}|chat|{}",
            written.node_id.unwrap()
        )
    );
    let pending = format!("SELECT count(*) FROM audit_pending WHERE operation_id = '{}'", written.id);
    assert_eq!(rig.text(&pending).await, "1");
}

#[tokio::test]
async fn recording_twice_is_recording_once() {
    let rig = Rig::new().await;
    let operations: Vec<_> = (0..5).map(|_| full()).collect();
    rig.store.record(&operations[..3]).await.unwrap();
    rig.store.record(&operations).await.unwrap();
    rig.store.record(&[]).await.unwrap();
    assert_eq!(list(&rig, &Filter::default(), &all()).await.0.len(), 5);
    let absent = OperationId::new();
    let ids: Vec<_> = operations.iter().map(|operation| operation.id).chain([absent]).collect();
    let found = rig.store.recorded(&ids).await.unwrap();
    assert_eq!(found, ids[..5].iter().copied().collect::<HashSet<_>>());
}

#[tokio::test]
async fn pages_of_operations_have_each_once_newest_first() {
    let rig = Rig::new().await;
    let written: Vec<_> = (0..25).map(|_| full()).collect();
    rig.store.record(&written).await.unwrap();
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (items, next) = list(&rig, &Filter::default(), &PageRequest::new(10, 0, after).unwrap()).await;
        seen.extend(items.iter().map(|operation| operation.id));
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mut ids: Vec<_> = written.iter().map(|operation| operation.id).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!((seen, pages), (ids.clone(), 3));
    let (skipped, _) = list(&rig, &Filter::default(), &PageRequest::new(10, 20, None).unwrap()).await;
    assert_eq!(skipped.iter().map(|operation| operation.id).collect::<Vec<_>>(), ids[20..]);
}

#[tokio::test]
async fn operations_are_filtered_by_all_that_is_asked() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let file = rig.put(&ann, "a.txt", 1).await;
    let read = Operation {
        file_id: Some(file.id),
        status: OperationStatus::Pending,
        ..ann.operation(OperationKind::Download)
    };
    rig.store.begin_read(file.id, &read).await.unwrap();
    let outcome = read.outcome();
    let refused = Actor::user("bob")
        .operation(OperationKind::Delete)
        .failed(&Error::PermissionDenied("delete the file"));
    let foreign = Actor::user("ann").of("lab").operation(OperationKind::List);
    rig.store.record(&[outcome.clone(), refused.clone(), foreign]).await.unwrap();

    let ids =
        async |filter: Filter| list(&rig, &filter, &all()).await.0.iter().map(|o| o.id).collect::<Vec<_>>();
    let any = Filter::default();
    assert_eq!(ids(any.clone()).await.len(), 4);
    assert_eq!(ids(Filter { file: Some(file.id), ..any.clone() }).await.len(), 3);
    assert_eq!(ids(Filter { user: refused.user_id, ..any.clone() }).await, [refused.id]);
    let kinds = vec![OperationKind::Download, OperationKind::Delete];
    assert_eq!(ids(Filter { kinds: kinds.clone(), ..any.clone() }).await, [refused.id, outcome.id, read.id]);
    let pending =
        Filter { status: Some(OperationStatus::Pending), file: Some(file.id), kinds, ..any.clone() };
    assert_eq!(ids(pending).await, [read.id]);
    assert_eq!(ids(Filter { file: Some(FileId::new()), ..any }).await, []);
}

fn at(millis: i64) -> Operation {
    let instant = Timestamp::from_timestamp_millis(millis).unwrap();
    let clock = uuid::Timestamp::from_unix(
        NoContext,
        millis.unsigned_abs() / 1_000,
        instant.timestamp_subsec_nanos(),
    );
    Operation { id: OperationId::from(Uuid::new_v7(clock)), created_at: instant, ..full() }
}

#[tokio::test]
async fn times_bound_the_ids() {
    let rig = Rig::new().await;
    let noon = 1_700_000_000_000;
    let written: Vec<_> = [noon - 1, noon, noon + 999, noon + 1_000].map(at).into();
    rig.store.record(&written).await.unwrap();
    let time = |millis| Timestamp::from_timestamp_millis(millis);
    let filter = Filter { from: time(noon), until: time(noon + 1_000), ..Filter::default() };
    let (found, _) = list(&rig, &filter, &all()).await;
    assert_eq!(found.iter().map(|o| o.id).collect::<Vec<_>>(), [written[2].id, written[1].id]);
    let since = Filter { from: time(noon + 1_000), ..Filter::default() };
    assert_eq!(list(&rig, &since, &all()).await.0.len(), 1);
    let before_all = Filter { until: Some(Timestamp::MIN_UTC), ..Filter::default() };
    assert_eq!(list(&rig, &before_all, &all()).await.0, []);
}

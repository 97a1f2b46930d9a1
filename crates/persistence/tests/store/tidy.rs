//! What time makes due.

use coffer_domain::error::Error;
use coffer_domain::operation::OperationKind;
use coffer_domain::store::Store;

use crate::rig::{Actor, Rig, operation, request};

#[tokio::test]
async fn what_is_past_its_keeping_goes_and_the_rest_stays() {
    let rig = Rig::new().await;
    let ann = Actor::user("ann");
    let requests = [request("WriteFile"), request("WriteFile")];
    for (n, request) in requests.iter().enumerate() {
        rig.upload(&ann, &format!("{n}.txt"), 1).with_request(request).run(&rig.store).await.unwrap();
    }
    for n in 2..5 {
        let upload = rig.upload(&ann, &format!("{n}.txt"), 1);
        rig.open(&upload).await;
        if n < 4 {
            let why = operation(OperationKind::Upload).failed(&Error::DeadlineExceeded);
            rig.store.abort_upload(upload.held(), &why).await.unwrap();
        }
        if n == 2 {
            rig.store.upload_swept(upload.intent.id).await.unwrap();
        }
    }
    // More than one batch of events that are too old, and every upload as old as can be.
    rig.run(&format!(
        "INSERT INTO outbox_events (id, type) SELECT uuid_v7_floor(now() - interval '8 days' - n * interval '1 second'), 'old'
             FROM generate_series(1, 2500) AS n;
         UPDATE request_results SET expires_at = now() WHERE request_id = '{}';
         UPDATE storage_uploads SET updated_at = now() - interval '25 hours',
             id = overlay(id::text PLACING left(uuid_v7_floor(now() - interval '26 hours')::text, 13) FROM 1)::uuid
         WHERE state <> 'COMMITTED' OR id = (SELECT id FROM storage_uploads WHERE state = 'COMMITTED' ORDER BY id LIMIT 1)",
        requests[0].id
    ))
    .await;
    rig.store.tidy().await.unwrap();
    assert_eq!(rig.texts("SELECT request_id FROM request_results").await, [requests[1].id.to_string()]);
    assert_eq!(
        rig.text("SELECT string_agg(DISTINCT type, ' ') || count(*) FROM outbox_events").await,
        "coffer.file.created2"
    );
    // Of the undone ones, the one whose bytes may still be there.
    assert_eq!(
        rig.texts("SELECT state FROM storage_uploads ORDER BY state").await,
        ["ABORTED", "COMMITTED", "OPEN"]
    );
    rig.store.tidy().await.unwrap();
}

#[tokio::test]
async fn partitions_are_made_ahead() {
    let rig = Rig::new().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'storage_operations'::regclass";
    let before = rig.text(partitions).await;
    let last = rig.text("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '3 months', 'YYYY_MM')").await;
    rig.run(&format!("DROP TABLE storage_operations_{last}")).await;
    assert_ne!(rig.text(partitions).await, before);
    rig.store.tidy().await.unwrap();
    assert_eq!(rig.text(partitions).await, before);
}

//! Starts of nodes, and the database itself.

use std::time::Duration;

use coffer_domain::id::NodeId;
use coffer_domain::store::{NodeStart, Store};

use crate::rig::Rig;

const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn each_start_of_a_node_ends_the_one_before() {
    let rig = Rig::new().await;
    let node = NodeId::new();
    let first = rig.store.start_node(node, "1.0", LEASE).await.unwrap();
    assert_eq!(first, NodeStart { node, epoch: 1 });
    assert!(rig.store.renew_node(first, LEASE).await.unwrap());
    rig.run("UPDATE nodes SET retired_at = now()").await;
    let second = rig.store.start_node(node, "1.1", LEASE).await.unwrap();
    assert_eq!(second, NodeStart { node, epoch: 2 });
    assert!(!rig.store.renew_node(first, LEASE).await.unwrap());
    assert!(rig.store.renew_node(second, Duration::from_secs(90)).await.unwrap());
    let row = format!(
        "SELECT concat_ws(' ', epoch, version, round(extract(epoch FROM lease_until - now()) / 10), retired_at)
         FROM nodes WHERE id = '{node}'"
    );
    assert_eq!(rig.text(&row).await, "2 1.1 9");
    let stranger = NodeStart { node: NodeId::new(), epoch: 1 };
    assert!(!rig.store.renew_node(stranger, LEASE).await.unwrap());
}

#[tokio::test]
async fn a_database_says_which_it_is() {
    let rig = Rig::new().await;
    rig.store.ping().await.unwrap();
    let cluster = rig.store.cluster().await.unwrap();
    assert_eq!(rig.text("SELECT id FROM cluster").await, cluster.to_string());
}

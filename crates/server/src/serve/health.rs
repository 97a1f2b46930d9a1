//! What we say about ourselves: `grpc.health.v1`, and the same for `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_proto::v1;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// The name under which the metadata database is told about, apart from the services.
const METADATA: &str = "coffer.v1.metadata";

/// Every service of the contract, and the server as a whole, which is the empty name.
const SERVICES: &[&str] = &[
    "",
    v1::file_service_server::SERVICE_NAME,
    v1::transfer_service_server::SERVICE_NAME,
    v1::volume_service_server::SERVICE_NAME,
    v1::quota_service_server::SERVICE_NAME,
    v1::audit_service_server::SERVICE_NAME,
];

/// Our condition. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct Health {
    reporter: HealthReporter,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    is_metadata_reachable: AtomicBool,
    is_stopping: AtomicBool,
}

impl Health {
    /// Serving, with a metadata database that has just been used.
    pub(super) async fn new(reporter: HealthReporter) -> Self {
        for service in SERVICES.iter().chain([&METADATA]) {
            reporter.set_service_status(service, ServingStatus::Serving).await;
        }
        let state =
            State { is_metadata_reachable: AtomicBool::new(true), is_stopping: AtomicBool::new(false) };
        Self { reporter, state: Arc::new(state) }
    }

    /// What keeps us from serving.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        if self.state.is_stopping.load(Ordering::Relaxed) {
            Some("shutting down")
        } else if !self.state.is_metadata_reachable.load(Ordering::Relaxed) {
            Some("the metadata database does not answer")
        } else {
            None
        }
    }

    /// Whether the metadata database answers now. The services stay as they are: what they can do without it is their business.
    pub(super) async fn metadata(&self, is_reachable: bool) {
        metrics::gauge!("coffer_metadata_reachable").set(if is_reachable { 1.0 } else { 0.0 });
        let was_reachable = self.state.is_metadata_reachable.swap(is_reachable, Ordering::Relaxed);
        if was_reachable == is_reachable {
            return;
        }
        let status = if is_reachable { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(METADATA, status).await;
        if is_reachable {
            tracing::info!("the metadata database answers");
        } else {
            tracing::warn!("the metadata database does not answer");
        }
    }

    /// Nothing is served any more. Whoever watches is told, and the watches end: they would hold their connections for ever.
    pub(super) async fn stop(&self) {
        self.state.is_stopping.store(true, Ordering::Relaxed);
        let mut reporter = self.reporter.clone();
        for service in SERVICES.iter().chain([&METADATA]) {
            reporter.set_service_status(service, ServingStatus::NotServing).await;
            // A watch gives out the last status before it ends.
            reporter.clear_service_status(service).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, METADATA};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_server::Health as _;
    use tonic_health::server::{HealthReporter, HealthService};

    async fn status(service: &HealthService, name: &str) -> ServingStatus {
        let request = tonic::Request::new(HealthCheckRequest { service: name.to_owned() });
        service.check(request).await.unwrap().into_inner().status()
    }

    #[tokio::test]
    async fn the_database_is_told_about_apart() {
        let reporter = HealthReporter::new();
        let (health, service) =
            (Health::new(reporter.clone()).await, HealthService::from_health_reporter(reporter));
        assert_eq!(health.obstacle(), None);
        health.metadata(false).await;
        assert_eq!(status(&service, METADATA).await, ServingStatus::NotServing);
        assert_eq!(status(&service, "coffer.v1.FileService").await, ServingStatus::Serving);
        assert!(health.obstacle().is_some());
        health.metadata(true).await;
        assert_eq!(status(&service, METADATA).await, ServingStatus::Serving);
        assert_eq!(health.obstacle(), None);
    }

    #[tokio::test]
    async fn the_end_is_told_to_watchers_whose_streams_then_end() {
        use tokio_stream::StreamExt as _;

        let reporter = HealthReporter::new();
        let (health, service) =
            (Health::new(reporter.clone()).await, HealthService::from_health_reporter(reporter));
        let request = tonic::Request::new(HealthCheckRequest { service: String::new() });
        let mut watch = service.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        health.stop().await;
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(watch.next().await.is_none());
        assert_eq!(health.obstacle(), Some("shutting down"));
    }
}

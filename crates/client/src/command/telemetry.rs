//! Traces of the command itself, so that a trace begins where the work was asked for.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use std::{env, time::Duration};
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Longest wait for the collector at the end: a collector that is away must not hold up the command.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The exporter, if there is one.
pub(super) struct Traces(Option<SdkTracerProvider>);

/// Starts export by OTLP over gRPC where `OTEL_EXPORTER_OTLP_ENDPOINT` says so. Must run inside the runtime. A collector that
/// cannot be used is told once, and the command goes on without.
pub(super) fn start() -> Traces {
    if env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none_or(|endpoint| endpoint.is_empty()) {
        return Traces(None);
    }
    let exporter = match SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => exporter,
        Err(error) => {
            eprintln!("coffer: no traces are sent: {error}");
            return Traces(None);
        }
    };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name("coffer").build())
        .build();
    // Ours only: the transport's own spans would trace the export of traces.
    let ours = Targets::new()
        .with_target("coffer", Level::INFO)
        .with_target("coffer_client", Level::INFO)
        .with_default(LevelFilter::OFF);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("coffer"));
    tracing_subscriber::registry().with(ours).with(layer).init();
    Traces(Some(provider))
}

impl Traces {
    /// Sends what is left.
    pub(super) async fn flush(self) {
        let Some(provider) = self.0 else { return };
        let shutdown = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        match tokio::task::spawn_blocking(shutdown).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("coffer: traces were not sent: {error}"),
            Err(panic) => eprintln!("coffer: traces were not sent: {panic}"),
        }
    }
}

//! Logs, and traces that leave by OTLP.

mod format;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter, fmt};

use crate::config::{self, LogFormat};

/// How long the last traces may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What has to be flushed before the process ends.
#[derive(Debug)]
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
    is_exporting: bool,
}

impl Telemetry {
    /// Installs logging to standard error, tracing, and the propagation of W3C trace contexts, for the whole process. Needs a runtime.
    ///
    /// There are trace ids whether traces leave or not: answers, logs and the audit trail carry them.
    pub(crate) fn install(config: &config::Telemetry) -> anyhow::Result<Self> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = provider(config)?;
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("cofferd"))
            // Taken note of at each step of a task, whether or not anybody ever looks.
            .with_tracked_inactivity(false)
            .with_threads(false)
            .with_location(false)
            .with_filter(filter::filter_fn(|metadata| {
                // What the exporter itself does would be exported for ever.
                *metadata.level() <= LevelFilter::INFO && metadata.target().starts_with("coffer")
            }));
        let log_filter = EnvFilter::builder().parse(&config.log_filter).context("telemetry.log_filter")?;
        // Asked to trace, the FTP client tells every command, and one of them is the password.
        let log_filter = log_filter.add_directive("suppaftp=off".parse().expect("it is a directive"));
        let logs = match config.log_format {
            LogFormat::Human => fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal())
                .fmt_fields(format::HumanFields)
                .event_format(format::Human)
                .with_filter(log_filter)
                .boxed(),
            LogFormat::Json => fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(false)
                .fmt_fields(JsonFields::new())
                .event_format(format::Json)
                .with_filter(log_filter)
                .boxed(),
        };
        tracing_subscriber::registry().with(traces).with(logs).try_init().context("cannot set up logging")?;
        Ok(Self { provider, is_exporting: config.otlp_endpoint.is_some() })
    }

    /// Sends what has not left yet.
    pub(crate) async fn flush(self) {
        let Self { provider, is_exporting } = self;
        let shutdown = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        match tokio::task::spawn_blocking(shutdown).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if is_exporting => tracing::warn!(%error, "the last traces could not be sent"),
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "the last traces could not be sent"),
        }
    }
}

fn provider(config: &config::Telemetry) -> anyhow::Result<SdkTracerProvider> {
    let resource = Resource::builder()
        .with_service_name("cofferd")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("cannot send traces to {endpoint}"))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
    Ok(builder.with_sampler(sampler).with_batch_exporter(exporter).build())
}

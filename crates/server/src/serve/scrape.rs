//! The figures for Prometheus.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use coffer_persistence::Database;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a query on a warm cache to a transfer of gigabytes.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Everything that is measured in this process.
#[derive(Clone)]
pub(super) struct Scrape {
    handle: PrometheusHandle,
    started: Instant,
    database: Database,
}

/// Installs the recorder for the whole process. Before that nothing is measured.
pub(super) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .install_recorder()
        .context("cannot set up metrics")?;
    describe();
    metrics::gauge!("coffer_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Ok(since) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        metrics::gauge!("process_start_time_seconds").set(since.as_secs_f64());
    }
    Ok(handle)
}

impl Scrape {
    pub(super) fn new(handle: PrometheusHandle, database: Database) -> Self {
        Self { handle, started: Instant::now(), database }
    }

    /// The figures of this moment in Prometheus' text format.
    pub(super) fn render(&self) -> String {
        metrics::gauge!("coffer_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        let pool = self.database.pool_status();
        for (state, connections) in [("max", pool.max), ("open", pool.open), ("idle", pool.idle)] {
            metrics::gauge!("coffer_metadata_pool_connections", "state" => state).set(connections as f64);
        }
        metrics::gauge!("coffer_metadata_pool_waiting").set(pool.waiting as f64);
        self.handle.render()
    }

    /// Sums up what was measured since the last call; without it memory grows while nobody scrapes.
    pub(super) fn sum_up(&self) {
        self.handle.run_upkeep();
    }
}

/// How often [`Scrape::sum_up`] is called.
pub(super) const SUM_UP_INTERVAL: Duration = Duration::from_secs(5);

fn describe() {
    describe_gauge!("coffer_build_info", "Always 1; the version is a label");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "When the process started, since 1970");
    describe_gauge!("coffer_uptime_seconds", Unit::Seconds, "How long the process has been serving");
    describe_gauge!("coffer_connections_open", Unit::Count, "Connections by listener");
    describe_counter!("coffer_connections_accepted_total", Unit::Count, "Connections accepted by listener");
    describe_counter!(
        "coffer_connections_refused_total",
        Unit::Count,
        "Connections closed at once because their source has too many, by listener"
    );
    describe_counter!(
        "coffer_accept_errors_total",
        Unit::Count,
        "Failures to accept any connection, by listener"
    );
    describe_counter!(
        "coffer_received_bytes_total",
        Unit::Bytes,
        "Bytes that came in over connections, by listener"
    );
    describe_counter!(
        "coffer_sent_bytes_total",
        Unit::Bytes,
        "Bytes that went out over connections, by listener"
    );
    describe_gauge!(
        "coffer_metadata_reachable",
        Unit::Count,
        "1 while the metadata database answers, else 0"
    );
    describe_gauge!("coffer_metadata_pool_connections", Unit::Count, "Connections to PostgreSQL by state");
    describe_gauge!(
        "coffer_metadata_pool_waiting",
        Unit::Count,
        "Callers who wait for a connection to PostgreSQL"
    );
    describe_counter!("coffer_upkeep_runs_total", Unit::Count, "Runs of background jobs by job and outcome");
    describe_histogram!("coffer_upkeep_seconds", Unit::Seconds, "How long runs of background jobs took");
    describe_counter!("coffer_reconciled_total", Unit::Count, "What the reconciler did and found, by what");
    describe_counter!("coffer_rpcs_total", Unit::Count, "RPCs that have ended, by service, method and code");
    describe_histogram!(
        "coffer_rpc_duration_seconds",
        Unit::Seconds,
        "How long RPCs took, streams to their end"
    );
    describe_counter!(
        "coffer_http_refusals_total",
        Unit::Count,
        "Requests to the gRPC port that were no gRPC"
    );
    describe_counter!(
        "coffer_requests_refused_total",
        Unit::Count,
        "Requests refused because too much was in progress, by reason"
    );
    describe_counter!("coffer_key_fetches_total", Unit::Count, "Fetches of the issuer's keys by outcome");
    describe_histogram!(
        "coffer_store_seconds",
        Unit::Seconds,
        "How long transactions took, repetitions included"
    );
    describe_counter!(
        "coffer_store_retries_total",
        Unit::Count,
        "Transactions that were repeated, by reason"
    );
    describe_histogram!(
        "coffer_store_batch_items",
        Unit::Count,
        "What goes together in one transaction, by method"
    );
    describe_counter!("coffer_store_lost_commits_total", Unit::Count, "Commits whose answer was lost");
}

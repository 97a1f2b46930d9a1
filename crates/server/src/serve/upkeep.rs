//! What runs beside the requests: signs of life, repairs, things that time makes due.
//!
//! A job that fails is logged and runs again at its next time. Each run is a trace of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coffer_domain::service::{Coffer, Report, Scan};
use coffer_domain::store::{NodeStart, Store};
use coffer_persistence::secrets::KeyRing;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::health::Health;
use super::scrape::{SUM_UP_INTERVAL, Scrape};
use super::tls::Tls;
use crate::config::Config;
use crate::metadata::Embedded;

/// Pause between questions whether the metadata database answers, and between looks at the embedded one.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between looks at the files of certificates and keys.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between writes of the refusals that were counted.
const TEND_INTERVAL: Duration = Duration::from_secs(60);
/// Pause between clean-ups of what time has made useless.
const TIDY_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the jobs work on.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) coffer: Coffer,
    pub(super) store: Arc<dyn Store>,
    pub(super) start: NodeStart,
    pub(super) health: Health,
    pub(super) scrape: Scrape,
    pub(super) embedded: Option<Embedded>,
    pub(super) tls: Option<Tls>,
    pub(super) keys: KeyRing,
}

/// The running jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    tasks: TaskTracker,
    /// Ends the jobs that begin new work.
    work: CancellationToken,
    /// Ends those that have to go on while the rest is finished.
    signs: CancellationToken,
    /// Another process has taken our place.
    pub(super) replaced: CancellationToken,
}

/// When a job first runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Now,
    Later,
}

impl Upkeep {
    /// Starts all jobs.
    pub(super) fn start(self, config: &Config) -> Jobs {
        let jobs = Jobs::default();
        self.start_signs(&jobs, config.node_lease);
        self.start_work(&jobs, config);
        jobs
    }

    fn start_signs(&self, jobs: &Jobs, lease: Duration) {
        let (upkeep, replaced) = (self.clone(), jobs.replaced.clone());
        jobs.repeat("renew_lease", lease / 3, First::Later, &jobs.signs, move || {
            let (upkeep, replaced) = (upkeep.clone(), replaced.clone());
            async move {
                if !upkeep.store.renew_node(upkeep.start, lease).await? {
                    tracing::error!("another start of this node has taken over; this one ends");
                    replaced.cancel();
                }
                Ok(())
            }
        });
        let upkeep = self.clone();
        jobs.repeat("ping", PING_INTERVAL, First::Later, &jobs.signs, move || {
            let upkeep = upkeep.clone();
            async move {
                let answer = timeout(PING_TIMEOUT, upkeep.coffer.ping()).await;
                upkeep.health.metadata(matches!(answer, Ok(Ok(())))).await;
                Ok(())
            }
        });
        let scrape = self.scrape.clone();
        jobs.repeat("sum_up_metrics", SUM_UP_INTERVAL, First::Later, &jobs.signs, move || {
            scrape.sum_up();
            async { Ok(()) }
        });
        if let Some(embedded) = self.embedded.clone() {
            jobs.repeat("revive_database", PING_INTERVAL, First::Later, &jobs.signs, move || {
                let embedded = embedded.clone();
                async move {
                    if embedded.revive().await? {
                        tracing::error!("the embedded PostgreSQL was gone, and was started again");
                    }
                    Ok(())
                }
            });
        }
    }

    fn start_work(&self, jobs: &Jobs, config: &Config) {
        if let Some(tls) = self.tls.clone() {
            let look = move || {
                let tls = tls.clone();
                async move { reload(&tls).await }
            };
            jobs.repeat("reload_certificates", RELOAD_INTERVAL, First::Later, &jobs.work, look.clone());
            jobs.at_hangup("reload_certificates", &jobs.work, look);
        }
        let keys = self.keys.clone();
        let look = move || {
            let keys = keys.clone();
            async move { reload_keys(keys).await }
        };
        jobs.repeat("reload_keys", RELOAD_INTERVAL, First::Later, &jobs.work, look.clone());
        jobs.at_hangup("reload_keys", &jobs.work, look);
        let coffer = self.coffer.clone();
        jobs.repeat("resume_tasks", config.reconcile.interval, First::Now, &jobs.work, move || {
            let coffer = coffer.clone();
            async move {
                coffer.resume_tasks().await?;
                Ok(())
            }
        });
        let scans = [
            ("reconcile", config.reconcile.interval, Scan::Due),
            ("compare_volumes", config.reconcile.scan_interval, Scan::Volumes),
        ];
        for (name, every, scan) in scans {
            let coffer = self.coffer.clone();
            jobs.repeat(name, every, First::Now, &jobs.work, move || {
                let coffer = coffer.clone();
                async move {
                    count(&coffer.reconcile(scan).await?);
                    Ok(())
                }
            });
        }
        let coffer = self.coffer.clone();
        jobs.repeat("tend", TEND_INTERVAL, First::Later, &jobs.work, move || {
            let coffer = coffer.clone();
            async move { Ok(coffer.tend().await?) }
        });
        let store = Arc::clone(&self.store);
        jobs.repeat("tidy", TIDY_INTERVAL, First::Now, &jobs.work, move || {
            let store = Arc::clone(&store);
            async move { Ok(store.tidy().await?) }
        });
    }
}

impl Jobs {
    /// Begins no new work, and drops what runs: whatever it left half done the next run finds.
    pub(super) fn end_work(&self) {
        self.work.cancel();
    }

    /// Ends the rest too, and waits for all.
    pub(super) async fn end(self) {
        self.work.cancel();
        self.signs.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs `work` at each SIGHUP until `end`.
    fn at_hangup<F>(
        &self,
        name: &'static str,
        end: &CancellationToken,
        mut work: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => return tracing::warn!(%error, "cannot listen for SIGHUP"),
        };
        let end = end.clone();
        self.tasks.spawn(async move {
            let repeating = async {
                while hangups.recv().await.is_some() {
                    run(name, work()).await;
                }
            };
            end.run_until_cancelled(repeating).await;
        });
    }

    /// Runs `work` every so often until `end`. A run that takes longer puts the next ones off.
    fn repeat<F>(
        &self,
        name: &'static str,
        every: Duration,
        first: First,
        end: &CancellationToken,
        mut work: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut ticks = match first {
            First::Now => interval(every),
            First::Later => interval_at(tokio::time::Instant::now() + every, every),
        };
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = end.clone();
        self.tasks.spawn(async move {
            let repeating = async {
                loop {
                    ticks.tick().await;
                    run(name, work()).await;
                }
            };
            end.run_until_cancelled(repeating).await;
        });
    }
}

/// Takes up new certificates, if there are any.
async fn reload(tls: &Tls) -> anyhow::Result<()> {
    let tls = tls.clone();
    let outcome = tokio::task::spawn_blocking(move || tls.reload()).await?;
    match outcome.context("the new certificates cannot be used, and the ones before still are") {
        Ok(true) => tracing::info!("new connections use new certificates"),
        Ok(false) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Takes up new keys, if there are any.
async fn reload_keys(keys: KeyRing) -> anyhow::Result<()> {
    let outcome = tokio::task::spawn_blocking(move || (keys.reload(), keys.current())).await?;
    let (is_changed, current) = outcome;
    if is_changed.context("the file of keys cannot be used, and the keys before still are")? {
        tracing::info!(key.current = current.map(tracing::field::display), "took up new keys");
    }
    Ok(())
}

async fn run(name: &'static str, work: impl Future<Output = anyhow::Result<()>>) {
    let span = tracing::info_span!(parent: None, "upkeep", job = name);
    let began = Instant::now();
    let outcome = async {
        let outcome = work.await;
        if let Err(error) = &outcome {
            tracing::warn!(error = format!("{error:#}"), "a background job failed");
        }
        if outcome.is_ok() { "ok" } else { "failed" }
    }
    .instrument(span)
    .await;
    metrics::counter!("coffer_upkeep_runs_total", "job" => name, "outcome" => outcome).increment(1);
    metrics::histogram!("coffer_upkeep_seconds", "job" => name).record(began.elapsed());
}

fn count(report: &Report) {
    let Report {
        uploads_swept,
        objects_reclaimed,
        trash_purged,
        objects_compared,
        orphans_removed,
        orphans_left,
        objects_missing,
        staged_removed,
        problems,
    } = report;
    for (what, number) in [
        ("uploads_swept", uploads_swept),
        ("objects_reclaimed", objects_reclaimed),
        ("trash_purged", trash_purged),
        ("objects_compared", objects_compared),
        ("orphans_removed", orphans_removed),
        ("orphans_left", orphans_left),
        ("objects_missing", objects_missing),
        ("staged_removed", staged_removed),
        ("problems", problems),
    ] {
        metrics::counter!("coffer_reconciled_total", "what" => what).increment(*number);
    }
    if *report != Report::default() {
        tracing::debug!(?report, "reconciled");
    }
}

#[cfg(test)]
mod tests {
    use super::{First, Jobs};
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_job_goes_on_after_a_failure_until_its_end() {
        let jobs = Jobs::default();
        let (ran, mut runs) = mpsc::unbounded_channel();
        jobs.repeat("test", Duration::from_secs(10), First::Now, &jobs.work, move || {
            ran.send(tokio::time::Instant::now()).unwrap();
            async { anyhow::bail!("no") }
        });
        let first = runs.recv().await.unwrap();
        let second = runs.recv().await.unwrap();
        assert_eq!(second - first, Duration::from_secs(10));
        jobs.end_work();
        assert!(runs.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_go_on_when_work_ends() {
        let jobs = Jobs::default();
        let (ran, mut runs) = mpsc::unbounded_channel();
        jobs.repeat("test", Duration::from_secs(10), First::Later, &jobs.signs, move || {
            ran.send(()).unwrap();
            async { Ok(()) }
        });
        jobs.end_work();
        runs.recv().await.unwrap();
        runs.recv().await.unwrap();
        jobs.end().await;
        assert!(runs.recv().await.is_none());
    }
}

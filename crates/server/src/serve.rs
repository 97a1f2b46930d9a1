//! `cofferd serve`: start, serve, end.

mod connections;
mod grpc;
mod health;
mod probes;
mod scrape;
mod signals;
mod sources;
mod traffic;
mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coffer_api::auth::{Authenticator, DevelopmentKey, TrustedIssuer};
use coffer_api::edge::EdgeLayer;
use coffer_domain::service::Coffer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::Layer as _;

use crate::assemble::{Assembled, assemble};
use crate::config::{Config, Loaded};
use crate::data_dir::{DataDir, Lock, Running};
use crate::metadata::Metadata;
use crate::telemetry::Telemetry;
use connections::Connections;
use health::Health;
use probes::Probes;
use scrape::Scrape;
use signals::Signals;
use upkeep::{Jobs, Upkeep};

/// After the grace period connections are cut; so long may what they had begun take to commit or to be undone.
const LAST_COMMITS: Duration = Duration::from_secs(5);

/// Serves until a signal, or until another process takes this node's place.
pub(crate) async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let telemetry = Telemetry::install(&loaded.config.telemetry)?;
    let config = loaded.config;
    let server = tokio::select! {
        server = Server::start(&config) => server?,
        signal = signals.next() => {
            tracing::info!(signal, "ended before it was ready");
            return Ok(());
        }
    };
    let reason = tokio::select! {
        signal = signals.next() => Some(signal),
        () = server.jobs.replaced.cancelled() => None,
    };
    tracing::info!(signal = reason, grace = ?config.shutdown_grace, "shutting down");
    signals.end_at_next();
    server.stop(config.shutdown_grace, telemetry).await?;
    match reason {
        Some(_) => Ok(()),
        None => {
            bail!("another process serves as this node: does another data directory have the same node-id?")
        }
    }
}

/// A server that accepts requests.
struct Server {
    connections: Connections,
    health: Health,
    jobs: Jobs,
    coffer: Coffer,
    metadata: Metadata,
    data_dir: DataDir,
    _lock: Lock,
}

impl Server {
    async fn start(config: &Config) -> anyhow::Result<Self> {
        raise_file_limit();
        let figures = scrape::install()?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let lock = data_dir.must_lock()?;
        data_dir.withdraw()?;
        // First what fails at once.
        let (grpc, http) =
            (bind(config.grpc.addr, "grpc.addr").await?, bind(config.http.addr, "http.addr").await?);
        let authenticator = Arc::new(authenticator(config, &data_dir)?);
        let metadata = Metadata::for_server(config, &data_dir, &lock).await?;
        let Assembled { coffer, store, start } =
            assemble(config, &data_dir, &metadata.database, data_dir.node_id()?, config.node_lease).await?;

        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::new(reporter).await;
        let routes = coffer_api::routes(coffer.clone(), authenticator).add_service(health_service);
        let service = EdgeLayer::new().layer(with_reflection(routes)?.prepare().into_axum_router());
        let scrape = Scrape::new(figures, metadata.database.clone());
        let running =
            Running { pid: std::process::id(), grpc_addr: grpc.local_addr()?, http_addr: http.local_addr()? };
        let connections = Connections::default();
        grpc::serve(&connections, grpc, &config.grpc, service);
        probes::serve(&connections, http, Probes { health: health.clone(), scrape: scrape.clone() });
        let upkeep = Upkeep {
            coffer: coffer.clone(),
            store,
            start,
            health: health.clone(),
            scrape,
            embedded: metadata.embedded.clone(),
        };
        let jobs = upkeep.start(config);
        data_dir.announce(&running)?;
        tracing::info!(
            grpc.addr = %running.grpc_addr,
            http.addr = %running.http_addr,
            data_dir = %data_dir.root().display(),
            node.id = %start.node,
            node.epoch = start.epoch,
            "serving"
        );
        Ok(Self { connections, health, jobs, coffer, metadata, data_dir, _lock: lock })
    }

    /// Ends everything in the order in which it stands on each other. Signs of life go on until nothing of ours can be undone by others.
    async fn stop(self, grace: Duration, telemetry: Telemetry) -> anyhow::Result<()> {
        self.data_dir.withdraw()?;
        self.health.stop().await;
        self.jobs.end_work();
        let (is_in_time, _) = tokio::join!(self.connections.end(grace), self.coffer.drain(grace));
        if !is_in_time {
            tracing::warn!(?grace, "streams that had not ended were cut");
        }
        if !self.coffer.drain(LAST_COMMITS).await {
            tracing::warn!("what had begun was not finished, and is left to the reconciler");
        }
        if let Err(error) = self.coffer.tend().await {
            tracing::warn!(%error, "counted refusals could not be recorded");
        }
        self.jobs.end().await;
        tracing::info!("stopped serving");
        telemetry.flush().await;
        self.metadata.close().await
    }
}

async fn bind(addr: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr} ({key})"))
}

/// Trusts the configured issuer, or on a desk the data directory's own key.
fn authenticator(config: &Config, data_dir: &DataDir) -> anyhow::Result<Authenticator> {
    let auth = &config.auth;
    let mut issuers = Vec::new();
    if let (Some(issuer), Some(audience), Some(file)) = (&auth.issuer, &auth.audience, &auth.jwks_file) {
        let keys = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        issuers.push(
            TrustedIssuer::with_jwks(issuer, vec![audience.clone()], &keys)
                .with_context(|| format!("auth.jwks_file {}", file.display()))?,
        );
    }
    if config.trusts_development_key() {
        let path = data_dir.development_key();
        issuers.push(DevelopmentKey::load_or_create(&path)?.issuer()?);
        tracing::warn!(key = %path.display(), "trusting the development key: whoever can read it may do anything");
    }
    Ok(Authenticator::new(issuers)?)
}

/// Reflection in both versions, since tools of either age are in use; with the details of errors, so that tools can show them.
fn with_reflection(routes: Routes) -> anyhow::Result<Routes> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(coffer_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// A connection and an open file each take a descriptor, and the usual soft limit is for programs of long ago.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

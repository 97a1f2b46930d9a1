//! `cofferd serve`: start, serve, end.

mod connections;
mod frames;
mod greeting;
mod grpc;
mod health;
mod http2;
mod probes;
mod scrape;
mod signals;
mod sources;
mod tls;
mod traffic;
mod upkeep;
mod windows;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use coffer_api::auth::{Authenticator, Certificates, DevelopmentKey, KeysUrl, TrustedIssuer};
use coffer_api::edge::{EdgeLayer, Limits, Pace, Rules};
use coffer_domain::budget::Budget;
use coffer_domain::service::Coffer;
use tokio::net::{TcpListener, TcpSocket};
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
use tls::Tls;
use upkeep::{Jobs, Upkeep};

/// After the grace period connections are cut; so long may what they had begun take to commit or to be undone.
const LAST_COMMITS: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted: all that the kernel grants (`net.core.somaxconn`). Where a burst of others has filled the queue, a
/// newcomer is heard a second later, or is reset.
const BACKLOG: u32 = 64 * 1024;

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
        let (grpc, http) = (bind(config.grpc.addr, "grpc.addr")?, bind(config.http.addr, "http.addr")?);
        let authenticator = Arc::new(authenticator(config, &data_dir)?);
        let tls = Tls::load(&config.grpc.tls)?;
        if tls.is_none() && !config.grpc.addr.ip().is_loopback() {
            tracing::warn!(grpc.addr = %config.grpc.addr, "gRPC without TLS: tokens are in clear up to here");
        }
        let metadata = Metadata::for_server(config, &data_dir, &lock).await?;
        let Assembled { coffer, store, start, budget, keys } =
            assemble(config, &data_dir, &metadata.database, data_dir.node_id()?, config.node_lease).await?;

        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::new(reporter).await;
        let routes = coffer_api::routes(coffer.clone(), authenticator).add_service(health_service);
        let service = EdgeLayer::new(rules(config, &budget))
            .layer(with_reflection(routes)?.prepare().into_axum_router());
        let scrape = Scrape::new(figures, metadata.database.clone());
        let running =
            Running { pid: std::process::id(), grpc_addr: grpc.local_addr()?, http_addr: http.local_addr()? };
        let connections = Connections::default();
        grpc::serve(&connections, grpc, config, budget, tls.clone(), service);
        probes::serve(&connections, http, Probes { health: health.clone(), scrape: scrape.clone() });
        let upkeep = Upkeep {
            coffer: coffer.clone(),
            store,
            start,
            health: health.clone(),
            scrape,
            embedded: metadata.embedded.clone(),
            tls,
            keys,
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

/// What callers have to keep to. A turn is mostly spent in the database; more turns than twice its connections would only wait there.
fn rules(config: &Config, budget: &Budget) -> Rules {
    let limits = Limits {
        requests: config.limits.requests,
        requests_per_principal: config.limits.requests_per_principal,
        uploads_per_principal: config.limits.uploads_per_principal,
        turns: 2 * config.database.pool_size.get(),
    };
    let pace = Pace { stall_timeout: config.stall_timeout, min_rate: config.min_rate };
    Rules { limits, pace, budget: budget.clone(), proxies: config.grpc.trusted_proxies.clone() }
}

fn bind(addr: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // What the last process left waiting to be closed is in nobody's way.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {addr} ({key})"))
}

/// Trusts the configured issuer and certificates, or on a desk the data directory's own key.
fn authenticator(config: &Config, data_dir: &DataDir) -> anyhow::Result<Authenticator> {
    let auth = &config.auth;
    let read = |key: &str, file: &Path| {
        std::fs::read(file).with_context(|| format!("cannot read {key} {}", file.display()))
    };
    let mut issuers = Vec::new();
    if let (Some(issuer), Some(audience)) = (&auth.issuer, &auth.audience) {
        let audiences = vec![audience.clone()];
        if let Some(file) = &auth.jwks_file {
            issuers.push(
                TrustedIssuer::with_jwks(issuer, audiences, &read("auth.jwks_file", file)?)
                    .with_context(|| format!("auth.jwks_file {}", file.display()))?,
            );
        } else if let Some(url) = &auth.jwks_url {
            let keys = KeysUrl {
                url: url.clone(),
                refresh: auth.jwks_refresh,
                max_age: auth.jwks_max_age,
                root_certificates: auth.jwks_root_certificates.clone(),
                policy: config.egress.clone(),
            };
            issuers.push(TrustedIssuer::with_jwks_url(issuer, audiences, keys).context("auth.jwks_url")?);
        }
    }
    if config.trusts_development_key() {
        let path = data_dir.development_key();
        issuers.push(DevelopmentKey::load_or_create(&path)?.issuer()?);
        tracing::warn!(key = %path.display(), "trusting the development key: whoever can read it may do anything");
    }
    let authenticator = Authenticator::new(issuers)?;
    let Some(file) = &auth.certificates_file else { return Ok(authenticator) };
    let certificates = Certificates::from_json(&read("auth.certificates_file", file)?)
        .with_context(|| format!("auth.certificates_file {}", file.display()))?;
    Ok(authenticator.with_certificates(certificates))
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

#[cfg(test)]
mod tests {
    use super::{bind, raise_file_limit};
    use std::fs;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn a_burst_of_newcomers_is_queued_as_far_as_the_kernel_grants() {
        raise_file_limit();
        let granted = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        // More than a listener of tokio's own queues.
        let burst = granted.trim().parse::<usize>().unwrap().min(1_500);
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "test").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for n in 0..burst {
            let connected = tokio::time::timeout(Duration::from_millis(900), TcpStream::connect(addr)).await;
            waiting.push(connected.unwrap_or_else(|_| panic!("connection {n} was not queued")).unwrap());
        }
    }
}

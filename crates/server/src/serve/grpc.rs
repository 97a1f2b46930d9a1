//! gRPC on connections of our own: HTTP/2 as large transfers and unknown peers need it.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::connections::{Connections, Limit};
use super::traffic::Traffic;
use crate::config::Grpc;
use coffer_api::metadata::Peer;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Largest HTTP/2 frame we take. The largest lever of uploads after the windows.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;
/// What a client may send on one stream before we have taken any of it.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Streams at once on a connection.
const MAX_STREAMS: u32 = 200;
/// Metadata of a request, as HTTP/2 counts it.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// A peer that sends nothing is asked for a sign of life so often …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// … and has so long to give one.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection has so long to show that it is HTTP/2: until then nobody asks it for signs of life.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes with which every HTTP/2 client begins.
const PREFACE_BYTES: u64 = 24;

/// Serves `service` on what `listener` accepts. Every request carries its [`Peer`].
pub(super) fn serve<S, B>(connections: &Connections, listener: TcpListener, config: &Grpc, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let limit = Limit {
        name: "grpc",
        connections: config.max_connections,
        per_source: config.max_connections_per_source,
    };
    let (traffic, closing) = (Traffic::of(limit.name), connections.closing.clone());
    connections.accept(listener, limit, move |stream, peer| {
        connection(stream, peer, service.clone(), traffic.clone(), closing.clone())
    });
}

async fn connection<S, B>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    traffic: Traffic,
    closing: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request
    });
    let (stream, received) = traffic.count(stream);
    let serving = builder().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stays_silent(&received) => {
            tracing::debug!(%peer, "a connection was closed that did not begin to speak HTTP/2");
            return;
        }
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, error = &error as &dyn StdError, "a connection broke");
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_frame_size(MAX_FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// Ends if the client has not begun in time, else never.
async fn stays_silent(received: &AtomicU64) {
    tokio::time::sleep(PREFACE_TIMEOUT).await;
    if received.load(Ordering::Relaxed) >= PREFACE_BYTES {
        std::future::pending::<()>().await;
    }
}

//! gRPC on connections of our own: from what a listener accepts to HTTP/2.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_api::auth::ClientCertificate;
use coffer_api::edge::EdgeBody;
use coffer_api::metadata::Peer;
use coffer_domain::budget::Budget;
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::connections::{Connections, Limit};
use super::greeting;
use super::http2::{self, Patience, Received};
use super::tls::Tls;
use super::traffic::Traffic;
use crate::config::Config;

/// A connection has so long for the handshake of TLS and to show that it is HTTP/2.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `service` on what `listener` accepts. Every request carries its [`Peer`].
pub(super) fn serve<S, R>(
    connections: &Connections,
    listener: TcpListener,
    config: &Config,
    budget: Budget,
    tls: Option<Tls>,
    service: S,
) where
    S: Service<Request<Received>, Response = Response<EdgeBody<R>>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let grpc = &config.grpc;
    let limit = Limit {
        name: "grpc",
        connections: grpc.max_connections,
        per_source: grpc.max_connections_per_source,
    };
    let patience = Patience {
        first_request: grpc.first_request_timeout,
        idle: grpc.idle_timeout,
        age: Some(grpc.max_connection_age).filter(|age| !age.is_zero()),
        stall: config.stall_timeout,
    };
    let entrance = Entrance {
        tls,
        traffic: Traffic::of(limit.name),
        budget,
        patience,
        closing: connections.closing.clone(),
    };
    connections
        .accept(listener, limit, move |stream, peer| entrance.clone().serve(stream, peer, service.clone()));
}

/// What all connections have in common.
#[derive(Clone)]
struct Entrance {
    tls: Option<Tls>,
    traffic: Traffic,
    budget: Budget,
    patience: Patience,
    closing: CancellationToken,
}

impl Entrance {
    async fn serve<S, R>(self, stream: TcpStream, address: SocketAddr, service: S)
    where
        S: Service<Request<Received>, Response = Response<EdgeBody<R>>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        R: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        // In boxes of their own, each as large as it is: a future takes the room of the largest of its branches, in whatever waits for it as
        // well, and the one with TLS takes many times what the other does.
        match self.tls.clone() {
            None => {
                let greeted = greeted(async { Ok((stream, None)) });
                Box::pin(self.speak(greeted, address, service)).await;
            }
            Some(tls) => {
                let greeted = Box::pin(greeted(async move { tls.accept(stream).await }));
                Box::pin(self.speak(greeted, address, service)).await;
            }
        }
    }

    async fn speak<T, S, R>(
        self,
        greeted: impl Future<Output = io::Result<Option<(T, Option<Arc<ClientCertificate>>)>>>,
        address: SocketAddr,
        service: S,
    ) where
        T: AsyncRead + AsyncWrite + Unpin,
        S: Service<Request<Received>, Response = Response<EdgeBody<R>>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        R: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let greeted = self.closing.run_until_cancelled(timeout(GREETING_TIMEOUT, greeted)).await;
        let (stream, certificate) = match greeted {
            Some(Ok(Ok(Some(greeted)))) => greeted,
            None => return,
            Some(Ok(Ok(None))) => {
                tracing::debug!(peer = %address, "a connection was closed that does not speak HTTP/2");
                return;
            }
            Some(Ok(Err(error))) => {
                tracing::debug!(peer = %address, %error, "a connection broke before it was greeted");
                return;
            }
            Some(Err(_elapsed)) => {
                tracing::debug!(peer = %address, "a connection was closed that did not begin to speak HTTP/2");
                return;
            }
        };
        let peer = Peer { address, certificate };
        let service = service.map_request(move |mut request: Request<Received>| {
            request.extensions_mut().insert(peer.clone());
            request
        });
        let Self { traffic, budget, patience, closing, .. } = self;
        if let Err(error) = http2::serve(traffic.watch(stream), service, budget, patience, closing).await {
            tracing::debug!(peer = %address, error = &error as &dyn StdError, "a connection broke");
        }
    }
}

/// A connection that speaks HTTP/2, and what its client has shown. `None`: it speaks something else.
async fn greeted<T>(
    connecting: impl Future<Output = io::Result<(T, Option<Arc<ClientCertificate>>)>>,
) -> io::Result<Option<(T, Option<Arc<ClientCertificate>>)>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut stream, certificate) = connecting.await?;
    Ok(greeting::is_http2(&mut stream).await?.then_some((stream, certificate)))
}

//! The HTTP side: whether we live, whether we are ready, and the figures.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Limit};
use super::health::Health;
use super::scrape::Scrape;

const LIMIT: Limit = Limit { name: "http", connections: 64, per_source: 64 };

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the answers are made from.
#[derive(Clone)]
pub(super) struct Probes {
    pub(super) health: Health,
    pub(super) scrape: Scrape,
}

/// Serves the probes on what `listener` accepts.
pub(super) fn serve(connections: &Connections, listener: TcpListener, probes: Probes) {
    let closing = connections.closing.clone();
    connections.accept(listener, LIMIT, move |stream, _| connection(stream, probes.clone(), closing.clone()));
}

async fn connection(stream: TcpStream, probes: Probes, closing: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = probes.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection for probes broke");
    }
}

impl Probes {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            return text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" => match self.health.obstacle() {
                None => text(StatusCode::OK, "ready\n"),
                Some(obstacle) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")),
            },
            _ => text(StatusCode::OK, self.scrape.render()),
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    // Prometheus takes any parameters of its text format's type; this is its version 0.0.4.
    let form = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, form);
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

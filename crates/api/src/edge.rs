//! In front of every RPC: refuses what is no gRPC request, keeps deadlines, opens the RPC's span, and tells how it ended.
//!
//! The layer is the outermost one around [`crate::routes`] and whatever else the server answers (health, reflection). tonic has a layer of
//! its own for `grpc-timeout`, which answers CANCELLED and ignores what it cannot read; it exists only inside tonic's `Server`, and
//! Coffer's routes are not served by that.

mod body;
mod call;
mod deadline;
mod request;
mod trace;

pub use body::EdgeBody;
pub use request::{Gone, RequestBody};

use crate::{
    metadata::{Deadline, TraceId},
    status::status,
};
use bytes::Bytes;
use call::{Call, Methods};
use coffer_domain::Error;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::{Instant, timeout_at};
use tower::{Layer, Service};
use tracing::Instrument as _;

/// Metadata of every answer: the W3C trace id under which traces and logs know the request.
pub const TRACE_ID: HeaderName = HeaderName::from_static("coffer-trace-id");

/// Puts an [`Edge`] in front of a service.
#[derive(Debug, Clone)]
pub struct EdgeLayer {
    methods: Arc<Methods>,
}

impl EdgeLayer {
    /// A layer that knows the contract's RPCs, health and reflection by name.
    pub fn new() -> Self {
        Self { methods: Arc::new(Methods::known()) }
    }
}

impl Default for EdgeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, methods: self.methods.clone() }
    }
}

/// The layer's service: see the [module](self).
#[derive(Debug, Clone)]
pub struct Edge<S> {
    inner: S,
    methods: Arc<Methods>,
}

impl<S, B, R> Service<Request<B>> for Edge<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<EdgeBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(refusal) = not_grpc(&request) {
            metrics::counter!("coffer_http_refusals_total", "status" => refusal.as_str().to_owned())
                .increment(1);
            tracing::debug!(http.status = refusal.as_u16(), "request is not gRPC");
            let mut response = Response::new(EdgeBody::empty());
            *response.status_mut() = refusal;
            return Box::pin(async { Ok(response) });
        }
        let call = Call::begin(&self.methods, request.uri().path(), request.headers());
        let deadline = match deadline::timeout(request.headers()) {
            Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
            Err(problem) => {
                let response = refusal(&Error::invalid("grpc-timeout", problem), call);
                return Box::pin(async { Ok(response) });
            }
        };
        request.extensions_mut().insert(TraceId(call.trace_id().to_owned()));
        let span = call.span().clone();
        if let Some(at) = deadline {
            request.extensions_mut().insert(Deadline(at));
        }
        let answer = span.in_scope(|| self.inner.call(request.map(RequestBody)));
        let answered = async move {
            let outcome = match deadline {
                Some(at) => timeout_at(at, answer).await,
                None => Ok(answer.await),
            };
            match outcome {
                Ok(Ok(response)) => Ok(accompany(response, deadline, call)),
                Ok(Err(error)) => Err(error),
                Err(_elapsed) => Ok(refusal(&Error::DeadlineExceeded, call)),
            }
        };
        Box::pin(answered.instrument(span))
    }
}

/// The HTTP status for what is no gRPC request.
fn not_grpc<B>(request: &Request<B>) -> Option<StatusCode> {
    if request.method() != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut types = request.headers().get_all(CONTENT_TYPE).iter();
    let is_grpc = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/grpc")
            || essence.eq_ignore_ascii_case(b"application/grpc+proto")
    };
    match (types.next(), types.next()) {
        (Some(value), None) if is_grpc(value) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

/// An answer of the edge itself.
fn refusal<R>(error: &Error, mut call: Call) -> Response<EdgeBody<R>> {
    let mut response = call.span().in_scope(|| status(error)).into_http::<EdgeBody<R>>();
    mark(response.headers_mut(), &call);
    call.finish(Some(response.headers()));
    response
}

/// The answer with its trace id, its deadline kept and its end told.
fn accompany<R>(response: Response<R>, deadline: Option<Instant>, mut call: Call) -> Response<EdgeBody<R>> {
    let (mut parts, body) = response.into_parts();
    mark(&mut parts.headers, &call);
    let is_whole = parts.headers.contains_key(call::GRPC_STATUS) || parts.status != StatusCode::OK;
    if is_whole {
        call.finish(Some(&parts.headers));
    }
    let body = EdgeBody::new(body, deadline.filter(|_| !is_whole), call);
    Response::from_parts(parts, body)
}

fn mark(headers: &mut HeaderMap, call: &Call) {
    if let Ok(id) = HeaderValue::from_str(call.trace_id()) {
        headers.insert(TRACE_ID, id);
    }
}

#[cfg(test)]
mod tests;

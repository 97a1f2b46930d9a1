//! In front of every RPC: refuses what is no gRPC request and what is too much, keeps deadlines, opens the RPC's span, and tells how it
//! ended.
//!
//! The layer is the outermost one around [`crate::routes`] and whatever else the server answers (health, reflection). tonic has a layer of
//! its own for `grpc-timeout`, which answers CANCELLED and ignores what it cannot read; it exists only inside tonic's `Server`, and
//! Coffer's routes are not served by that.

mod admission;
mod body;
mod call;
mod deadline;
mod progress;
mod request;
mod trace;
mod unary;

pub use admission::Limits;
pub use body::EdgeBody;
pub use progress::Pace;
pub use request::{Gone, RequestBody};

pub(crate) use admission::Place;
pub(crate) use progress::Progress;
pub(crate) use unary::Reading;

use crate::{
    metadata::{ClientIp, Deadline, Peer, TraceId, client_ip},
    status::status,
};
use admission::{Admission, Kind};
use bytes::Bytes;
use call::{Call, Methods};
use coffer_domain::{Error, budget::Budget, network::Network};
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

/// What clients have to keep to, and the memory for what they send.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// How much there may be at once.
    pub limits: Limits,
    /// How slow they may be.
    pub pace: Pace,
    /// For messages that are read whole before they are worked on.
    pub budget: Budget,
    /// Proxies that are believed about whom they forward (`x-forwarded-for`).
    pub proxies: Vec<Network>,
}

/// Puts an [`Edge`] in front of a service.
#[derive(Debug, Clone)]
pub struct EdgeLayer {
    methods: Arc<Methods>,
    admission: Admission,
    pace: Pace,
    budget: Budget,
    proxies: Arc<[Network]>,
}

impl EdgeLayer {
    /// A layer that knows the contract's RPCs, health and reflection by name. What is in progress is counted over all services behind it.
    pub fn new(rules: Rules) -> Self {
        let Rules { limits, pace, budget, proxies } = rules;
        let (methods, admission) = (Arc::new(Methods::known()), Admission::new(limits));
        Self { methods, admission, pace, budget, proxies: proxies.into() }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge { inner, layer: self.clone() }
    }
}

/// The layer's service: see the [module](self).
#[derive(Debug, Clone)]
pub struct Edge<S> {
    inner: S,
    layer: EdgeLayer,
}

impl<S, B, R> Service<Request<B>> for Edge<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
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
        let mut call = Call::begin(&self.layer.methods, request.uri().path(), request.headers());
        if let Some(peer) = request.extensions().get::<Peer>() {
            let client = client_ip(peer.address.ip(), request.headers(), &self.layer.proxies);
            request.extensions_mut().insert(ClientIp(client));
        }
        let (deadline, place) = match self.layer.begin(&request) {
            Ok(begun) => begun,
            Err(error) => {
                let response = refusal(&error, call);
                return Box::pin(async { Ok(response) });
            }
        };
        call.keep(place.clone());
        request.extensions_mut().insert(TraceId(call.trace_id().to_owned()));
        if let Some(at) = deadline {
            request.extensions_mut().insert(Deadline(at));
        }
        let span = call.span().clone();
        let layer = self.layer.clone();
        // The clone has not been asked whether it is ready.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        let worked_on = place.clone();
        let work = async move {
            match layer.ready(request, place).await {
                Ok(request) => Ok(inner.call(request).await),
                Err(error) => Err(error),
            }
        };
        let answered = async move {
            let outcome = match deadline {
                Some(at) => timeout_at(at, work).await.unwrap_or(Err(Error::DeadlineExceeded)),
                None => work.await,
            };
            worked_on.answered();
            match outcome {
                Ok(Ok(response)) => Ok(accompany(response, deadline, call)),
                Ok(Err(error)) => Err(error),
                Err(error) => Ok(refusal(&error, call)),
            }
        };
        Box::pin(answered.instrument(span))
    }
}

impl EdgeLayer {
    /// When the request has to be answered, and its place among what is in progress.
    fn begin<B>(&self, request: &Request<B>) -> Result<(Option<Instant>, Place), Error> {
        let timeout = deadline::timeout(request.headers())
            .map_err(|problem| Error::invalid("grpc-timeout", problem))?;
        let source = request.extensions().get().map(|ClientIp(address)| *address);
        let place = self.admission.arrive(source, self.methods.kind(request.uri().path()))?;
        Ok((timeout.map(|timeout| Instant::now() + timeout), place))
    }

    /// The request with what those behind need to keep its client to the rules. What asks about health passes no gate that would.
    async fn ready<B>(&self, mut request: Request<B>, place: Place) -> Result<Request<RequestBody<B>>, Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let kind = place.kind();
        request.extensions_mut().insert(place.clone());
        let reading = Reading { pace: self.pace, budget: self.budget.clone(), place };
        let progress = Progress::new(self.pace);
        let (mut head, body) = request.into_parts();
        let body = match kind {
            Kind::Probe => RequestBody::whole(reading.message(body, false).await?.0),
            Kind::Stream => RequestBody::idle(body, self.pace.stall_timeout),
            Kind::Unary | Kind::Upload => {
                let body = RequestBody::counted(body, progress.arrived());
                head.extensions.insert(progress);
                head.extensions.insert(reading);
                body
            }
        };
        Ok(Request::from_parts(head, body))
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

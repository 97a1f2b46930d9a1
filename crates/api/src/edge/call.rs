//! One RPC from the edge's point of view: its span, its trace id, and how it ended.

use super::admission::{Kind, Place};
use crate::status::{code_name, is_fault};
use coffer_proto::DESCRIPTORS;
use http::{HeaderMap, HeaderName};
use prost::Message as _;
use std::{collections::HashMap, time::Instant};
use tracing::{Span, field::Empty};

/// Where an answer or its trailers say how the RPC ended.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The canonical code for a caller that went away (`CANCELLED`).
const CANCELLED: i32 = 1;

/// The canonical code where an answer says nothing (`UNKNOWN`).
const UNKNOWN: i32 = 2;

const HEALTH: &str = "grpc.health.v1.Health";

/// Services beside the contract that the server may answer.
const OTHERS: [(&str, &str, Kind); 5] = [
    (HEALTH, "Check", Kind::Probe),
    (HEALTH, "List", Kind::Probe),
    (HEALTH, "Watch", Kind::Probe),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", Kind::Stream),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", Kind::Stream),
];

/// The RPCs that exist. Spans and metrics name only these: what callers make up would be endless.
#[derive(Debug)]
pub(super) struct Methods(HashMap<(String, String), Kind>);

impl Methods {
    /// Those of the contract, health and reflection.
    pub(super) fn known() -> Self {
        let descriptors = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
            .expect("the contract's descriptors were made when it was compiled");
        let others = OTHERS.map(|(service, method, kind)| ((service.to_owned(), method.to_owned()), kind));
        let mut methods = HashMap::from(others);
        for file in &descriptors.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| {
                    // What a client streams to the contract's services are contents.
                    let kind = if method.client_streaming() { Kind::Upload } else { Kind::Unary };
                    ((name.clone(), method.name().to_owned()), kind)
                }));
            }
        }
        Self(methods)
    }

    /// What the RPC of a path is; of one that does not exist, a stream, of which nothing is read.
    pub(super) fn kind(&self, path: &str) -> Kind {
        self.find(path).map_or(Kind::Stream, |(_, kind)| *kind)
    }

    fn find(&self, path: &str) -> Option<(&(String, String), &Kind)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        self.0.get_key_value(&(service.to_owned(), method.to_owned()))
    }
}

/// An RPC that has begun. Dropping it before [`Call::finish`] says that the caller left.
#[derive(Debug)]
pub(super) struct Call {
    span: Span,
    service: String,
    method: String,
    trace_id: String,
    begun: Instant,
    is_finished: bool,
    /// Given back when the answer has been sent, or nobody takes it any more.
    place: Option<Place>,
}

impl Call {
    /// Opens the span, below the caller's where it names one.
    pub(super) fn begin(methods: &Methods, path: &str, headers: &HeaderMap) -> Self {
        let known = methods.find(path).map(|(name, _)| name.clone());
        let (service, method) = known.unwrap_or_else(|| ("unknown".to_owned(), "unknown".to_owned()));
        let span = tracing::info_span!(
            "rpc",
            otel.name = format_args!("{service}/{method}"),
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = method,
            rpc.grpc.status_code = Empty,
            trace.id = Empty,
        );
        let trace_id = super::trace::join(&span, headers);
        Self { span, service, method, trace_id, begun: Instant::now(), is_finished: false, place: None }
    }

    /// The RPC was let in.
    pub(super) fn keep(&mut self, place: Place) {
        self.place = Some(place);
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The RPC has ended as `headers` say: an answer's, or its trailers. Told once.
    pub(super) fn finish(&mut self, headers: Option<&HeaderMap>) {
        let code = headers
            .and_then(|headers| headers.get(GRPC_STATUS))
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(UNKNOWN);
        self.end(code);
    }

    fn end(&mut self, code: i32) {
        if std::mem::replace(&mut self.is_finished, true) {
            return;
        }
        let name = code_name(code);
        let elapsed = self.begun.elapsed();
        self.span.record("rpc.grpc.status_code", code);
        if is_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        let Self { span, service, method, .. } = self;
        let labels = [("service", service.clone()), ("method", method.clone())];
        metrics::histogram!("coffer_rpc_duration_seconds", &labels).record(elapsed.as_secs_f64());
        metrics::counter!("coffer_rpcs_total", "service" => service.clone(), "method" => method.clone(), "code" => name).increment(1);
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        span.in_scope(|| {
            if service == HEALTH {
                tracing::debug!(rpc.code = name, duration_ms, "rpc finished");
            } else {
                tracing::info!(rpc.code = name, duration_ms, "rpc finished");
            }
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELLED);
    }
}

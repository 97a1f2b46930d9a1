//! One RPC from the edge's point of view: its span, its trace id, and how it ended.

use crate::status::{code_name, is_fault};
use coffer_proto::DESCRIPTORS;
use http::{HeaderMap, HeaderName};
use prost::Message as _;
use std::{collections::HashSet, time::Instant};
use tracing::{Span, field::Empty};

/// Where an answer or its trailers say how the RPC ended.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The canonical code for a caller that went away (`CANCELLED`).
const CANCELLED: i32 = 1;

/// The canonical code where an answer says nothing (`UNKNOWN`).
const UNKNOWN: i32 = 2;

const HEALTH: &str = "grpc.health.v1.Health";

/// Services beside the contract that the server may answer.
const OTHERS: [(&str, &str); 5] = [
    (HEALTH, "Check"),
    (HEALTH, "List"),
    (HEALTH, "Watch"),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

/// The RPCs that exist. Spans and metrics name only these: what callers make up would be endless.
#[derive(Debug)]
pub(super) struct Methods(HashSet<(String, String)>);

impl Methods {
    /// Those of the contract, health and reflection.
    pub(super) fn known() -> Self {
        let descriptors = prost_types::FileDescriptorSet::decode(DESCRIPTORS)
            .expect("the contract's descriptors were made when it was compiled");
        let mut methods: HashSet<_> =
            OTHERS.iter().map(|(service, method)| ((*service).to_owned(), (*method).to_owned())).collect();
        for file in &descriptors.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| (name.clone(), method.name().to_owned())));
            }
        }
        Self(methods)
    }

    fn find(&self, path: &str) -> Option<&(String, String)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        self.0.get(&(service.to_owned(), method.to_owned()))
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
}

impl Call {
    /// Opens the span, below the caller's where it names one.
    pub(super) fn begin(methods: &Methods, path: &str, headers: &HeaderMap) -> Self {
        let unknown = ("unknown".to_owned(), "unknown".to_owned());
        let (service, method) = methods.find(path).cloned().unwrap_or(unknown);
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
        Self { span, service, method, trace_id, begun: Instant::now(), is_finished: false }
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

//! What every call carries: credentials, what the audit trail asks for, and the W3C trace context.

use crate::{Error, Options, Result};
use data_encoding::HEXLOWER;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

/// Largest token, and largest other value, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_VALUE_BYTES: usize = 256;

/// Puts metadata into each call: the same credentials and names every time, and the trace context of the moment.
#[derive(Clone)]
pub(crate) struct CallMetadata {
    fixed: Vec<(&'static str, MetadataValue<Ascii>)>,
}

impl CallMetadata {
    /// [`Error::InvalidOption`] for what is too long or cannot be sent as metadata.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let mut fixed = Vec::new();
        if let Some(token) = &options.token {
            let mut value = metadata_value("token", token, MAX_TOKEN_BYTES, &format!("Bearer {token}"))?;
            value.set_sensitive(true);
            fixed.push(("authorization", value));
        }
        for (name, key, text) in [
            ("purpose", "coffer-purpose", &options.purpose),
            ("session_id", "coffer-session-id", &options.session_id),
            ("correlation_id", "coffer-correlation-id", &options.correlation_id),
            ("on_behalf_of", "coffer-on-behalf-of", &options.on_behalf_of),
        ] {
            if let Some(text) = text {
                fixed.push((key, metadata_value(name, text, MAX_VALUE_BYTES, text)?));
            }
        }
        Ok(Self { fixed })
    }
}

/// `sent` as metadata, if `given` is not longer than `max_bytes` and all visible ASCII or spaces.
fn metadata_value(
    name: &'static str,
    given: &str,
    max_bytes: usize,
    sent: &str,
) -> Result<MetadataValue<Ascii>> {
    let invalid = |problem: String| Error::InvalidOption { name, problem };
    if given.is_empty() || given.len() > max_bytes {
        return Err(invalid(format!("must have 1 to {max_bytes} bytes")));
    }
    if !given.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(invalid("may hold visible ASCII characters and spaces only".to_owned()));
    }
    sent.parse().map_err(|_| invalid("cannot be sent as metadata".to_owned()))
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        for (key, value) in &self.fixed {
            metadata.insert(*key, value.clone());
        }
        let (traceparent, tracestate) = trace_context(&current_span_context());
        if let Ok(value) = traceparent.parse() {
            metadata.insert("traceparent", value);
        }
        if let Some(value) = tracestate.and_then(|text| text.parse().ok()) {
            metadata.insert("tracestate", value);
        }
        Ok(request)
    }
}

/// The context of the current `tracing` span, or else the one attached through OpenTelemetry's own API; invalid if there is none.
fn current_span_context() -> SpanContext {
    let from_tracing = tracing::Span::current().context().span().span_context().clone();
    if from_tracing.is_valid() {
        return from_tracing;
    }
    opentelemetry::Context::current().span().span_context().clone()
}

/// `traceparent` and `tracestate` (W3C Trace Context, version 00) of a span. Where nobody traces, a fresh trace id marked as
/// sampled: the service then has an id under which its own spans and log lines of this call are found.
fn trace_context(span: &SpanContext) -> (String, Option<String>) {
    if !span.is_valid() {
        // Version 4 UUIDs have fixed bits that are not zero, so that neither id can be all zeroes, which would be invalid.
        let (trace, parent) = (Uuid::new_v4(), Uuid::new_v4());
        let parent = &parent.as_bytes()[..8];
        return (format!("00-{}-{}-01", trace.simple(), HEXLOWER.encode(parent)), None);
    }
    let flags = span.trace_flags().to_u8();
    let traceparent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
    let tracestate = span.trace_state().header();
    (traceparent, (!tracestate.is_empty()).then_some(tracestate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{TraceFlags, TraceState, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn sent(options: &Options) -> Request<()> {
        CallMetadata::new(options).unwrap().call(Request::new(())).unwrap()
    }

    fn text<'a>(request: &'a Request<()>, key: &str) -> Option<&'a str> {
        request.metadata().get(key).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn every_call_says_who_asks_and_why() {
        let request = sent(&Options {
            token: Some("abc.def".to_owned()),
            purpose: Some("monthly report".to_owned()),
            session_id: Some("s-1".to_owned()),
            correlation_id: Some("c-1".to_owned()),
            on_behalf_of: Some("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".to_owned()),
            ..Options::new("localhost:1")
        });
        assert_eq!(text(&request, "authorization"), Some("Bearer abc.def"));
        assert!(request.metadata().get("authorization").unwrap().is_sensitive());
        assert_eq!(text(&request, "coffer-purpose"), Some("monthly report"));
        assert_eq!(text(&request, "coffer-session-id"), Some("s-1"));
        assert_eq!(text(&request, "coffer-correlation-id"), Some("c-1"));
        assert_eq!(text(&request, "coffer-on-behalf-of"), Some("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"));
        assert_eq!(text(&sent(&Options::new("localhost:1")), "authorization"), None);
    }

    #[test]
    fn values_that_cannot_be_sent_are_refused() {
        let with = |token: &str| Options { token: Some(token.to_owned()), ..Options::new("localhost:1") };
        for bad in ["", "a\nb", "ü", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            let refused = CallMetadata::new(&with(bad)).err();
            assert!(matches!(refused, Some(Error::InvalidOption { name: "token", .. })), "{bad:?}");
        }
        let long = Options { purpose: Some("x".repeat(MAX_VALUE_BYTES + 1)), ..Options::new("localhost:1") };
        assert!(matches!(CallMetadata::new(&long).err(), Some(Error::InvalidOption { name: "purpose", .. })));
    }

    #[test]
    fn without_a_tracer_each_call_has_a_trace_of_its_own() {
        let options = Options::new("localhost:1");
        let (one, two) = (sent(&options), sent(&options));
        let one = text(&one, "traceparent").unwrap();
        let parts: Vec<&str> = one.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(lengths, [2, 32, 16, 2]);
        assert!(parts.concat().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{one}");
        assert_ne!(one, text(&two, "traceparent").unwrap());
    }

    #[test]
    fn the_current_span_is_the_parent() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("call");
            let context = span.context().span().span_context().clone();
            let expected = format!("00-{}-{}-01", context.trace_id(), context.span_id());
            let request = span.in_scope(|| sent(&Options::new("localhost:1")));
            assert!(context.is_valid());
            assert_eq!(text(&request, "traceparent"), Some(expected.as_str()));
        });
    }

    #[test]
    fn flags_and_state_are_handed_on() {
        let state = TraceState::from_key_value([("vendor", "x")]).unwrap();
        let span = SpanContext::new(1.into(), 2.into(), TraceFlags::default(), true, state);
        let (traceparent, tracestate) = trace_context(&span);
        assert_eq!(traceparent, format!("00-{:032x}-{:016x}-00", 1, 2));
        assert_eq!(tracestate.as_deref(), Some("vendor=x"));
    }
}

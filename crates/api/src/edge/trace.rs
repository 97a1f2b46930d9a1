//! W3C trace context: the caller's `traceparent` becomes the parent of the RPC's span.

use http::HeaderMap;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes the caller's span the parent of `span` and answers the trace id, 32 hexadecimal digits. A trace that nobody began begins here;
/// it has an id even where nothing exports it, so that a caller can always name what the log calls it.
pub(super) fn join(span: &Span, headers: &HeaderMap) -> String {
    let parent = parent(headers);
    if let Some(parent) = &parent {
        // Fails only where nothing collects traces.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent.clone()));
    }
    let context = span.context();
    let own = context.span().span_context().trace_id();
    let id = match (own, parent) {
        (own, _) if own != TraceId::INVALID => own.to_string(),
        (_, Some(parent)) => parent.trace_id().to_string(),
        (_, None) => uuid::Uuid::new_v4().simple().to_string(),
    };
    span.record("trace.id", &id);
    id
}

/// The one `traceparent`: version, trace id, span id, flags. What cannot be read is as if it were not there, as the standard asks.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_whole = version != "00" || parts.next().is_none();
    if version == "ff"
        || !is_whole
        || !is_hex(version, 2)
        || !is_hex(trace, 32)
        || !is_hex(span, 16)
        || !is_hex(flags, 2)
    {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn read(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), value.parse().unwrap())]);
        parent(&headers).map(|context| context.trace_id().to_string())
    }

    #[test]
    fn a_callers_trace_goes_on() {
        assert_eq!(read(&format!("00-{TRACE}-b7ad6b7169203331-01")), Some(TRACE.to_owned()));
        assert_eq!(read(&format!("01-{TRACE}-b7ad6b7169203331-01-more")), Some(TRACE.to_owned()));
    }

    #[test]
    fn what_is_no_trace_is_as_if_it_were_not_there() {
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-b7ad6b7169203331-0g"),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
        let id = join(&Span::none(), &HeaderMap::new());
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }
}

//! How a log line looks. Both forms carry the id of the trace they belong to.

use std::fmt::{self, Write as _};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// For people: time, level, spans, message, fields, trace.
pub(super) struct Human;

/// For programs: one object per line.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let colour = Colour::of(*metadata.level(), writer.has_ansi_escapes());
        write!(writer, "{} {}{:>5}{} ", now(), colour.begin, metadata.level(), colour.end)?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(writer, "{}", span.name())?;
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.trim());
            if fields.is_empty() {
                writer.write_str(": ")?;
            } else {
                write!(writer, "{{{fields}}}: ")?;
            }
        }
        context.format_fields(writer.by_ref(), event)?;
        if let Some(trace) = current_trace() {
            write!(writer, " trace.id={}", trace.trace_id())?;
        }
        writeln!(writer)
    }
}

impl<S> FormatEvent<S, JsonFields> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), now().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.insert("message".to_owned(), fields.0.remove("message").unwrap_or_default());
        if let Some(trace) = current_trace() {
            line.insert("trace_id".to_owned(), trace.trace_id().to_string().into());
            line.insert("span_id".to_owned(), trace.span_id().to_string().into());
        }
        let spans: Vec<_> = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<JsonFields>>();
                let fields = fields.and_then(|fields| serde_json::from_str(fields).ok());
                json!({"name": span.name(), "fields": fields.unwrap_or_else(|| json!({}))})
            })
            .collect();
        if !spans.is_empty() {
            line.insert("spans".to_owned(), spans.into());
        }
        line.insert("fields".to_owned(), fields.0.into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of events and spans for people: without those that are for traces only, on one line whatever is in them.
pub(super) struct HumanFields;

impl<'w> FormatFields<'w> for HumanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = HumanVisitor { writer, is_first: true, outcome: Ok(()) };
        fields.record(&mut visitor);
        visitor.outcome
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let is_first = current.fields.is_empty();
        let mut visitor = HumanVisitor { writer: current.as_writer(), is_first, outcome: Ok(()) };
        fields.record(&mut visitor);
        visitor.outcome
    }
}

struct HumanVisitor<'w> {
    writer: Writer<'w>,
    is_first: bool,
    outcome: fmt::Result,
}

impl HumanVisitor<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        let name = field.name();
        if name.starts_with("otel.") || matches!(name, "rpc.system" | "rpc.grpc.status_code" | "trace.id") {
            return Ok(());
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            write!(self.writer, "{name}=")?;
        }
        OneLine(&mut self.writer).write_fmt(value)
    }
}

impl Visit for HumanVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.outcome.is_ok() {
            self.outcome = self.write(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.outcome.is_ok() {
            self.outcome = self.write(field, format_args!("{value:?}"));
        }
    }
}

/// Escapes what would end the line or speak to the terminal.
struct OneLine<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())
            } else {
                self.0.write_char(character)
            }
        })
    }
}

/// The trace of whatever runs now on this thread, also of spans that the log's own filter leaves out.
fn current_trace() -> Option<SpanContext> {
    Some(Context::current().span().span_context().clone()).filter(SpanContext::is_valid)
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

struct Colour {
    begin: &'static str,
    end: &'static str,
}

impl Colour {
    fn of(level: tracing::Level, is_wanted: bool) -> Self {
        if !is_wanted {
            return Self { begin: "", end: "" };
        }
        let begin = match level {
            tracing::Level::ERROR => "\u{1b}[31m",
            tracing::Level::WARN => "\u{1b}[33m",
            tracing::Level::INFO => "\u{1b}[32m",
            tracing::Level::DEBUG => "\u{1b}[34m",
            tracing::Level::TRACE => "\u{1b}[35m",
        };
        Self { begin, end: "\u{1b}[0m" }
    }
}

/// An event's fields as JSON.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").expect("writing to a string does not fail");
        self.insert(field, text);
    }
}

#[cfg(test)]
mod tests {
    use super::{Human, HumanFields, Json, JsonFields};
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::{Layer as _, Registry, fmt, layer::SubscriberExt as _};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Logs a warning with newlines in it inside a span that only traces see; answers the log.
    fn log(format: impl FnOnce(Log) -> Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>) -> String {
        let log = Log::default();
        let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
        let traces =
            tracing_opentelemetry::layer().with_tracer(provider.tracer("t")).with_filter(LevelFilter::INFO);
        let subscriber = tracing_subscriber::registry().with(format(log.clone())).with(traces);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(
                "rpc",
                otel.kind = "server",
                rpc.method = "GetFile",
                trace.id = tracing::field::Empty,
                retries = tracing::field::Empty,
            );
            span.record("trace.id", "0");
            span.record("retries", 2);
            let _entered = span.entered();
            tracing::warn!(file.name = %"a\nb", count = 3, "something \"odd\"");
        });
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_for_programs_is_one_object_with_its_trace() {
        let text = log(|log| {
            fmt::layer()
                .with_writer(move || log.clone())
                .fmt_fields(JsonFields::new())
                .event_format(Json)
                .with_filter(LevelFilter::INFO)
                .boxed()
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "something \"odd\"");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"], serde_json::json!({"file.name": "a\nb", "count": 3}));
        assert_eq!(line["spans"][0]["fields"]["rpc.method"], "GetFile");
        assert_eq!(line["spans"][0]["name"], "rpc");
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32);
    }

    #[test]
    fn a_line_for_people_names_its_span_without_what_is_for_traces() {
        let text = log(|log| {
            fmt::layer()
                .with_writer(move || log.clone())
                .with_ansi(false)
                .fmt_fields(HumanFields)
                .event_format(Human)
                .with_filter(LevelFilter::INFO)
                .boxed()
        });
        assert!(text.contains(r#" WARN rpc{rpc.method="GetFile" retries=2}: something "odd" "#), "{text}");
    }

    #[test]
    fn a_line_for_people_has_its_trace_even_if_the_span_is_filtered_out() {
        let text = log(|log| {
            fmt::layer()
                .with_writer(move || log.clone())
                .with_ansi(false)
                .fmt_fields(HumanFields)
                .event_format(Human)
                .with_filter(LevelFilter::WARN)
                .boxed()
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(r#" WARN something "odd" file.name=a\nb count=3 trace.id="#), "{text}");
        let trace = text.trim().rsplit_once(" trace.id=").unwrap().1;
        assert!(trace.len() == 32 && trace != "0".repeat(32), "{text}");
    }
}

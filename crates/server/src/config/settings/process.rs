//! What the process tells, and how it ends.

use std::time::Duration;

use super::{HOUR, Setting, duration, put, text};
use crate::config::LogFormat;
use crate::config::value::Value;

pub(super) const TABLE: &[Setting] = &[
    Setting {
        key: "telemetry.otlp_endpoint",
        doc: "Where traces go: `http://host:4317`, OTLP over gRPC without TLS, to a collector nearby.",
        set: |c, v| put(&mut c.telemetry.otlp_endpoint, otlp_endpoint(v).map(Some)),
        show: |c| c.telemetry.otlp_endpoint.as_ref().and_then(text),
    },
    Setting {
        key: "telemetry.sample_ratio",
        doc: "Share of traces to keep, 0 to 1, of those whose caller did not decide.",
        set: |c, v| put(&mut c.telemetry.sample_ratio, v.number(0.0, 1.0)),
        show: |c| Some(format!("{:?}", c.telemetry.sample_ratio)),
    },
    Setting {
        key: "telemetry.log_format",
        doc: "`human`, or `json`: one object per line.",
        set: |c, v| put(&mut c.telemetry.log_format, LogFormat::read(v)),
        show: |c| text(c.telemetry.log_format.word()),
    },
    Setting {
        key: "telemetry.log_filter",
        doc: "Which log lines are written, as `level` or `target=level,…`.",
        set: |c, v| put(&mut c.telemetry.log_filter, log_filter(v)),
        show: |c| text(&c.telemetry.log_filter),
    },
    Setting {
        key: "shutdown.grace",
        doc: "How long running streams may go on after SIGTERM, 0s to 1h. Uploads that can be resumed end in order when most of it is over. Commits that have begun get 5 s more.",
        set: |c, v| put(&mut c.shutdown_grace, v.duration(Duration::ZERO, HOUR)),
        show: |c| duration(c.shutdown_grace),
    },
];

fn otlp_endpoint(value: &Value) -> Result<String, String> {
    let url = value.text()?;
    let uri: http::Uri = url.parse().map_err(|error| format!("is no URL: {error}"))?;
    if uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) {
        Ok(url.to_owned())
    } else {
        Err("must be http://host:port".to_owned())
    }
}

fn log_filter(value: &Value) -> Result<String, String> {
    let text = value.text()?;
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is no filter: {error}")),
    }
}

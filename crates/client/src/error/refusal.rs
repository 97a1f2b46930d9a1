//! What the service says when it refuses, decoded from the status and its `google.rpc` details.

use crate::v1::ErrorReason;
use coffer_proto::ERROR_DOMAIN;
use std::{collections::BTreeMap, fmt, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refusal by the service. Displays as one line that has all a person needs to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The canonical code: the kind of refusal.
    pub code: Code,
    /// The exact reason; `None` if the service named none, or one that this version does not know (see `reason_name`).
    pub reason: Option<ErrorReason>,
    /// The reason as named on the wire, for example `QUOTA_EXCEEDED`; empty if none was.
    pub reason_name: String,
    /// The service's words.
    pub message: String,
    /// Each bad field of the request.
    pub fields: Vec<FieldViolation>,
    /// Each exhausted quota.
    pub quotas: Vec<QuotaViolation>,
    /// Not before this time has passed is it worth trying again.
    pub retry_after: Option<Duration>,
    /// Further facts about the reason, by name.
    pub facts: BTreeMap<String, String>,
    /// The W3C trace id under which the service's log has the details.
    pub trace_id: Option<String>,
}

/// A field of the request that cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, for example `spec.tags[3]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A quota that has no room for what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaViolation {
    /// Whose quota it is.
    pub subject: String,
    /// Limit, usage and reservations in words.
    pub problem: String,
    /// What it counts; empty if the service does not say.
    pub metric: String,
    /// The limit, in the metric's unit; 0 if the service does not say.
    pub limit: i64,
    /// Further facts, by name.
    pub dimensions: BTreeMap<String, String>,
}

impl Refusal {
    /// Details that cannot be decoded are left out: code and message are always there.
    pub(crate) fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let reason_name = info.map(|info| info.reason.clone()).unwrap_or_default();
        let quotas = details.quota_failure().map(|failure| failure.violations.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: ErrorReason::from_str_name(&format!("ERROR_REASON_{reason_name}"))
                .filter(|reason| *reason != ErrorReason::Unspecified),
            message: status.message().to_owned(),
            fields: fields
                .into_iter()
                .map(|violation| FieldViolation { field: violation.field, problem: violation.description })
                .collect(),
            quotas: quotas
                .into_iter()
                .map(|violation| QuotaViolation {
                    subject: violation.subject,
                    problem: violation.description,
                    metric: violation.quota_metric,
                    limit: violation.quota_value,
                    dimensions: violation.quota_dimensions.into_iter().collect(),
                })
                .collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            facts: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            trace_id: status
                .metadata()
                .get("coffer-trace-id")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            reason_name,
        }
    }

    /// The refusal is a fault of the service, so that its log is where to look.
    fn is_fault(&self) -> bool {
        matches!(self.code, Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(self.code.description())?,
            message => f.write_str(message)?,
        }
        // The service's own words name them too, up to where a long message was cut.
        let is_new = |name: &String| !self.message.contains(name);
        for FieldViolation { field, problem } in
            self.fields.iter().filter(|violation| is_new(&violation.field))
        {
            write!(f, "; {field}: {problem}")?;
        }
        for QuotaViolation { subject, problem, .. } in
            self.quotas.iter().filter(|violation| is_new(&violation.subject))
        {
            write!(f, "; {subject}: {problem}")?;
        }
        if let Some(delay) = self.retry_after {
            write!(f, "; try again in {} s", delay.as_millis().div_ceil(1000))?;
        }
        if let Some(trace_id) = self.trace_id.as_ref().filter(|_| self.is_fault()) {
            write!(f, " (trace {trace_id})")?;
        }
        if !self.reason_name.is_empty() {
            write!(f, " [{}]", self.reason_name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use tonic_types::{ErrorDetails, QuotaViolation as WireViolation};

    fn refusal(error: Error) -> Refusal {
        match error {
            Error::Refused(refusal) => *refusal,
            other => panic!("not a refusal: {other:?}"),
        }
    }

    #[test]
    fn details_are_decoded() {
        let mut details = ErrorDetails::new();
        details.set_error_info("QUOTA_EXCEEDED", ERROR_DOMAIN, [("volume".to_owned(), "main".to_owned())]);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        details.add_bad_request_violation("spec.tags[3]", "has 200 bytes");
        let mut violation = WireViolation::new("user:ada", "limit 10, used 8, reserved 1");
        violation.quota_metric = "bytes".to_owned();
        violation.quota_value = 10;
        violation.quota_dimensions.insert("used".to_owned(), "8".to_owned());
        details.set_quota_failure([violation]);
        let mut status = Status::with_error_details(Code::ResourceExhausted, "no room for 5 bytes", details);
        status.metadata_mut().insert("coffer-trace-id", "abc".parse().unwrap());

        let refusal = refusal(status.into());
        assert_eq!(
            refusal,
            Refusal {
                code: Code::ResourceExhausted,
                reason: Some(ErrorReason::QuotaExceeded),
                reason_name: "QUOTA_EXCEEDED".to_owned(),
                message: "no room for 5 bytes".to_owned(),
                fields: vec![FieldViolation {
                    field: "spec.tags[3]".to_owned(),
                    problem: "has 200 bytes".to_owned()
                }],
                quotas: vec![QuotaViolation {
                    subject: "user:ada".to_owned(),
                    problem: "limit 10, used 8, reserved 1".to_owned(),
                    metric: "bytes".to_owned(),
                    limit: 10,
                    dimensions: [("used".to_owned(), "8".to_owned())].into(),
                }],
                retry_after: Some(Duration::from_millis(1500)),
                facts: [("volume".to_owned(), "main".to_owned())].into(),
                trace_id: Some("abc".to_owned()),
            }
        );
        assert_eq!(
            refusal.to_string(),
            "no room for 5 bytes; spec.tags[3]: has 200 bytes; user:ada: limit 10, used 8, reserved 1; \
             try again in 2 s [QUOTA_EXCEEDED]"
        );
    }

    #[test]
    fn reasons_of_others_and_of_later_versions() {
        let status = |reason: &str, domain: &str| {
            let details = ErrorDetails::with_error_info(reason, domain, [("a".to_owned(), "b".to_owned())]);
            Status::with_error_details(Code::Aborted, "no", details)
        };
        let later = refusal(status("INVENTED_LATER", ERROR_DOMAIN).into());
        assert_eq!((later.reason, later.reason_name.as_str()), (None, "INVENTED_LATER"));
        let foreign = refusal(status("NOT_FOUND", "proxy.example").into());
        assert_eq!((foreign.reason, foreign.reason_name.as_str()), (None, ""));
        assert!(foreign.facts.is_empty());
        assert_eq!(refusal(status("UNSPECIFIED", ERROR_DOMAIN).into()).reason, None);
    }

    #[test]
    fn bare_and_broken_statuses_keep_code_and_message() {
        let bare = refusal(Status::new(Code::NotFound, "").into());
        assert_eq!(bare.to_string(), Code::NotFound.description());
        let broken = Status::with_details(Code::Internal, "oops", vec![0xff; 9].into());
        assert_eq!(refusal(broken.into()).to_string(), "oops");
    }

    #[test]
    fn faults_name_their_trace() {
        let mut status = Status::internal("fault of the service");
        status.metadata_mut().insert("coffer-trace-id", "4bf9".parse().unwrap());
        assert_eq!(refusal(status.into()).to_string(), "fault of the service (trace 4bf9)");
    }

    #[test]
    fn broken_connections_are_no_refusals() {
        let cause = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(cause));
        let error = Error::from(status);
        assert!(
            matches!(&error, Error::Lost(words) if words == "transport error: reset by peer"),
            "{error:?}"
        );
    }
}

//! Messages and errors as JSON, for programs that read the command's output.

use super::exit::Failure;
use coffer_proto::DESCRIPTORS;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use std::sync::LazyLock;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS).expect("the contract's descriptors are compiled by its build script")
});

/// A message of the contract with the names that its `.proto` file has; `name` is that of its type, without the package.
/// Fields that are unset have their default. Times are RFC 3339, 64-bit integers are numbers: none of ours is near 2^53.
pub(super) fn message(name: &str, message: &impl Message) -> Value {
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true);
    let descriptor = POOL
        .get_message_by_name(&format!("coffer.v1.{name}"))
        .expect("a test prints every type that the command prints");
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("an encoded message decodes by its own descriptor")
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_else(|error| json!({ "unprintable": error.to_string() }))
}

/// A failure as it is printed on stderr; `None` if there is nothing to tell.
pub(super) fn failure(failure: &Failure) -> Option<Value> {
    let mut error = json!({ "exit_code": failure.exit() as u8, "message": failure.message()? });
    if let Failure::Unfinished { persisted_bytes, command, .. } = failure {
        error["persisted_bytes"] = json!(persisted_bytes);
        error["resume"] = json!(command);
    }
    let refusal = match failure {
        Failure::Client(error) | Failure::Unfinished { error, .. } => error.refusal(),
        _ => None,
    };
    if let Some(refusal) = refusal {
        let fields: Vec<Value> = refusal
            .fields
            .iter()
            .map(|violation| json!({ "field": violation.field, "problem": violation.problem }))
            .collect();
        let quotas: Vec<Value> = refusal
            .quotas
            .iter()
            .map(|violation| {
                json!({
                    "subject": violation.subject,
                    "problem": violation.problem,
                    "metric": violation.metric,
                    "limit": violation.limit,
                    "dimensions": violation.dimensions,
                })
            })
            .collect();
        error["message"] = json!(refusal.message);
        error["code"] = json!(format!("{:?}", refusal.code));
        error["reason"] = json!(refusal.reason_name);
        error["fields"] = json!(fields);
        error["quotas"] = json!(quotas);
        error["facts"] = json!(refusal.facts);
        error["retry_after_ms"] = json!(refusal.retry_after.map(|delay| delay.as_millis() as u64));
        error["trace_id"] = json!(refusal.trace_id);
    }
    Some(json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_client::{Code, Error, FieldViolation, QuotaViolation, Refusal, v1};
    use std::{collections::BTreeMap, time::Duration};

    #[test]
    fn every_type_that_is_printed() {
        let file = v1::File {
            size_bytes: 5_000_000_000,
            status: v1::FileStatus::Active.into(),
            custom_metadata: Some(prost_types::Struct {
                fields: [(
                    "k".to_owned(),
                    prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) },
                )]
                .into(),
            }),
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        };
        let file = message("File", &file);
        assert_eq!(file["size_bytes"], json!(5_000_000_000_i64));
        assert_eq!(file["status"], json!("FILE_STATUS_ACTIVE"));
        assert_eq!(file["custom_metadata"], json!({ "k": true }));
        assert_eq!(file["create_time"], json!("2023-11-14T22:13:20Z"));
        assert_eq!(file["tags"], json!([]));

        let of = v1::quota_key::Of::UserId("ada".to_owned());
        let quota =
            v1::Quota { key: Some(v1::QuotaKey { of: Some(of) }), used_bytes: 7, ..Default::default() };
        let quota = message("Quota", &quota);
        assert_eq!((&quota["key"], &quota["used_bytes"]), (&json!({ "user_id": "ada" }), &json!(7)));

        let upload =
            v1::Upload { state: v1::UploadState::Open.into(), size_bytes: Some(9), ..Default::default() };
        let upload = message("Upload", &upload);
        assert_eq!((&upload["state"], &upload["size_bytes"]), (&json!("UPLOAD_STATE_OPEN"), &json!(9)));

        let exhausted = v1::ExhaustedQuota { limit: 5, ..Default::default() };
        let check = v1::CheckQuotaResponse { fits: false, exhausted: vec![exhausted] };
        assert_eq!(message("CheckQuotaResponse", &check)["exhausted"][0]["limit"], json!(5));
        let drift = message("QuotaDrift", &v1::QuotaDrift { actual_bytes: 3, ..Default::default() });
        assert_eq!((&drift["counted_bytes"], &drift["actual_bytes"]), (&json!(0), &json!(3)));

        let server = v1::endpoint::Server::Http(v1::HttpServer { url: "http://h".to_owned() });
        let endpoint = message("Endpoint", &v1::Endpoint { server: Some(server), ..Default::default() });
        assert_eq!(endpoint["http"], json!({ "url": "http://h" }));
        let server = v1::endpoint::Server::Ftp(v1::FtpServer { port: Some(21), ..Default::default() });
        let endpoint = message("Endpoint", &v1::Endpoint { server: Some(server), ..Default::default() });
        assert_eq!(endpoint["ftp"]["port"], json!(21));
        let credential = v1::Credential { kind: v1::CredentialKind::Basic.into(), ..Default::default() };
        assert_eq!(message("Credential", &credential)["kind"], json!("CREDENTIAL_KIND_BASIC"));
        let check = v1::CheckVolumeResponse { is_healthy: true, ..Default::default() };
        assert_eq!(message("CheckVolumeResponse", &check)["is_healthy"], json!(true));
        assert_eq!(message("DeleteEndpointResponse", &v1::DeleteEndpointResponse {}), json!({}));
        assert_eq!(message("DeleteCredentialResponse", &v1::DeleteCredentialResponse {}), json!({}));

        let operation = v1::Operation {
            kind: v1::OperationKind::Upload.into(),
            record: "{}".into(),
            ..Default::default()
        };
        let operation = message("Operation", &operation);
        assert_eq!(
            (&operation["kind"], &operation["record"]),
            (&json!("OPERATION_KIND_UPLOAD"), &json!("e30="))
        );
    }

    #[test]
    fn refusals_with_all_they_say() {
        let refusal = Refusal {
            code: Code::ResourceExhausted,
            reason: Some(v1::ErrorReason::QuotaExceeded),
            reason_name: "QUOTA_EXCEEDED".to_owned(),
            message: "no room".to_owned(),
            fields: vec![FieldViolation { field: "f".to_owned(), problem: "p".to_owned() }],
            quotas: vec![QuotaViolation {
                subject: "s".to_owned(),
                problem: "q".to_owned(),
                metric: "bytes".to_owned(),
                limit: 10,
                dimensions: BTreeMap::new(),
            }],
            retry_after: Some(Duration::from_millis(1500)),
            facts: BTreeMap::new(),
            trace_id: None,
        };
        let expected = json!({ "error": {
            "exit_code": 6,
            "code": "ResourceExhausted",
            "reason": "QUOTA_EXCEEDED",
            "message": "no room",
            "fields": [{ "field": "f", "problem": "p" }],
            "quotas": [{ "subject": "s", "problem": "q", "metric": "bytes", "limit": 10, "dimensions": {} }],
            "facts": {},
            "retry_after_ms": 1500,
            "trace_id": null,
        }});
        assert_eq!(failure(&Error::Refused(Box::new(refusal)).into()), Some(expected));
        let unfinished = Failure::Unfinished {
            error: Error::Lost("reset".to_owned()),
            persisted_bytes: 7,
            command: "coffer upload --resume a".to_owned(),
        };
        let unfinished = failure(&unfinished).unwrap();
        assert_eq!(unfinished["error"]["persisted_bytes"], json!(7));
        assert_eq!(unfinished["error"]["resume"], json!("coffer upload --resume a"));
        assert_eq!(unfinished["error"]["exit_code"], json!(7));
        let usage = failure(&Failure::Usage("wrong".to_owned()));
        assert_eq!(usage, Some(json!({ "error": { "exit_code": 2, "message": "wrong" } })));
    }
}

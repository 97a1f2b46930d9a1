//! The audit trail's record of one operation, and its canonical bytes.

use crate::{
    error::{Error, FieldViolation},
    file::texts,
    id::{FileId, NodeId, OperationId, UserId, VolumeId},
    time::{Timestamp, now},
    volume::{Provider, UnknownValue},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// Most bytes of a record.
pub const MAX_RECORD_BYTES: usize = 65_535;
/// Most bytes of a text in a record; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 1_024;

texts! {
    /// What was done.
    OperationKind {
        /// New content.
        Upload = "upload",
        /// Content read.
        Download = "download",
        /// Moved to the trash.
        Delete = "delete",
        /// Taken out of the trash.
        Undelete = "undelete",
        /// Removed for good.
        Purge = "purge",
        /// Description changed.
        UpdateMetadata = "update_metadata",
        /// Description of a sensitive file seen.
        ViewMetadata = "view_metadata",
        /// A page of files seen.
        List = "list",
        /// Volume made.
        CreateVolume = "create_volume",
        /// Volume changed.
        UpdateVolume = "update_volume",
        /// Volume removed.
        DeleteVolume = "delete_volume",
        /// Volume checked.
        CheckVolume = "check_volume",
        /// Local path approved.
        CreateLocalPath = "create_local_path",
        /// Local path described.
        UpdateLocalPath = "update_local_path",
        /// Local path withdrawn.
        DeleteLocalPath = "delete_local_path",
        /// Credentials refused.
        Authenticate = "authenticate",
        /// Audit trail read.
        ReadOperations = "read_operations",
        /// Quota read.
        ReadQuota = "read_quota",
        /// Volumes or what they stand on seen.
        ViewVolume = "view_volume",
        /// Something repaired.
        Reconcile = "reconcile",
        /// Upload started.
        StartUpload = "start_upload",
        /// Upload given up by its caller.
        CancelUpload = "cancel_upload",
        /// Upload given up because nothing was recorded of it for too long.
        ExpireUpload = "expire_upload",
        /// Uploads seen.
        ViewUpload = "view_upload",
        /// Limits set.
        SetQuota = "set_quota",
        /// Quotas counted again.
        RecalculateQuotas = "recalculate_quotas",
        /// Endpoint made.
        CreateEndpoint = "create_endpoint",
        /// Endpoint changed.
        UpdateEndpoint = "update_endpoint",
        /// Endpoint removed, with its credentials.
        DeleteEndpoint = "delete_endpoint",
        /// Credential stored.
        CreateCredential = "create_credential",
        /// Credential changed.
        UpdateCredential = "update_credential",
        /// Credential removed.
        DeleteCredential = "delete_credential",
        /// Sealing all secrets anew begun, or ended.
        RotateKeys = "rotate_keys",
        /// Tasks seen.
        ViewTask = "view_task",
        /// Task asked to end.
        CancelTask = "cancel_task",
    }
}

texts! {
    /// How it ended.
    OperationStatus {
        /// Done.
        Success = "success",
        /// Failed or refused.
        Failed = "failed",
        /// Begun: another record tells the outcome.
        Pending = "pending",
    }
}

/// One record of the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// UUIDv7.
    pub id: OperationId,
    /// What.
    #[serde(rename = "operation")]
    pub kind: OperationKind,
    /// How it ended.
    pub status: OperationStatus,
    /// On which file.
    pub file_id: Option<FileId>,
    /// In which volume.
    pub volume_id: Option<VolumeId>,
    /// On which kind of backend.
    pub provider: Option<Provider>,
    /// Content bytes received or sent.
    #[serde(with = "exact")]
    pub bytes_transferred: u64,
    /// How long it took.
    #[serde(with = "exact")]
    pub duration_ms: u64,
    /// From where.
    pub client_ip: Option<String>,
    /// With what.
    pub user_agent: Option<String>,
    /// By which user.
    pub user_id: Option<UserId>,
    /// Through which app.
    pub app_id: Option<String>,
    /// The user, if he has not asked himself: the app acted for him on its own word.
    pub on_behalf_of: Option<UserId>,
    /// Tenant.
    pub organisation: String,
    /// The caller's session.
    pub session_id: Option<String>,
    /// The caller's correlation id.
    pub correlation_id: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
    /// By which node.
    pub node_id: Option<NodeId>,
    /// Reason of the refusal or failure.
    pub error_code: Option<String>,
    /// The same for people.
    pub error_message: Option<String>,
    /// The same for programs.
    pub error_details: Option<Value>,
    /// Why the caller did it.
    pub purpose: Option<String>,
    /// More about it.
    pub metadata: Map<String, Value>,
    /// The pending record whose outcome this is.
    pub completes: Option<OperationId>,
    /// When it was recorded, as integer microseconds since 1970 in the record.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub created_at: Timestamp,
}

impl Operation {
    /// An empty successful operation.
    pub(crate) fn new(id: OperationId, created_at: Timestamp) -> Self {
        Self {
            id,
            kind: OperationKind::List,
            status: OperationStatus::Success,
            file_id: None,
            volume_id: None,
            provider: None,
            bytes_transferred: 0,
            duration_ms: 0,
            client_ip: None,
            user_agent: None,
            user_id: None,
            app_id: None,
            on_behalf_of: None,
            organisation: String::new(),
            session_id: None,
            correlation_id: None,
            trace_id: None,
            node_id: None,
            error_code: None,
            error_message: None,
            error_details: None,
            purpose: None,
            metadata: Map::new(),
            completes: None,
            created_at,
        }
    }

    /// The same operation, failed with `error`.
    pub fn failed(mut self, error: &Error) -> Self {
        self.status = OperationStatus::Failed;
        self.error_code = Some(error.reason().to_owned());
        self.error_message = Some(cut(&error.to_string()));
        self.error_details = details(error);
        self
    }

    /// The outcome of a pending operation: another record that names it.
    pub fn outcome(&self) -> Self {
        Self {
            id: OperationId::new(),
            status: OperationStatus::Success,
            completes: Some(self.id),
            created_at: now(),
            ..self.clone()
        }
    }

    /// The same operation with one more fact.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }

    /// The canonical bytes: RFC 8785 JSON, times in microseconds, at most 65,535 bytes. What grows without limit is given by
    /// callers in bounded fields, so that only `metadata` and `error_details` can be too much; they are then left out, and said so.
    pub fn record(&self) -> Vec<u8> {
        let bytes = canonical(self);
        if bytes.len() <= MAX_RECORD_BYTES {
            return bytes;
        }
        let mut short = self.clone();
        short.error_details = None;
        short.metadata = Map::from_iter([("omitted_bytes".to_owned(), json!(bytes.len()))]);
        canonical(&short)
    }

    /// Reads a record back.
    pub fn from_record(record: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(record)
    }
}

fn canonical(operation: &Operation) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(operation).expect("an operation has string keys and finite numbers")
}

fn cut(text: &str) -> String {
    let end = text
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|end| *end <= MAX_TEXT_BYTES)
        .last()
        .unwrap_or(0);
    text[..end].to_owned()
}

fn details(error: &Error) -> Option<Value> {
    match error {
        Error::Invalid(violations) => Some(json!({
            "fields": violations.iter().take(16).map(|FieldViolation { field, problem }| json!({"field": field, "problem": problem})).collect::<Vec<_>>()
        })),
        Error::QuotaExceeded(exhausted) => Some(json!({
            "quotas": exhausted.iter().map(|e| json!({
                "quota": e.key.to_string(), "dimension": e.dimension, "limit": e.limit.to_string(),
                "used": e.used.to_string(), "reserved": e.reserved.to_string(), "requested": e.requested.to_string(),
            })).collect::<Vec<_>>()
        })),
        Error::NotFound(resource) => {
            let (kind, name) = resource.kind_and_name();
            Some(json!({"kind": kind, "name": cut(&name)}))
        }
        _ => None,
    }
}

/// Numbers in a record: RFC 8785 knows only what a double holds, so those above 2^53 are strings.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    const MAX_NUMBER: u64 = 1 << 53;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Exact {
        Number(u64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *value <= MAX_NUMBER { serializer.serialize_u64(*value) } else { serializer.collect_str(value) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match Exact::deserialize(deserializer)? {
            Exact::Number(number) => Ok(number),
            Exact::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// Which operations an auditor asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// On this file.
    pub file: Option<FileId>,
    /// Of this user.
    pub user: Option<UserId>,
    /// Of these kinds; all if empty.
    pub kinds: Vec<OperationKind>,
    /// With this outcome.
    pub status: Option<OperationStatus>,
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_is_canonical() {
        let operation = Operation::new(OperationId::new(), now()).with("b", "ü\u{1}").with("a", 1);
        let record = operation.record();
        assert_eq!(Operation::from_record(&record).unwrap(), operation);
        assert_eq!(Operation::from_record(&record).unwrap().record(), record);
        let text = String::from_utf8(record).unwrap();
        assert!(text.contains(r#""metadata":{"a":1,"b":"ü\u0001"}"#), "{text}");
    }

    #[test]
    fn numbers_beyond_a_double_stay_exact() {
        for bytes in [0, 1 << 53, (1 << 53) + 1, u64::MAX] {
            let operation =
                Operation { bytes_transferred: bytes, ..Operation::new(OperationId::new(), now()) };
            assert_eq!(Operation::from_record(&operation.record()).unwrap().bytes_transferred, bytes);
        }
    }

    #[test]
    fn a_record_stays_within_its_limit_and_says_what_it_left_out() {
        let operation = Operation::new(OperationId::new(), now()).with("huge", "x".repeat(MAX_RECORD_BYTES));
        let record = operation.record();
        assert!(record.len() <= MAX_RECORD_BYTES);
        assert!(
            Operation::from_record(&record).unwrap().metadata["omitted_bytes"].as_u64().unwrap() > 65_535
        );
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(MAX_TEXT_BYTES)).len(), MAX_TEXT_BYTES);
        assert_eq!(cut("short"), "short");
    }
}

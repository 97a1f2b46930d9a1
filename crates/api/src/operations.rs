//! `AuditService`: the audit trail.

use crate::{
    Api, Received,
    fields::{Fields, to_i64, to_struct, to_text, to_time},
    refuse,
};
use coffer_domain::{
    file::Metadata,
    operation::{Filter, Operation, OperationKind, OperationStatus},
    service::Recorded,
};
use coffer_proto::v1::{
    self, ListOperationsRequest, ListOperationsResponse, audit_service_server::AuditService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Most kinds of a filter.
const MAX_KINDS: usize = 32;

/// The service.
pub(crate) struct Operations(pub(crate) Arc<Api>);

#[tonic::async_trait]
impl AuditService for Operations {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let filter = filter(message, &mut fields);
        let (filter, page) =
            self.0.checked(&caller, OperationKind::ReadOperations, fields, filter.zip(page)).await?;
        let found = self.0.coffer.list_operations(&caller, &filter, &page).await.map_err(refuse)?;
        Ok(Response::new(ListOperationsResponse {
            operations: found.items.into_iter().map(to_operation).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }
}

fn filter(message: ListOperationsRequest, fields: &mut Fields) -> Option<Filter> {
    let ListOperationsRequest {
        page_size: _,
        page_token: _,
        file_id,
        user_id,
        kinds,
        status,
        start_time,
        end_time,
    } = message;
    let file = fields.optional_id("file_id", &file_id);
    let user = fields.optional_id("user_id", &user_id);
    let kinds = if kinds.len() > MAX_KINDS {
        fields.take("kinds", Err(format!("must be at most {MAX_KINDS}")))
    } else {
        let named = kinds.iter().enumerate().map(|(at, kind)| {
            let field = format!("kinds[{at}]");
            let kind = fields.optional_enum(&field, *kind, to_domain_kind)?;
            fields.take(&field, kind.ok_or("must be one of its values"))
        });
        // Every bad kind is told, so this must not stop at the first.
        let named: Vec<Option<OperationKind>> = named.collect();
        named.into_iter().collect()
    };
    let status = fields.optional_enum("status", status, |status| match status {
        v1::OperationStatus::Unspecified => None,
        v1::OperationStatus::Success => Some(OperationStatus::Success),
        v1::OperationStatus::Failed => Some(OperationStatus::Failed),
        v1::OperationStatus::Pending => Some(OperationStatus::Pending),
    });
    let from = fields.optional_time("start_time", start_time);
    let until = fields.optional_time("end_time", end_time);
    if let (Some(Some(from)), Some(Some(until))) = (from, until)
        && until < from
    {
        fields.refuse("end_time", "must not be before start_time");
    }
    Some(Filter { file: file?, user: user?, kinds: kinds?, status: status?, from: from?, until: until? })
}

fn to_operation(recorded: Recorded) -> v1::Operation {
    let Recorded { operation, record } = recorded;
    let Operation {
        id,
        kind,
        status,
        file_id,
        volume_id,
        provider,
        bytes_transferred,
        duration_ms,
        client_ip,
        user_agent,
        user_id,
        app_id,
        on_behalf_of,
        organisation,
        session_id,
        correlation_id,
        trace_id,
        node_id,
        error_code,
        error_message,
        error_details,
        purpose,
        metadata,
        completes,
        created_at,
    } = operation;
    v1::Operation {
        id: id.to_string(),
        kind: to_kind(kind).into(),
        status: match status {
            OperationStatus::Success => v1::OperationStatus::Success,
            OperationStatus::Failed => v1::OperationStatus::Failed,
            OperationStatus::Pending => v1::OperationStatus::Pending,
        }
        .into(),
        file_id: to_text(file_id),
        volume_id: to_text(volume_id),
        provider: provider.map(|provider| provider.as_str().to_owned()).unwrap_or_default(),
        bytes_transferred: to_i64(bytes_transferred),
        duration_ms: to_i64(duration_ms),
        client_ip: client_ip.unwrap_or_default(),
        user_agent: user_agent.unwrap_or_default(),
        user_id: to_text(user_id),
        app_id: app_id.unwrap_or_default(),
        organisation_id: organisation,
        session_id: session_id.unwrap_or_default(),
        correlation_id: correlation_id.unwrap_or_default(),
        trace_id: trace_id.unwrap_or_default(),
        node_id: to_text(node_id),
        error_code: error_code.unwrap_or_default(),
        error_message: error_message.unwrap_or_default(),
        error_details: error_details.map(|details| match details {
            serde_json::Value::Object(object) => to_struct(object),
            other => to_struct(Metadata::from_iter([("value".to_owned(), other)])),
        }),
        purpose: purpose.unwrap_or_default(),
        metadata: Some(to_struct(metadata)),
        completes_id: to_text(completes),
        create_time: Some(to_time(created_at)),
        record: record.into(),
        on_behalf_of: to_text(on_behalf_of),
    }
}

/// Both ways of the kinds in one table, so that neither forgets one.
macro_rules! kinds {
    ($($kind:ident),+ $(,)?) => {
        fn to_kind(kind: OperationKind) -> v1::OperationKind {
            match kind { $(OperationKind::$kind => v1::OperationKind::$kind),+ }
        }

        fn to_domain_kind(kind: v1::OperationKind) -> Option<OperationKind> {
            match kind {
                v1::OperationKind::Unspecified => None,
                $(v1::OperationKind::$kind => Some(OperationKind::$kind)),+
            }
        }
    };
}

kinds! {
    Upload, Download, Delete, Undelete, Purge, UpdateMetadata, ViewMetadata, List, CreateVolume, UpdateVolume, DeleteVolume,
    CheckVolume, CreateLocalPath, UpdateLocalPath, DeleteLocalPath, Authenticate, ReadOperations, ReadQuota, Reconcile, ViewVolume,
    StartUpload, CancelUpload, ExpireUpload, ViewUpload, SetQuota, RecalculateQuotas, CreateEndpoint,
    UpdateEndpoint, DeleteEndpoint, CreateCredential, UpdateCredential, DeleteCredential, RotateKeys, ViewTask, CancelTask,
}

#[cfg(test)]
mod tests;

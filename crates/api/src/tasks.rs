//! `MaintenanceService`: long work on the service itself.

use crate::{
    Api, Received,
    fields::{Fields, to_i64, to_time},
    refuse, request_id,
};
use coffer_domain::{
    operation::OperationKind,
    task::{Filter, Task, TaskError, TaskKind, TaskState, Work},
    time::Timestamp,
};
use coffer_proto::v1::{
    self, CancelTaskRequest, CancelTaskResponse, GetTaskRequest, GetTaskResponse, KeyRotation,
    ListTasksRequest, ListTasksResponse, RotateKeysRequest, RotateKeysResponse, WatchTaskRequest,
    WatchTaskResponse, maintenance_service_server::MaintenanceService, task::State as WireState,
};
use futures_util::{Stream, stream};
use std::{pin::Pin, sync::Arc};
use tonic::{Request, Response, Status};

/// The service.
pub(crate) struct Tasks(pub(crate) Arc<Api>);

/// A task each time it has changed.
type Changes = Pin<Box<dyn Stream<Item = Result<WatchTaskResponse, Status>> + Send>>;

/// What a watch answers next.
enum Next {
    Now(Box<Task>),
    After(Timestamp),
    End,
}

#[tonic::async_trait]
impl MaintenanceService for Tasks {
    async fn rotate_keys(
        &self,
        request: Request<RotateKeysRequest>,
    ) -> Result<Response<RotateKeysResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "RotateKeys", &message.request_id, &message);
        let RotateKeysRequest { key_id, request_id: _ } = message;
        let named = fields.optional_id("key_id", &key_id);
        let (named, request) =
            self.0.checked(&caller, OperationKind::RotateKeys, fields, named.zip(request)).await?;
        let task = self.0.coffer.rotate_keys(&caller, named, request).await.map_err(refuse)?;
        Ok(Response::new(RotateKeysResponse { task: Some(to_task(task)) }))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<GetTaskResponse>, Status> {
        let (_, Received { caller, mut fields, message: GetTaskRequest { id } }) =
            self.0.receive_known(request)?;
        let id = fields.id("id", &id);
        let id = self.0.checked(&caller, OperationKind::ViewTask, fields, id).await?;
        let task = self.0.coffer.get_task(&caller, id).await.map_err(refuse)?;
        Ok(Response::new(GetTaskResponse { task: Some(to_task(task)) }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let (page, binding) = self.0.tokens.request(&message, &principal, &mut fields);
        let filter = filter(&message, &mut fields);
        let (filter, page) =
            self.0.checked(&caller, OperationKind::ViewTask, fields, filter.zip(page)).await?;
        let found = self.0.coffer.list_tasks(&caller, &filter, &page).await.map_err(refuse)?;
        Ok(Response::new(ListTasksResponse {
            tasks: found.items.into_iter().map(to_task).collect(),
            next_page_token: self.0.tokens.next(found.next.as_ref(), &binding),
        }))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskResponse>, Status> {
        let (principal, Received { caller, mut fields, message }) = self.0.receive_known(request)?;
        let request = request_id(&mut fields, &principal, "CancelTask", &message.request_id, &message);
        let CancelTaskRequest { id, request_id: _ } = message;
        let id = fields.id("id", &id);
        let (id, request) =
            self.0.checked(&caller, OperationKind::CancelTask, fields, id.zip(request)).await?;
        let task = self.0.coffer.cancel_task(&caller, id, request).await.map_err(refuse)?;
        Ok(Response::new(CancelTaskResponse { task: Some(to_task(task)) }))
    }

    type WatchTaskStream = Changes;

    async fn watch_task(&self, request: Request<WatchTaskRequest>) -> Result<Response<Changes>, Status> {
        let (_, Received { caller, mut fields, message: WatchTaskRequest { id } }) =
            self.0.receive_known(request)?;
        let id = fields.id("id", &id);
        let id = self.0.checked(&caller, OperationKind::ViewTask, fields, id).await?;
        let task = self.0.coffer.get_task(&caller, id).await.map_err(refuse)?;
        let coffer = self.0.coffer.clone();
        let changes = stream::try_unfold(Next::Now(Box::new(task)), move |next| {
            let (coffer, caller) = (coffer.clone(), caller.clone());
            async move {
                let task = match next {
                    Next::Now(task) => *task,
                    Next::After(seen) => coffer.watch_task(&caller, id, Some(seen)).await.map_err(refuse)?,
                    Next::End => return Ok(None),
                };
                let next = match task.state {
                    TaskState::Running => Next::After(task.updated_at),
                    TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => Next::End,
                };
                Ok(Some((WatchTaskResponse { task: Some(to_task(task)) }, next)))
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

fn filter(message: &ListTasksRequest, fields: &mut Fields) -> Option<Filter> {
    let ListTasksRequest { page_size: _, page_token: _, state, kind } = message;
    let state = fields.optional_enum("state", *state, |state| match state {
        WireState::Unspecified => None,
        WireState::Running => Some(TaskState::Running),
        WireState::Succeeded => Some(TaskState::Succeeded),
        WireState::Failed => Some(TaskState::Failed),
        WireState::Cancelled => Some(TaskState::Cancelled),
    });
    let kind = fields.optional_enum("kind", *kind, |kind| match kind {
        v1::TaskKind::Unspecified => None,
        v1::TaskKind::RotateKeys => Some(TaskKind::RotateKeys),
    });
    Some(Filter { state: state?, kind: kind? })
}

fn to_task(task: Task) -> v1::Task {
    let Task {
        id,
        work,
        state,
        items_done,
        items_failed,
        items_total,
        error,
        is_cancel_requested,
        created_at,
        updated_at,
        ended_at,
    } = task;
    let TaskError { reason, message } =
        error.unwrap_or_else(|| TaskError { reason: String::new(), message: String::new() });
    v1::Task {
        id: id.to_string(),
        kind: match work.kind() {
            TaskKind::RotateKeys => v1::TaskKind::RotateKeys,
        }
        .into(),
        state: match state {
            TaskState::Running => WireState::Running,
            TaskState::Succeeded => WireState::Succeeded,
            TaskState::Failed => WireState::Failed,
            TaskState::Cancelled => WireState::Cancelled,
        }
        .into(),
        items_done: to_i64(items_done),
        items_failed: to_i64(items_failed),
        items_total: to_i64(items_total),
        error_reason: reason,
        error_message: message,
        cancel_requested: is_cancel_requested,
        create_time: Some(to_time(created_at)),
        update_time: Some(to_time(updated_at)),
        end_time: ended_at.map(to_time),
        work: Some(match work {
            Work::RotateKeys { key_id } => {
                v1::task::Work::RotateKeys(KeyRotation { key_id: key_id.to_string() })
            }
        }),
    }
}

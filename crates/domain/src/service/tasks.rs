//! Long work: begun, watched, asked to end, and taken over from nodes that died.

use super::Coffer;
use crate::{
    Error, Result,
    caller::Caller,
    error::{Conflict, Unavailable},
    id::TaskId,
    operation::{Operation, OperationKind},
    page::{Page, PageRequest},
    request::Request,
    secret::KeyId,
    task::{Filter, NewTask, Task, TaskState, Work},
    time::Timestamp,
};
use std::time::Duration;

/// Secrets that are sealed anew in one transaction.
const PAGE: usize = 100;
/// Pause before what failed for a passing reason is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Pause between looks at a task that is watched.
const WATCH_PAUSE: Duration = Duration::from_millis(250);

impl Coffer {
    /// Begins to seal all secrets under the current key, which may be named so that a node which does not know it yet refuses.
    pub async fn rotate_keys(
        &self,
        caller: &Caller,
        named: Option<KeyId>,
        request: Option<Request>,
    ) -> Result<Task> {
        let (caller, id) = (caller.clone(), TaskId::new());
        let operation = caller.operation(OperationKind::RotateKeys);
        let task = self
            .audited_once(operation, request.clone(), move |me, trail| async move {
                caller.must_operate()?;
                me.must_be_open()?;
                let key_id = me.store().current_key(named.as_ref()).await?;
                let task = NewTask { id, work: Work::RotateKeys { key_id } };
                trail.note("task_id", task.id);
                me.store().create_task(&task, me.0.start, &trail.operation(), request.as_ref()).await
            })
            .await?;
        // Not one that the same request had begun before.
        if task.id == id {
            self.work_on(task.clone());
        }
        Ok(task)
    }

    /// A task. Recorded when refused.
    pub async fn get_task(&self, caller: &Caller, id: TaskId) -> Result<Task> {
        let caller = caller.clone();
        self.audited(caller.operation(OperationKind::ViewTask), move |me, _trail| async move {
            caller.must_operate()?;
            me.task(id).await
        })
        .await
    }

    /// Tasks, newest first. Recorded when refused.
    pub async fn list_tasks(
        &self,
        caller: &Caller,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Task>> {
        let (caller, filter, page) = (caller.clone(), filter.clone(), page.clone());
        self.audited(caller.operation(OperationKind::ViewTask), move |me, _trail| async move {
            caller.must_operate()?;
            me.store().tasks(&filter, &page).await
        })
        .await
    }

    /// Asks a task to end before its end. One that has ended is answered as it is.
    pub async fn cancel_task(&self, caller: &Caller, id: TaskId, request: Option<Request>) -> Result<Task> {
        let caller = caller.clone();
        self.audited_once(
            caller.operation(OperationKind::CancelTask),
            request.clone(),
            move |me, trail| async move {
                caller.must_operate()?;
                trail.note("task_id", id);
                me.store().cancel_task(id, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// The task when something of it has changed since `seen`, or has ended. Ends with the caller's token and with the node.
    pub async fn watch_task(&self, caller: &Caller, id: TaskId, seen: Option<Timestamp>) -> Result<Task> {
        loop {
            caller.must_operate()?;
            let task = self.task(id).await?;
            if seen != Some(task.updated_at) || task.state != TaskState::Running {
                return Ok(task);
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_PAUSE) => {}
                () = self.0.closing.cancelled() => return Err(Error::Unavailable(Unavailable::ShuttingDown)),
            }
        }
    }

    /// Goes on with tasks whose nodes have died. Answers how many.
    pub async fn resume_tasks(&self) -> Result<usize> {
        self.must_be_open()?;
        let taken = self.store().take_tasks(self.0.start).await?;
        let count = taken.len();
        for task in taken {
            tracing::info!(task.id = %task.id, task.kind = task.work.kind().as_str(), "going on with a task");
            self.work_on(task);
        }
        Ok(count)
    }

    async fn task(&self, id: TaskId) -> Result<Task> {
        self.store().task(id).await?.ok_or_else(|| Error::NotFound(Task::resource(id)))
    }

    /// Works on a task that this node holds, until it ends or the node does: then it is another's.
    fn work_on(&self, task: Task) {
        if task.state != TaskState::Running {
            return;
        }
        let me = self.clone();
        self.0.tasks.spawn(async move {
            let outcome = me.0.closing.clone().run_until_cancelled(me.work(task.id, &task.work)).await;
            match outcome {
                None => tracing::info!(task.id = %task.id, "left a task to whoever takes it up"),
                Some(Ok(task)) => tracing::info!(
                    task.id = %task.id,
                    task.state = task.state.as_str(),
                    task.items_done = task.items_done,
                    task.items_failed = task.items_failed,
                    "a task ended"
                ),
                Some(Err(problem)) => {
                    tracing::warn!(task.id = %task.id, problem = %problem, "cannot go on with a task");
                }
            }
        });
    }

    async fn work(&self, id: TaskId, work: &Work) -> Result<Task> {
        loop {
            let ending = self.ending(id, work);
            let outcome = match work {
                Work::RotateKeys { .. } => self.store().rotate_secrets(id, self.0.start, PAGE, &ending).await,
            };
            match outcome {
                Ok(task) if task.state == TaskState::Running => {}
                Ok(task) => return Ok(task),
                Err(Error::Unavailable(_) | Error::Overloaded) => tokio::time::sleep(RETRY_PAUSE).await,
                // Somebody else has it.
                Err(error @ Error::Conflict(Conflict::Fenced)) => return Err(error),
                Err(error) => {
                    let ending = ending.failed(&error);
                    let (reason, message) = (error.reason(), error.to_string());
                    return self.store().fail_task(id, self.0.start, reason, &message, &ending).await;
                }
            }
        }
    }

    /// The record of a task's end.
    fn ending(&self, id: TaskId, work: &Work) -> Operation {
        let kind = match work {
            Work::RotateKeys { .. } => OperationKind::RotateKeys,
        };
        let mut operation = Caller::service().operation(kind).with("task_id", id.to_string());
        operation.node_id = Some(self.0.start.node);
        operation
    }
}

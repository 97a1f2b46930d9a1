//! Many clients of one service, and somebody who looks at the books all the time.

use crate::quotas::{drifts, eventually, last, start};
use bytes::Bytes;
use coffer_proto::v1::{self, write_file_request::FirstMessage};
use coffer_tests::{
    Cofferd, TestDatabase, Token,
    grpc::{Clients, exhausted, refusal},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Most bytes of one message.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Pause of the [`Sampler`].
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Quotas that have more than they may. One statement, hence one moment.
const OVER: &str = "
SELECT coalesce(sum(over), 0)::bigint FROM (
    SELECT quota_used + quota_reserved - quota_limit AS over FROM storage_volumes
    UNION ALL SELECT quota_used + quota_reserved - quota_limit FROM user_quotas
    UNION ALL SELECT quota_used + quota_reserved - quota_limit FROM app_quotas
    UNION ALL SELECT used_storage_bytes + reserved_storage_bytes - max_storage_bytes FROM storage_quotas
    UNION ALL SELECT used_files + reserved_files - max_files FROM storage_quotas
) books WHERE over > 0";

/// What is reserved anywhere, bytes and files together.
const RESERVED: &str = "
SELECT (
    (SELECT sum(quota_reserved) FROM storage_volumes)
    + coalesce((SELECT sum(quota_reserved) FROM user_quotas), 0)
    + coalesce((SELECT sum(quota_reserved) FROM app_quotas), 0)
    + coalesce((SELECT sum(reserved_storage_bytes + reserved_files) FROM storage_quotas), 0)
    + coalesce((SELECT sum(reserved_bytes + reserved_files) FROM storage_uploads WHERE state IN ('OPEN', 'FINISHING')), 0)
)::bigint";

/// How a content is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One stream, its size told before.
    Declared,
    /// One stream, its size not told.
    Undeclared,
    /// StartUpload with its size, then WriteFile.
    Started,
}

/// A service, its operator, and connections enough that no stream waits for another.
pub(super) struct Rig {
    pub(super) cofferd: Cofferd,
    pub(super) operator: Clients,
}

impl Rig {
    pub(super) async fn start() -> Self {
        let cofferd = Cofferd::start().await;
        let operator = cofferd.clients(&operator("clinic")).await;
        Self { cofferd, operator }
    }

    /// One caller on several connections.
    pub(super) async fn connections(&self, token: &Token) -> Vec<Clients> {
        const CONNECTIONS: usize = 4;
        let token = self.cofferd.token(token);
        let connect = || self.cofferd.clients_with(Some(&token));
        futures_util::future::join_all((0..CONNECTIONS).map(|_| connect())).await
    }

    /// Nothing is reserved any more, and a recount finds no difference. Returns when what was left has been given back.
    pub(super) async fn settled(&self) {
        let sql = self.cofferd.database.connect().await;
        eventually("nothing stays reserved", async || {
            sql.query_one(RESERVED, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        assert_eq!(drifts(&self.operator).await, []);
        crate::quotas::nothing_drifts(&self.cofferd).await;
    }
}

/// An operator of an organisation.
pub(super) fn operator(organisation: &str) -> Token {
    Token::user("olga", organisation).role("operator")
}

/// Polls the books until it is asked what it saw.
pub(super) struct Sampler {
    is_over: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Sampler {
    pub(super) async fn start(database: &TestDatabase) -> Self {
        let sql = database.connect().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let task = tokio::spawn(async move {
            let look = sql.prepare(OVER).await.unwrap();
            let mut looks = 0;
            while !asked.load(Ordering::Relaxed) {
                let over: i64 = sql.query_one(&look, &[]).await.unwrap().get(0);
                assert_eq!(over, 0, "used and reserved together are over a limit");
                looks += 1;
                // Looking all the time would take the machine from those who are looked at.
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            looks
        });
        Self { is_over, task }
    }

    /// How often it looked, and never saw a quota over its limit.
    pub(super) async fn looks(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Sends a content.
pub(super) async fn put(
    clients: &Clients,
    spec: v1::UploadSpec,
    content: Bytes,
    way: Way,
) -> Result<v1::File, Status> {
    let size_bytes = (way != Way::Undeclared).then_some(content.len() as i64);
    let spec = v1::UploadSpec { size_bytes, ..spec };
    let first_message = match way {
        Way::Declared | Way::Undeclared => FirstMessage::Spec(spec),
        Way::Started => {
            let spec = v1::UploadSpec { request_id: crate::quotas::request_id(), ..spec };
            FirstMessage::UploadId(start(clients, spec).await?.id)
        }
    };
    let messages = tokio_stream::iter(cut(first_message, content));
    Ok(clients.transfers.clone().write_file(messages).await?.into_inner().file.unwrap())
}

/// The messages of one stream, the last with `finish`.
pub(super) fn cut(first_message: FirstMessage, content: Bytes) -> Vec<v1::WriteFileRequest> {
    let mut messages = Vec::new();
    let mut offset = 0;
    while offset < content.len() || messages.is_empty() {
        let piece = content.slice(offset..content.len().min(offset + MESSAGE_BYTES));
        let message = last("", offset as i64, piece.clone());
        messages.push(v1::WriteFileRequest { first_message: None, finish: false, ..message });
        offset += piece.len().max(1);
    }
    messages[0].first_message = Some(first_message);
    messages.last_mut().expect("at least one").finish = true;
    messages
}

/// How many got in; the others were refused because of the quota that `subject` begins, and no other.
pub(super) fn got_in(outcomes: Vec<Result<v1::File, Status>>, subject: &str) -> usize {
    let mut files = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => files += 1,
            Err(status) => {
                assert_eq!(
                    refusal(&status),
                    (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()),
                    "{status:?}"
                );
                let subjects = exhausted(&status);
                assert!(
                    subjects.len() == 1 && subjects[0].starts_with(subject),
                    "{subjects:?} and not {subject}"
                );
            }
        }
    }
    files
}

//! The outbox: what other systems are told, written with what it tells.

use coffer_domain::file::File;
use coffer_domain::id::{EventId, FileId};
use diesel::sql_types::{Array, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use crate::cached::Cached;
use crate::error::Step;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Created,
    VersionCreated,
    Updated,
    Deleted,
    Undeleted,
    Purged,
    Corrupted,
}

impl Happened {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "coffer.file.created",
            Self::VersionCreated => "coffer.file.version_created",
            Self::Updated => "coffer.file.updated",
            Self::Deleted => "coffer.file.deleted",
            Self::Undeleted => "coffer.file.undeleted",
            Self::Purged => "coffer.file.purged",
            Self::Corrupted => "coffer.file.corrupted",
        }
    }
}

/// Tells what happened to a file that is there.
pub(crate) async fn tell(c: &AsyncPgConnection, happened: Happened, file: &File) -> Step<()> {
    let data = json!({
        "volume_id": file.volume,
        "file_id": file.file_id,
        "path": file.path,
        "filename": file.description.filename,
        "mime_type": file.description.mime_type,
        "size": file.content.size,
        "sha256": file.content.sha256,
        "version_number": file.content.number,
        "revision": file.revision,
        "user_id": file.owner.user,
        "app_id": file.owner.app,
    });
    insert(c, happened, &[(file.id, file.organisation.clone(), data)]).await
}

/// Tells the same of several files, with what is left to say about each.
pub(crate) async fn insert(
    c: &AsyncPgConnection,
    happened: Happened,
    files: &[(FileId, String, Value)],
) -> Step<()> {
    const INSERT: &str = "INSERT INTO outbox_events (id, type, file_id, organisation_id, data)
        SELECT e.id, $1, e.file_id, e.organisation_id, e.data
        FROM unnest($2, $3, $4, $5) AS e (id, file_id, organisation_id, data)";
    if files.is_empty() {
        return Ok(());
    }
    let insert = diesel::sql_query(INSERT)
        .bind::<Text, _>(happened.as_str())
        .bind::<Array<SqlUuid>, _>(files.iter().map(|_| EventId::new().uuid()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(files.iter().map(|(id, _, _)| id.uuid()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(
            files.iter().map(|(_, organisation, _)| organisation.as_str()).collect::<Vec<_>>(),
        )
        .bind::<Array<Jsonb>, _>(files.iter().map(|(_, _, data)| data).collect::<Vec<_>>());
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

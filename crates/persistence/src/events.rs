//! The outbox: what other systems are told, written with what it tells.

use coffer_domain::file::File;
use coffer_domain::id::{EventId, FileId};
use diesel::sql_types::{Array, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use crate::cached::{Cached, column};
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

/// Tells what happened to files that are there.
pub(crate) async fn tell<'f>(
    c: &AsyncPgConnection,
    files: impl IntoIterator<Item = (Happened, &'f File)>,
) -> Step<()> {
    let told = files.into_iter().map(|(happened, file)| {
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
        Event { happened, file: file.id, organisation: file.organisation.clone(), data }
    });
    insert(c, &told.collect::<Vec<_>>()).await
}

/// What is told of a file.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) happened: Happened,
    pub(crate) file: FileId,
    /// The file's tenant.
    pub(crate) organisation: String,
    pub(crate) data: Value,
}

/// Writes events.
pub(crate) async fn insert(c: &AsyncPgConnection, events: &[Event]) -> Step<()> {
    const INSERT: &str = "INSERT INTO outbox_events (id, type, file_id, organisation_id, data)
        SELECT * FROM unnest($1, $2, $3, $4, $5)";
    if events.is_empty() {
        return Ok(());
    }
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(events, |_| EventId::new().uuid()))
        .bind::<Array<Text>, _>(column(events, |event| event.happened.as_str()))
        .bind::<Array<SqlUuid>, _>(column(events, |event| event.file.uuid()))
        .bind::<Array<Text>, _>(column(events, |event| event.organisation.as_str()))
        .bind::<Array<Jsonb>, _>(column(events, |event| &event.data));
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

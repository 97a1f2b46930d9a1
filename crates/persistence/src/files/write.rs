//! Files and versions as finished uploads make them: one statement per table, however many they are.

use coffer_domain::driver::NativeVersion;
use coffer_domain::file::File;
use coffer_domain::id::{UserId, VersionId};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde_json::Value;
use uuid::Uuid;

use crate::cached::{Cached, column};
use crate::error::{Step, too_large};

/// Makes the rows of new files.
pub(crate) async fn insert(c: &AsyncPgConnection, files: &[&File]) -> Step<()> {
    const INSERT: &str = "INSERT INTO storage_files (id, volume_id, organisation_id, project_id, namespace, user_id, app_id,
            file_id, filename, original_name, storage_path, path_nfc, mime_type, encoding, size, checksum, provider,
            provider_path, data_classification, is_public, tags, custom_metadata, version_number, current_version_id,
            status, revision, created_by, updated_by, created_at, updated_at)
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23, $24, $25, $26, $27, $28, $29, $30)";
    if files.is_empty() {
        return Ok(());
    }
    let users = |of: fn(&File) -> Option<UserId>| column(files, |file| of(file).map(UserId::uuid));
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(files, |file| file.id.uuid()))
        .bind::<Array<SqlUuid>, _>(column(files, |file| file.volume.uuid()))
        .bind::<Array<Text>, _>(column(files, |file| file.organisation.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(files, |file| file.project.as_deref()))
        .bind::<Array<Text>, _>(column(files, |file| file.owner.namespace.as_str()))
        .bind::<Array<Nullable<SqlUuid>>, _>(users(|file| file.owner.user))
        .bind::<Array<Nullable<Text>>, _>(column(files, |file| file.owner.app.as_deref()))
        .bind::<Array<Text>, _>(column(files, |file| file.file_id.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.filename.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.original_name.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.path.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.path.nfc()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.mime_type.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(files, |file| encoding(file)))
        .bind::<Array<BigInt>, _>(sizes(files)?)
        .bind::<Array<Text>, _>(column(files, |file| checksum(file)))
        .bind::<Array<Text>, _>(column(files, |file| file.provider.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.content.key.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.classification.as_str()))
        .bind::<Array<Bool>, _>(column(files, |file| file.is_public))
        .bind::<Array<Jsonb>, _>(column(files, |file| Value::from(file.description.tags.clone())))
        .bind::<Array<Jsonb>, _>(column(files, |file| {
            Value::Object(file.description.custom_metadata.clone())
        }))
        .bind::<Array<Integer>, _>(numbers(files)?)
        .bind::<Array<SqlUuid>, _>(column(files, |file| file.content.version.uuid()))
        .bind::<Array<Text>, _>(column(files, |file| file.status.as_str()))
        .bind::<Array<BigInt>, _>(revisions(files)?)
        .bind::<Array<Nullable<SqlUuid>>, _>(users(|file| file.created_by))
        .bind::<Array<Nullable<SqlUuid>>, _>(users(|file| file.updated_by))
        .bind::<Array<Timestamptz>, _>(column(files, |file| file.created_at))
        .bind::<Array<Timestamptz>, _>(column(files, |file| file.updated_at));
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

/// Gives files that this transaction has locked their new content, and the description that comes with it.
pub(crate) async fn replace(c: &AsyncPgConnection, files: &[&File]) -> Step<()> {
    const REPLACE: &str = "UPDATE storage_files f
        SET filename = n.filename, storage_path = n.storage_path, path_nfc = n.path_nfc, mime_type = n.mime_type,
            encoding = n.encoding, size = n.size, checksum = n.checksum, provider_path = n.provider_path,
            data_classification = n.data_classification, is_public = n.is_public, tags = n.tags,
            custom_metadata = n.custom_metadata, version_number = n.version_number,
            current_version_id = n.current_version_id, status = n.status, revision = n.revision,
            updated_by = n.updated_by, updated_at = n.updated_at
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            AS n (id, filename, storage_path, path_nfc, mime_type, encoding, size, checksum, provider_path,
                data_classification, is_public, tags, custom_metadata, version_number, current_version_id, status, revision,
                updated_by, updated_at)
        WHERE f.id = n.id AND f.id = ANY ($1)";
    if files.is_empty() {
        return Ok(());
    }
    let replace = diesel::sql_query(REPLACE)
        .bind::<Array<SqlUuid>, _>(column(files, |file| file.id.uuid()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.filename.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.path.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.path.nfc()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.mime_type.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(files, |file| encoding(file)))
        .bind::<Array<BigInt>, _>(sizes(files)?)
        .bind::<Array<Text>, _>(column(files, |file| checksum(file)))
        .bind::<Array<Text>, _>(column(files, |file| file.content.key.as_str()))
        .bind::<Array<Text>, _>(column(files, |file| file.description.classification.as_str()))
        .bind::<Array<Bool>, _>(column(files, |file| file.is_public))
        .bind::<Array<Jsonb>, _>(column(files, |file| Value::from(file.description.tags.clone())))
        .bind::<Array<Jsonb>, _>(column(files, |file| {
            Value::Object(file.description.custom_metadata.clone())
        }))
        .bind::<Array<Integer>, _>(numbers(files)?)
        .bind::<Array<SqlUuid>, _>(column(files, |file| file.content.version.uuid()))
        .bind::<Array<Text>, _>(column(files, |file| file.status.as_str()))
        .bind::<Array<BigInt>, _>(revisions(files)?)
        .bind::<Array<Nullable<SqlUuid>>, _>(column(files, |file| file.updated_by.map(UserId::uuid)))
        .bind::<Array<Timestamptz>, _>(column(files, |file| file.updated_at));
    Cached(replace).execute(&mut &*c).await?;
    Ok(())
}

/// Makes room for new current versions: those before them stay as earlier ones, or go.
pub(crate) async fn retire(c: &AsyncPgConnection, kept: &[VersionId], gone: &[VersionId]) -> Step<()> {
    const KEEP: &str = "UPDATE storage_file_versions SET is_current = false WHERE id = ANY ($1)";
    const DROP: &str = "DELETE FROM storage_file_versions WHERE id = ANY ($1)";
    let run = async |statement: &'static str, versions: &[VersionId]| {
        if versions.is_empty() {
            return Ok(0);
        }
        let ids: Vec<Uuid> = versions.iter().map(|id| id.uuid()).collect();
        Cached(diesel::sql_query(statement).bind::<Array<SqlUuid>, _>(ids)).execute(&mut &*c).await
    };
    try_join!(run(KEEP, kept), run(DROP, gone))?;
    Ok(())
}

/// A file's new current version, and what the file does not tell of it.
#[derive(Clone, Copy)]
pub(crate) struct NewVersion<'a> {
    pub(crate) file: &'a File,
    pub(crate) why: &'a str,
    pub(crate) native: Option<&'a NativeVersion>,
}

/// Makes the current versions of files.
pub(crate) async fn insert_versions(c: &AsyncPgConnection, versions: &[NewVersion<'_>]) -> Step<()> {
    const INSERT: &str =
        "INSERT INTO storage_file_versions (id, file_id, version_number, object_id, filename, size, checksum,
            mime_type, provider_path, created_by, created_at, change_description, version_file_id,
            is_current)
        SELECT v.*, true FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS v";
    if versions.is_empty() {
        return Ok(());
    }
    let of = column(versions, |version| version.file);
    let insert = diesel::sql_query(INSERT)
        .bind::<Array<SqlUuid>, _>(column(&of, |file| file.content.version.uuid()))
        .bind::<Array<SqlUuid>, _>(column(&of, |file| file.id.uuid()))
        .bind::<Array<Integer>, _>(numbers(&of)?)
        .bind::<Array<SqlUuid>, _>(column(&of, |file| file.content.object.uuid()))
        .bind::<Array<Text>, _>(column(&of, |file| file.description.filename.as_str()))
        .bind::<Array<BigInt>, _>(sizes(&of)?)
        .bind::<Array<Text>, _>(column(&of, |file| checksum(file)))
        .bind::<Array<Text>, _>(column(&of, |file| file.description.mime_type.as_str()))
        .bind::<Array<Text>, _>(column(&of, |file| file.content.key.as_str()))
        .bind::<Array<Nullable<SqlUuid>>, _>(column(&of, |file| file.updated_by.map(UserId::uuid)))
        .bind::<Array<Timestamptz>, _>(column(&of, |file| file.updated_at))
        .bind::<Array<Nullable<Text>>, _>(column(versions, |version| {
            Some(version.why).filter(|why| !why.is_empty())
        }))
        .bind::<Array<Nullable<Text>>, _>(column(versions, |version| {
            version.native.map(NativeVersion::as_str)
        }));
    Cached(insert).execute(&mut &*c).await?;
    Ok(())
}

fn encoding(file: &File) -> Option<&str> {
    Some(file.description.encoding.as_str()).filter(|text| !text.is_empty())
}

fn checksum(file: &File) -> String {
    file.content.sha256.to_string()
}

fn sizes(files: &[&File]) -> Step<Vec<i64>> {
    files.iter().map(|file| i64::try_from(file.content.size).map_err(too_large)).collect()
}

fn numbers(files: &[&File]) -> Step<Vec<i32>> {
    files.iter().map(|file| i32::try_from(file.content.number).map_err(too_large)).collect()
}

fn revisions(files: &[&File]) -> Step<Vec<i64>> {
    files.iter().map(|file| i64::try_from(file.revision).map_err(too_large)).collect()
}

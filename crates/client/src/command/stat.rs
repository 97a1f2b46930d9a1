//! `coffer stat`

use super::{
    Context,
    exit::Failure,
    json,
    output::{printable, time, value_name},
};
use clap::Args;
use coffer_client::v1;
use indicatif::BinaryBytes;

#[derive(Args)]
pub(super) struct Stat {
    /// The file
    #[arg(value_name = "REF")]
    reference: String,
    /// UUID or name of the volume for a path, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
}

impl Stat {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let reference = context.reference(&self.reference, self.volume.as_deref())?;
        let file = context.client.file(reference).await?;
        if context.output.json {
            return context.output.line(json::message("File", &file));
        }
        for (name, value) in facts(&file) {
            if !matches!(value.as_str(), "" | "-" | "unspecified") {
                context.output.line(format!("{name:<16} {}", printable(&value)))?;
            }
        }
        Ok(())
    }
}

/// All of a file, field by field: a field added to the contract does not compile until it is shown or left out here.
fn facts(file: &v1::File) -> Vec<(&'static str, String)> {
    let v1::File {
        id,
        file_id,
        volume_id,
        namespace: _,
        owner_user_id,
        app_id,
        organisation_id,
        project_id,
        path,
        filename,
        original_name,
        mime_type,
        encoding,
        size_bytes,
        sha256,
        crc32c,
        version,
        classification: _,
        tags,
        custom_metadata,
        is_public,
        status: _,
        provider: _,
        encrypted,
        created_by,
        updated_by,
        create_time,
        update_time,
        delete_time,
        last_access_time,
        access_count,
        etag,
    } = file;
    let metadata = custom_metadata
        .as_ref()
        .filter(|metadata| !metadata.fields.is_empty())
        .map(|_| json::message("File", file)["custom_metadata"].to_string());
    let size = BinaryBytes(u64::try_from(*size_bytes).unwrap_or(0));
    vec![
        ("id", id.clone()),
        ("file_id", file_id.clone()),
        ("volume", volume_id.clone()),
        ("path", path.clone()),
        ("filename", filename.clone()),
        ("original name", original_name.clone()),
        ("size", format!("{size_bytes} bytes ({size})")),
        ("mime type", mime_type.clone()),
        ("encoding", encoding.clone()),
        ("version", version.to_string()),
        ("status", value_name(file.status().as_str_name(), "FILE_STATUS_")),
        ("classification", value_name(file.classification().as_str_name(), "CLASSIFICATION_")),
        ("public", is_public.to_string()),
        ("encrypted", encrypted.to_string()),
        ("tags", tags.join(", ")),
        ("metadata", metadata.unwrap_or_default()),
        ("sha256", sha256.clone()),
        ("crc32c", format!("{crc32c:08x}")),
        ("namespace", value_name(file.namespace().as_str_name(), "NAMESPACE_")),
        ("owner", owner_user_id.clone()),
        ("app", app_id.clone()),
        ("organisation", organisation_id.clone()),
        ("project", project_id.clone()),
        ("provider", value_name(file.provider().as_str_name(), "PROVIDER_")),
        ("created", time(create_time.as_ref())),
        ("created by", created_by.clone()),
        ("updated", time(update_time.as_ref())),
        ("updated by", updated_by.clone()),
        ("deleted", time(delete_time.as_ref())),
        ("last read", time(last_access_time.as_ref())),
        ("reads", access_count.to_string()),
        ("etag", etag.clone()),
    ]
}

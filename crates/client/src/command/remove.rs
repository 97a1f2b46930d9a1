//! `coffer rm`

use super::{
    Context,
    exit::{Exit, Failure},
    json,
    output::printable,
};
use clap::Args;
use coffer_client::{
    Error,
    v1::{self, ErrorReason, file_reference::By},
};
use indicatif::BinaryBytes;
use serde_json::json;

#[derive(Args)]
pub(super) struct Remove {
    /// The files. With --purge those named by id may be in the trash already
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    /// Remove them for good, not to the trash
    #[arg(long)]
    purge: bool,
    /// UUID or name of the volume for paths, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
}

impl Remove {
    /// Goes on after a failure; the first one gives the exit code.
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut first: Option<Exit> = None;
        for text in &self.references {
            let removed = match context.reference(text, self.volume.as_deref()) {
                Ok(file) if self.purge => purge(context, text, file).await,
                Ok(file) => delete(context, text, file).await,
                Err(failure) => Err(failure),
            };
            match removed {
                Ok(()) => {}
                Err(failure @ Failure::Print(_)) => return Err(failure),
                Err(failure) => {
                    if self.references.len() > 1 {
                        context.output.note(&format!("{text}:"));
                    }
                    context.output.failure(&failure);
                    first.get_or_insert(failure.exit());
                }
            }
        }
        first.map_or(Ok(()), |exit| Err(Failure::Reported(exit)))
    }
}

async fn delete(context: &Context, text: &str, file: v1::FileReference) -> Result<(), Failure> {
    let request = v1::DeleteFileRequest { file: Some(file), ..Default::default() };
    let file = context.client.delete_file(request).await?;
    if context.output.json {
        return context.output.line(json::message("File", &file));
    }
    context.output.line(format!("{}  moved to the trash as {}", printable(text), file.id))
}

async fn purge(context: &Context, text: &str, file: v1::FileReference) -> Result<(), Failure> {
    let freed_bytes = match file.by {
        // A path names live files only.
        Some(By::Path(_)) | None => delete_and_purge(context, file).await?,
        Some(By::Id(_) | By::FileId(_)) => match purge_trashed(context, file.clone()).await {
            Err(Error::Refused(refusal)) if refusal.reason == Some(ErrorReason::FileStatus) => {
                delete_and_purge(context, file).await?
            }
            purged => purged?,
        },
    };
    if context.output.json {
        return context.output.line(json!({ "reference": text, "freed_bytes": freed_bytes }));
    }
    let freed = BinaryBytes(u64::try_from(freed_bytes).unwrap_or(0));
    context.output.line(format!("{}  removed for good, {freed} freed", printable(text)))
}

async fn delete_and_purge(context: &Context, file: v1::FileReference) -> Result<i64, Error> {
    let request = v1::DeleteFileRequest { file: Some(file), ..Default::default() };
    let deleted = context.client.delete_file(request).await?;
    purge_trashed(context, v1::FileReference { by: Some(By::Id(deleted.id)) }).await
}

async fn purge_trashed(context: &Context, file: v1::FileReference) -> Result<i64, Error> {
    context.client.purge_file(v1::PurgeFileRequest { file: Some(file), ..Default::default() }).await
}

//! `coffer uploads`

use super::{
    Context,
    exit::Failure,
    json,
    output::{printable, time, value_name},
};
use clap::{Args, Subcommand};
use coffer_client::v1::{self, UploadState};
use futures_util::TryStreamExt as _;
use indicatif::BinaryBytes;
use std::pin::pin;

/// Uploads asked for at a time.
const PAGE_SIZE: i32 = 500;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Uploads {
    /// Those that have ended, too; they are kept for 24 hours
    #[arg(long)]
    all: bool,
    /// Only your own; admins and operators see all of their organisation
    #[arg(long)]
    own: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// End an unfinished upload: its bytes and quota are given back
    Cancel {
        /// The upload
        id: String,
    },
}

impl Uploads {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.action {
            Some(Action::Cancel { id }) => {
                let request = v1::CancelUploadRequest { upload_id: id, ..Default::default() };
                show(context, &context.client.cancel_upload(request).await?)
            }
            None if self.all => list(context, UploadState::Unspecified, self.own).await,
            None => {
                list(context, UploadState::Open, self.own).await?;
                list(context, UploadState::Finishing, self.own).await
            }
        }
    }
}

async fn list(context: &Context, state: UploadState, own_only: bool) -> Result<(), Failure> {
    let request =
        v1::ListUploadsRequest { page_size: PAGE_SIZE, state: state.into(), own_only, ..Default::default() };
    let mut pages = pin!(context.client.uploads(request));
    while let Some(uploads) = pages.try_next().await? {
        uploads.iter().try_for_each(|upload| show(context, upload))?;
    }
    Ok(())
}

fn show(context: &Context, upload: &v1::Upload) -> Result<(), Failure> {
    if context.output.json {
        return context.output.line(json::message("Upload", upload));
    }
    context.output.line(line(upload))
}

fn line(upload: &v1::Upload) -> String {
    let bytes = |value: i64| BinaryBytes(u64::try_from(value).unwrap_or(0)).to_string();
    let state = value_name(upload.state().as_str_name(), "UPLOAD_STATE_");
    let of = upload.size_bytes.map_or_else(|| "?".to_owned(), bytes);
    let progress = format!("{} / {of}", bytes(upload.persisted_size));
    // Only an open upload expires.
    let expires = match upload.state() {
        UploadState::Open => time(upload.expire_time.as_ref()),
        _ => "-".to_owned(),
    };
    let path = if upload.path.is_empty() { &upload.filename } else { &upload.path };
    format!("{}  {state:<9}  {progress:>25}  expires {expires:<20}  {}", upload.id, printable(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut upload = v1::Upload {
            id: "u".to_owned(),
            state: UploadState::Open.into(),
            filename: "a.bin".to_owned(),
            persisted_size: 1024,
            expire_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        };
        let open = line(&upload);
        assert!(open.starts_with("u  open ") && open.contains(" 1.00 KiB / ?  "), "{open}");
        assert!(open.ends_with("expires 2023-11-14T22:13:20Z  a.bin"), "{open}");
        upload.state = UploadState::Committed.into();
        upload.size_bytes = Some(1024);
        upload.path = "x/b.bin".to_owned();
        let committed = line(&upload);
        assert!(committed.contains(" 1.00 KiB / 1.00 KiB  expires - "), "{committed}");
        assert!(committed.ends_with("  x/b.bin"), "{committed}");
    }
}

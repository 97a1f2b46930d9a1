//! `coffer ls`

use super::{
    Context,
    exit::Failure,
    json,
    output::{printable, time, value_name},
};
use clap::Args;
use coffer_client::v1;
use futures_util::TryStreamExt as _;
use std::pin::pin;

/// Files asked for at a time.
const PAGE_SIZE: i32 = 500;

#[derive(Args)]
pub(super) struct List {
    /// Only paths that begin with this text
    prefix: Option<String>,
    /// UUID or name of a volume, instead of all
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// Files in the trash instead of live ones
    #[arg(long)]
    deleted: bool,
    /// Id, version, size in bytes, last change and classification before the path
    #[arg(long, short)]
    long: bool,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { prefix, volume, deleted, long } = self;
        let prefix = prefix.unwrap_or_default();
        let request = v1::ListFilesRequest {
            page_size: PAGE_SIZE,
            volume: volume.unwrap_or_default(),
            path_prefix: prefix.strip_prefix('/').unwrap_or(&prefix).to_owned(),
            deleted,
            ..Default::default()
        };
        let mut pages = pin!(context.client.files(request));
        while let Some(files) = pages.try_next().await? {
            for file in &files {
                if context.output.json {
                    context.output.line(json::message("File", file))?;
                } else if long {
                    context.output.line(long_line(file))?;
                } else {
                    context.output.line(printable(&file.path))?;
                }
            }
        }
        Ok(())
    }
}

fn long_line(file: &v1::File) -> String {
    let classification = value_name(file.classification().as_str_name(), "CLASSIFICATION_");
    let changed = time(file.update_time.as_ref());
    let v1::File { id, version, size_bytes, path, .. } = file;
    let path = printable(path);
    format!("{id}  v{version:<3} {size_bytes:>13}  {changed:<20}  {classification:<12}  {path}")
}

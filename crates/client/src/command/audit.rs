//! `coffer audit`

use super::{
    Context,
    exit::Failure,
    json,
    output::{printable, time, value_name},
};
use clap::Args;
use coffer_client::v1::{self, file_reference::By};
use futures_util::TryStreamExt as _;
use std::pin::pin;

/// Most operations asked for at a time.
const MAX_PAGE_SIZE: u32 = 500;

#[derive(Args)]
pub(super) struct Audit {
    /// Only operations on this file. By a UUID it need not exist any more
    #[arg(long, value_name = "REF")]
    file: Option<String>,
    /// UUID or name of the volume for a path, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// At most this many, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let file_id = match &self.file {
            Some(text) => self.file_id(context, text).await?,
            None => String::new(),
        };
        let page_size = i32::try_from(self.limit.min(MAX_PAGE_SIZE)).unwrap_or(i32::MAX);
        let request = v1::ListOperationsRequest { page_size, file_id, ..Default::default() };
        let mut pages = pin!(context.client.operations(request));
        let mut left = self.limit;
        while left > 0
            && let Some(operations) = pages.try_next().await?
        {
            for operation in operations.iter().take(left as usize) {
                if context.output.json {
                    context.output.line(json::message("Operation", operation))?;
                } else {
                    context.output.line(line(operation))?;
                }
                left -= 1;
            }
        }
        Ok(())
    }

    /// The trail knows files by their id alone.
    async fn file_id(&self, context: &Context, text: &str) -> Result<String, Failure> {
        let reference = context.reference(text, self.volume.as_deref())?;
        match reference.by {
            Some(By::Id(id)) => Ok(id),
            _ => Ok(context.client.file(reference).await?.id),
        }
    }
}

fn line(operation: &v1::Operation) -> String {
    let kind = value_name(operation.kind().as_str_name(), "OPERATION_KIND_");
    let status = value_name(operation.status().as_str_name(), "OPERATION_STATUS_");
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text).into_owned() };
    let mut text = format!(
        "{:<20}  {kind:<15} {status:<7}  user {}  file {}  {} bytes",
        time(operation.create_time.as_ref()),
        or_dash(&operation.user_id),
        or_dash(&operation.file_id),
        operation.bytes_transferred,
    );
    if !operation.error_code.is_empty() {
        text.push_str(&format!(
            "  {}: {}",
            printable(&operation.error_code),
            printable(&operation.error_message)
        ));
    }
    text
}

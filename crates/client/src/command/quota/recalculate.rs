//! `coffer quota recalculate`

use super::{Context, Failure, name};
use crate::command::{json, output::printable};
use clap::Args;
use coffer_client::v1;

#[derive(Args)]
pub(super) struct Recalculate {
    /// Change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Recalculate {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let dry_run = self.dry_run;
        let request = v1::RecalculateQuotasRequest { dry_run, ..Default::default() };
        let drifts = context.client.recalculate_quotas(request).await?;
        for drift in &drifts {
            if context.output.json {
                context.output.line(json::message("QuotaDrift", drift))?;
            } else {
                context.output.line(line(drift))?;
            }
        }
        context.output.note(&match (drifts.len(), dry_run) {
            (0, _) => "all quotas have counted right".to_owned(),
            (count, true) => format!("{count} quotas have counted wrong"),
            (count, false) => format!("{count} quotas had counted wrong and were set right"),
        });
        Ok(())
    }
}

fn line(drift: &v1::QuotaDrift) -> String {
    let v1::QuotaDrift {
        key,
        counted_bytes,
        actual_bytes,
        counted_files,
        actual_files,
        counted_reserved_bytes,
        actual_reserved_bytes,
        counted_reserved_files,
        actual_reserved_files,
    } = drift;
    let counters = [
        ("bytes", counted_bytes, actual_bytes),
        ("files", counted_files, actual_files),
        ("reserved bytes", counted_reserved_bytes, actual_reserved_bytes),
        ("reserved files", counted_reserved_files, actual_reserved_files),
    ];
    let differences: Vec<String> = counters
        .iter()
        .filter(|(_, counted, actual)| counted != actual)
        .map(|(what, counted, actual)| format!("{counted} {what} counted, {actual} found"))
        .collect();
    format!("{}: {}", printable(&name(key.as_ref())), differences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_client::v1::quota_key::Of;

    #[test]
    fn lines_tell_what_differs() {
        let drift = v1::QuotaDrift {
            key: Some(v1::QuotaKey { of: Some(Of::Volume("main".to_owned())) }),
            counted_bytes: 5,
            actual_bytes: 7,
            counted_files: 1,
            actual_files: 1,
            counted_reserved_bytes: 0,
            actual_reserved_bytes: -1,
            ..Default::default()
        };
        let expected = "volume main: 5 bytes counted, 7 found; 0 reserved bytes counted, -1 found";
        assert_eq!(line(&drift), expected);
    }
}

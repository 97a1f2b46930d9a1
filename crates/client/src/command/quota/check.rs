//! `coffer quota check`

use super::{Context, Failure, bytes, name};
use crate::command::{exit::Exit, json, output::printable, size};
use clap::Args;
use coffer_client::v1::{self, exhausted_quota::Dimension};

/// Ends with exit code 6 if it does not fit.
#[derive(Args)]
pub(super) struct Check {
    /// Size of the upload, for example 10GiB
    #[arg(value_parser = size::bytes)]
    size: i64,
    /// UUID or name of the volume, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// Project that would be charged as well
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = v1::CheckQuotaRequest {
            volume: self.volume.unwrap_or_default(),
            size_bytes: self.size,
            project_id: self.project.unwrap_or_default(),
        };
        let answer = context.client.check_quota(request).await?;
        if context.output.json {
            context.output.line(json::message("CheckQuotaResponse", &answer))?;
        } else if answer.fits {
            context.output.line("it fits")?;
        } else {
            answer.exhausted.iter().try_for_each(|exhausted| context.output.line(line(exhausted)))?;
        }
        if answer.fits { Ok(()) } else { Err(Failure::Reported(Exit::Exhausted)) }
    }
}

fn line(exhausted: &v1::ExhaustedQuota) -> String {
    let v1::ExhaustedQuota { key, dimension: _, limit, used, reserved, requested } = exhausted;
    let name = name(key.as_ref());
    let name = printable(&name);
    match exhausted.dimension() {
        Dimension::FileBytes => {
            format!("{name}: files may have {}, not {}", bytes(*limit), bytes(*requested))
        }
        Dimension::Files => {
            format!(
                "{name}: {used} files and {reserved} being uploaded of {limit}, no room for {requested} more"
            )
        }
        Dimension::Bytes | Dimension::Unspecified => format!(
            "{name}: {} used and {} being uploaded of {}, no room for {} more",
            bytes(*used),
            bytes(*reserved),
            bytes(*limit),
            bytes(*requested)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_client::v1::quota_key::Of;

    #[test]
    fn lines() {
        let mut exhausted = v1::ExhaustedQuota {
            key: Some(v1::QuotaKey { of: Some(Of::UserId("ada".to_owned())) }),
            dimension: Dimension::Bytes.into(),
            limit: 10,
            used: 8,
            reserved: 1,
            requested: 5,
        };
        let bytes = "user ada: 8 B used and 1 B being uploaded of 10 B, no room for 5 B more";
        assert_eq!(line(&exhausted), bytes);
        exhausted.dimension = Dimension::Files.into();
        assert_eq!(line(&exhausted), "user ada: 8 files and 1 being uploaded of 10, no room for 5 more");
        exhausted.dimension = Dimension::FileBytes.into();
        assert_eq!(line(&exhausted), "user ada: files may have 10 B, not 5 B");
    }
}

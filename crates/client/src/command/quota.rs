//! `coffer quota`

mod check;
mod list;
mod recalculate;
mod set;

use super::{Context, exit::Failure, json, output::printable};
use clap::{Args, Subcommand};
use coffer_client::{
    Code, Error,
    v1::{self, AppOnVolume, UserOnVolume, quota_key::Of},
};
use indicatif::BinaryBytes;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Quota {
    /// UUID or name of the volume to look at, instead of the service's default one
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Set limits (operators and admins)
    Set(set::Set),
    /// List quotas that were used or limited
    List(list::List),
    /// Tell whether an upload of this size would be let in now
    Check(check::Check),
    /// Count again what quotas have counted, and set right what differs (operators)
    Recalculate(recalculate::Recalculate),
}

impl Quota {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.action {
            Some(Action::Set(action)) => action.run(context).await,
            Some(Action::List(action)) => action.run(context).await,
            Some(Action::Check(action)) => action.run(context).await,
            Some(Action::Recalculate(action)) => action.run(context).await,
            None => self.show_own(context).await,
        }
    }

    /// Asks with empty names, which mean the caller's own. Whether the caller has an organisation only the service knows.
    async fn show_own(self, context: &Context) -> Result<(), Failure> {
        let volume = self.volume.unwrap_or_default();
        let own = context.client.quota(Of::UserId(String::new())).await?;
        show(context, "user", &own)?;
        let on_volume = UserOnVolume { user_id: String::new(), volume: volume.clone() };
        let on_volume = context.client.quota(Of::UserOnVolume(on_volume)).await?;
        let name = if volume.is_empty() {
            "user on the default volume".to_owned()
        } else {
            format!("user on {volume}")
        };
        show(context, &name, &on_volume)?;
        match context.client.quota(Of::OrganisationId(String::new())).await {
            Ok(organisation) => show(context, "organisation", &organisation),
            Err(Error::Refused(refusal)) if is_without_organisation(refusal.code) => {
                context.output.note(&format!("no quota of an organisation: {}", refusal.message));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// How the service may say that the caller has no organisation. Anything else is a failure.
fn is_without_organisation(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied)
}

fn show(context: &Context, name: &str, quota: &v1::Quota) -> Result<(), Failure> {
    if context.output.json {
        return context.output.line(json::message("Quota", quota));
    }
    context.output.line(line(&printable(name), quota))
}

/// A quota as people call it.
fn name(key: Option<&v1::QuotaKey>) -> String {
    match key.and_then(|key| key.of.as_ref()) {
        Some(Of::Volume(volume)) => format!("volume {volume}"),
        Some(Of::UserOnVolume(UserOnVolume { user_id, volume })) => format!("user {user_id} on {volume}"),
        Some(Of::AppOnVolume(AppOnVolume { app_id, volume })) => format!("app {app_id} on {volume}"),
        Some(Of::UserId(id)) => format!("user {id}"),
        Some(Of::OrganisationId(id)) => format!("organisation {id}"),
        Some(Of::ProjectId(id)) => format!("project {id}"),
        None => "-".to_owned(),
    }
}

fn bytes(value: i64) -> String {
    BinaryBytes(u64::try_from(value).unwrap_or(0)).to_string()
}

fn line(name: &str, quota: &v1::Quota) -> String {
    let mut text = format!("{name:<28} {} used", bytes(quota.used_bytes));
    if let Some(limit) = quota.limit_bytes {
        text.push_str(&format!(" of {}", bytes(limit)));
        if limit > 0 {
            let percent = quota.used_bytes as f64 / limit as f64 * 100.0;
            text.push_str(&format!(" ({percent:.1} %)"));
        }
    }
    if quota.reserved_bytes > 0 {
        text.push_str(&format!(", {} being uploaded", bytes(quota.reserved_bytes)));
    }
    // Quotas of volumes count bytes alone.
    if !is_on_volume(quota) {
        text.push_str(&format!(", {} files", quota.used_files));
    }
    if let Some(limit) = quota.limit_files {
        text.push_str(&format!(" of {limit}"));
    }
    if let Some(largest) = quota.max_file_bytes {
        text.push_str(&format!(", each up to {}", bytes(largest)));
    }
    text
}

fn is_on_volume(quota: &v1::Quota) -> bool {
    let of = quota.key.as_ref().and_then(|key| key.of.as_ref());
    matches!(of, Some(Of::Volume(_) | Of::UserOnVolume(_) | Of::AppOnVolume(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut quota = v1::Quota { used_bytes: 512, used_files: 3, ..Default::default() };
        assert_eq!(line("user", &quota), format!("{:<28} 512 B used, 3 files", "user"));
        let on_volume = v1::QuotaKey { of: Some(Of::UserOnVolume(UserOnVolume::default())) };
        let on_volume = v1::Quota { key: Some(on_volume), used_bytes: 512, ..Default::default() };
        assert_eq!(line("user", &on_volume), format!("{:<28} 512 B used", "user"));
        quota.limit_bytes = Some(1024);
        quota.reserved_bytes = 2048;
        quota.limit_files = Some(10);
        quota.max_file_bytes = Some(100);
        let expected =
            "512 B used of 1.00 KiB (50.0 %), 2.00 KiB being uploaded, 3 files of 10, each up to 100 B";
        assert_eq!(line("user", &quota), format!("{:<28} {expected}", "user"));
        quota.limit_bytes = Some(0);
        assert!(line("user", &quota).contains("512 B used of 0 B, "));
    }
}

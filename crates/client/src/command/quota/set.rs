//! `coffer quota set`

use super::{Context, Failure, name, show};
use crate::command::size::{Limit, file_count};
use clap::{ArgGroup, Args};
use coffer_client::v1::{self, AppOnVolume, UserOnVolume, quota_key::Of};

/// The quota is that of a user, an app on a volume, an organisation, a project or a volume; --user and --volume together mean the user
/// on that volume.
#[derive(Args)]
#[command(group = ArgGroup::new("whose").args(["user", "app", "organisation", "project", "volume"]).required(true).multiple(true))]
#[command(group = ArgGroup::new("who").args(["user", "app", "organisation", "project"]).multiple(false))]
#[command(group = ArgGroup::new("limits").args(["bytes", "files", "max_file"]).required(true).multiple(true))]
pub(super) struct Set {
    /// UUID of a user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// An app; needs --volume
    #[arg(long, value_name = "APP", requires = "volume")]
    app: Option<String>,
    /// An organisation
    #[arg(long, value_name = "ORGANISATION", conflicts_with = "volume")]
    organisation: Option<String>,
    /// A project
    #[arg(long, value_name = "PROJECT", conflicts_with = "volume")]
    project: Option<String>,
    /// UUID or name of a volume
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
    /// Most bytes in all, for example 10GiB, or none; what is not given stays as it is
    #[arg(long, value_name = "SIZE")]
    bytes: Option<Limit>,
    /// Most files, or none; not for quotas of a volume
    #[arg(long, value_name = "COUNT", value_parser = file_count)]
    files: Option<Limit>,
    /// Most bytes of one file, or none; not for quotas of a volume
    #[arg(long, value_name = "SIZE")]
    max_file: Option<Limit>,
}

impl Set {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let of = self.key()?;
        let before = context.client.quota(of.clone()).await?;
        let quota = context.client.set_quota(self.request(of, &before)).await?;
        show(context, &name(quota.key.as_ref()), &quota)
    }

    fn key(&self) -> Result<Of, Failure> {
        let Self { user, app, organisation, project, volume, .. } = self;
        match (user.clone(), app.clone(), organisation.clone(), project.clone(), volume.clone()) {
            (Some(user_id), None, None, None, Some(volume)) => {
                Ok(Of::UserOnVolume(UserOnVolume { user_id, volume }))
            }
            (None, Some(app_id), None, None, Some(volume)) => {
                Ok(Of::AppOnVolume(AppOnVolume { app_id, volume }))
            }
            (Some(user), None, None, None, None) => Ok(Of::UserId(user)),
            (None, None, Some(organisation), None, None) => Ok(Of::OrganisationId(organisation)),
            (None, None, None, Some(project), None) => Ok(Of::ProjectId(project)),
            (None, None, None, None, Some(volume)) => Ok(Of::Volume(volume)),
            // The groups above let nothing else through.
            _ => Err(Failure::Usage("name one quota".to_owned())),
        }
    }

    /// All limits as they shall be: the service takes one that is left out as none.
    fn request(&self, of: Of, before: &v1::Quota) -> v1::SetQuotaRequest {
        let limit = |given: Option<Limit>, before| given.map_or(before, |Limit(limit)| limit);
        v1::SetQuotaRequest {
            key: Some(v1::QuotaKey { of: Some(of) }),
            limit_bytes: limit(self.bytes, before.limit_bytes),
            limit_files: limit(self.files, before.limit_files),
            max_file_bytes: limit(self.max_file, before.max_file_bytes),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn parse(line: &[&str]) -> Result<Set, clap::Error> {
        Line::try_parse_from(std::iter::once("set").chain(line.iter().copied())).map(|line| line.set)
    }

    #[test]
    fn the_quotas_that_can_be_named() {
        let of = |line: &[&str]| parse(&[line, &["--bytes=1"]].concat()).unwrap().key().unwrap();
        let text = str::to_owned;
        assert_eq!(of(&["--user=u"]), Of::UserId(text("u")));
        assert_eq!(of(&["--organisation=o"]), Of::OrganisationId(text("o")));
        assert_eq!(of(&["--project=p"]), Of::ProjectId(text("p")));
        assert_eq!(of(&["--volume=v"]), Of::Volume(text("v")));
        let user = UserOnVolume { user_id: text("u"), volume: text("v") };
        assert_eq!(of(&["--user=u", "--volume=v"]), Of::UserOnVolume(user));
        let app = AppOnVolume { app_id: text("a"), volume: text("v") };
        assert_eq!(of(&["--app=a", "--volume=v"]), Of::AppOnVolume(app));
        let wrong = [
            &["--bytes=1"][..],
            &["--user=u"],
            &["--app=a", "--bytes=1"],
            &["--user=u", "--project=p", "--bytes=1"],
            &["--volume=v", "--organisation=o", "--bytes=1"],
            &["--user=u", "--bytes=much"],
        ];
        for line in wrong {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn limits_that_are_not_given_stay() {
        let before = v1::Quota {
            limit_bytes: Some(5),
            limit_files: Some(6),
            max_file_bytes: Some(7),
            ..Default::default()
        };
        let request = |line: &[&str]| parse(line).unwrap().request(Of::UserId("u".to_owned()), &before);
        let set = request(&["--user=u", "--bytes=1KiB", "--files=none"]);
        assert_eq!((set.limit_bytes, set.limit_files, set.max_file_bytes), (Some(1024), None, Some(7)));
        let set = request(&["--user=u", "--max-file=2"]);
        assert_eq!((set.limit_bytes, set.limit_files, set.max_file_bytes), (Some(5), Some(6), Some(2)));
    }
}

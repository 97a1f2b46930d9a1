//! `coffer quota list`

use super::{Context, Failure, name, show};
use clap::{Args, ValueEnum};
use coffer_client::v1::{self, QuotaKind};
use futures_util::TryStreamExt as _;
use std::pin::pin;

/// Quotas asked for at a time.
const PAGE_SIZE: i32 = 500;

#[derive(Args)]
pub(super) struct List {
    /// Only those of this kind
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// Only those of this volume: UUID or name
    #[arg(long, value_name = "VOLUME")]
    volume: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Volume,
    UserOnVolume,
    AppOnVolume,
    User,
    Organisation,
    Project,
}

impl From<Kind> for QuotaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Volume => Self::Volume,
            Kind::UserOnVolume => Self::UserOnVolume,
            Kind::AppOnVolume => Self::AppOnVolume,
            Kind::User => Self::User,
            Kind::Organisation => Self::Organisation,
            Kind::Project => Self::Project,
        }
    }
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = v1::ListQuotasRequest {
            page_size: PAGE_SIZE,
            kind: self.kind.map_or(QuotaKind::Unspecified, QuotaKind::from).into(),
            volume: self.volume.unwrap_or_default(),
            ..Default::default()
        };
        let mut pages = pin!(context.client.quotas(request));
        while let Some(quotas) = pages.try_next().await? {
            for quota in &quotas {
                show(context, &name(quota.key.as_ref()), quota)?;
            }
        }
        Ok(())
    }
}

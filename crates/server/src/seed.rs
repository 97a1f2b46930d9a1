//! `cofferd seed`: something to try things on.
//!
//! Everything is made through the use cases, so it is audited and charged as if callers had made it. What is there already
//! stays as it is, so that seeding twice is seeding once.

mod content;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use coffer_api::auth::DEVELOPMENT_ISSUER;
use coffer_domain::caller::{Caller, Principal, Roles, User};
use coffer_domain::error::Error;
use coffer_domain::file::{File, FileRef, Filter};
use coffer_domain::id::{LocalPathId, NodeId, UserId};
use coffer_domain::page::PageRequest;
use coffer_domain::service::{Coffer, UploadSpec};
use coffer_domain::time::now;
use coffer_domain::volume::{Backend, Settings, Versioning, VolumeRef};
use coffer_persistence::migrate;
use uuid::Uuid;

use crate::assemble::assemble;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::metadata::{self, ForTool};
use crate::output::say;
use content::{ORGANISATION, PERSONS, Person, Sample};

/// The volume that keeps earlier versions.
const VOLUME: &str = "projects";

/// What it may hold.
const VOLUME_QUOTA_BYTES: u64 = 256 * 1024 * 1024;

/// Longer than seeding takes: it does not renew its lease.
const LEASE: Duration = Duration::from_secs(600);

/// Why it does what it does, for the audit trail.
const PURPOSE: &str = "sample content";

/// How long what it began may take to end.
const GRACE: Duration = Duration::from_secs(30);

/// Makes what is missing of the sample content, and says what there is.
pub(crate) async fn seed(config: &Config) -> anyhow::Result<()> {
    let tool = ForTool::open(config).await?;
    let outcome = fill(config, &tool).await;
    tool.close().await?;
    outcome
}

async fn fill(config: &Config, tool: &ForTool) -> anyhow::Result<()> {
    let database = &tool.metadata.database;
    if config.is_embedded() && !tool.is_served {
        migrate::up(database).await.context("cannot migrate the database")?;
    } else {
        metadata::must_be_current(database).await?;
    }
    // A node of its own: a start of the server's node would take its place.
    let node = NodeId::from(Uuid::new_v5(&tool.data_dir.node_id()?.uuid(), b"seed"));
    let coffer = assemble(config, &tool.data_dir, database, node, LEASE).await?.coffer;
    let seed = Seed { coffer: &coffer, data_dir: &tool.data_dir };
    let outcome = seed.all(&config.default_volume).await;
    coffer.drain(GRACE).await;
    coffer.tend().await?;
    outcome
}

struct Seed<'a> {
    coffer: &'a Coffer,
    data_dir: &'a DataDir,
}

impl Seed<'_> {
    async fn all(&self, default_volume: &str) -> anyhow::Result<()> {
        say(format_args!("volume {default_volume}: for requests that name none"));
        self.volume().await.with_context(|| format!("volume {VOLUME}"))?;
        for person in PERSONS {
            let caller = caller(person);
            let id = caller.principal.as_ref().and_then(Principal::user_id);
            say(format_args!(
                "user {} of {ORGANISATION}, {}: cofferd token --user {} --org {ORGANISATION}{}",
                person.name,
                id.map(|id| id.to_string()).unwrap_or_default(),
                person.name,
                if person.is_admin { " --role admin --role auditor" } else { "" },
            ));
            let known = self.files_of(&caller).await?;
            for sample in person.files {
                self.file(&caller, sample, known.get(sample.name))
                    .await
                    .with_context(|| format!("file {}", sample.name))?;
            }
        }
        Ok(())
    }

    /// A second volume, which keeps versions and has a limit.
    async fn volume(&self) -> anyhow::Result<()> {
        let operator = operator("seed", PURPOSE);
        let volume = VolumeRef::Name(VOLUME.to_owned());
        match self.coffer.get_volume(&operator, &volume).await {
            Ok(_) => {
                say(format_args!("volume {VOLUME}: there already"));
                return Ok(());
            }
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let local_path_id = self.local_path(&operator).await?;
        let mut settings = Settings::new(VOLUME, Backend::Local { local_path_id });
        settings.versioning = Versioning::Source;
        settings.quota_limit = Some(VOLUME_QUOTA_BYTES);
        settings.max_file_bytes = Some(VOLUME_QUOTA_BYTES / 4);
        settings.trash_retention_seconds = Some(30 * 24 * 60 * 60);
        self.coffer.create_volume(&operator, settings, None).await?;
        say(format_args!(
            "volume {VOLUME}: made, keeps versions, {} MiB at most, empties its trash after 30 days",
            VOLUME_QUOTA_BYTES / 1024 / 1024
        ));
        Ok(())
    }

    /// The approved directory of that volume: an earlier run may have come no further.
    async fn local_path(&self, operator: &Caller) -> anyhow::Result<LocalPathId> {
        let path = self.data_dir.volume(VOLUME)?;
        let path = path.to_str().context("the data directory's path is not UTF-8")?;
        let made = self
            .coffer
            .create_local_path(operator, path.to_owned(), "sample projects".to_owned(), None)
            .await;
        match made {
            Ok(made) => Ok(made.id),
            Err(Error::AlreadyExists(_)) => self.known_path(operator, path).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn known_path(&self, operator: &Caller, path: &str) -> anyhow::Result<LocalPathId> {
        let mut page = PageRequest::new(0, 0, None)?;
        loop {
            let found = self.coffer.list_local_paths(operator, &page).await?;
            if let Some(known) = found.items.iter().find(|known| known.path == path) {
                return Ok(known.id);
            }
            page.after = Some(found.next.context("the path is approved, and not listed")?);
        }
    }

    /// Everything the caller has, in the trash too, by its name in the organisation. Asked for as lists, so that the audit trail
    /// does not begin with failures.
    async fn files_of(&self, caller: &Caller) -> anyhow::Result<HashMap<String, File>> {
        let mut known = HashMap::new();
        for is_deleted in [false, true] {
            let filter = Filter { is_deleted, ..Filter::default() };
            let mut page = PageRequest::new(i32::MAX, 0, None)?;
            loop {
                let found = self.coffer.list_files(caller, &filter, &page).await?;
                known.extend(found.items.into_iter().map(|file| (file.file_id.clone(), file)));
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(known)
    }

    async fn file(&self, caller: &Caller, sample: &Sample, known: Option<&File>) -> anyhow::Result<()> {
        if let Some(file) = known {
            say(format_args!("  {}: there already, version {}", file.path, file.content.number));
            return Ok(());
        }
        let file = self.make(caller, sample).await;
        match file {
            Ok(file) => say(format_args!(
                "  {}: {}, {} bytes, {}, version {}{}{}",
                file.path,
                file.description.mime_type,
                file.content.size,
                file.description.classification.as_str(),
                file.content.number,
                if file.is_public { ", public" } else { "" },
                if sample.is_deleted { ", in the trash" } else { "" },
            )),
            // Somebody else's file has its place, or a purged one had its name.
            Err(Error::AlreadyExists(taken)) => {
                say(format_args!("  {}: left out, since {taken}", sample.path));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Uploads a file with its versions, and deletes it if that is meant.
    async fn make(&self, caller: &Caller, sample: &Sample) -> Result<File, Error> {
        let first = UploadSpec {
            volume: sample.is_versioned().then(|| VolumeRef::Name(VOLUME.to_owned())),
            path: Some(sample.path.to_owned()),
            file_id: Some(sample.name.to_owned()),
            changes: sample.description(),
            create_only: true,
            ..UploadSpec::default()
        };
        let mut made = self.upload(caller, first, sample.content).await?;
        for content in sample.revisions {
            let next = UploadSpec {
                file: Some(FileRef::Id(made.id)),
                change_description: "revised".to_owned(),
                ..UploadSpec::default()
            };
            made = self.upload(caller, next, content).await?;
        }
        if sample.is_deleted {
            made = self.coffer.delete_file(caller, &FileRef::Id(made.id), None, None).await?;
        }
        Ok(made)
    }

    async fn upload(&self, caller: &Caller, spec: UploadSpec, content: &'static [u8]) -> Result<File, Error> {
        let spec = UploadSpec { size: Some(content.len() as u64), ..spec };
        let mut upload = self.coffer.begin_upload(caller.clone(), spec).await?;
        match upload.write(0, bytes::Bytes::from_static(content), None).await {
            Ok(()) => upload.finish(None).await,
            Err(error) => Err(upload.refuse(error).await),
        }
    }
}

/// A person as a development token would name it.
fn caller(person: &Person) -> Caller {
    let user = User {
        id: UserId::of_subject(DEVELOPMENT_ISSUER, person.name),
        issuer: DEVELOPMENT_ISSUER.to_owned(),
        subject: person.name.to_owned(),
    };
    let principal = Principal {
        user: Some(user),
        app: None,
        organisation: ORGANISATION.to_owned(),
        projects: Vec::new(),
        roles: Roles { is_admin: person.is_admin, is_auditor: person.is_admin, ..Roles::default() },
        is_delegated: false,
        expires_at: now() + TimeDelta::hours(1),
    };
    with(principal, "seed", PURPOSE)
}

/// The service's own app as an operator, for a verb.
pub(crate) fn operator(verb: &str, purpose: &str) -> Caller {
    let principal = Principal {
        user: None,
        app: Some("coffer".to_owned()),
        organisation: String::new(),
        projects: Vec::new(),
        roles: Roles { is_operator: true, ..Roles::default() },
        is_delegated: false,
        expires_at: now() + TimeDelta::hours(1),
    };
    with(principal, verb, purpose)
}

fn with(principal: Principal, verb: &str, purpose: &str) -> Caller {
    Caller {
        principal: Some(principal),
        purpose: Some(purpose.to_owned()),
        user_agent: Some(format!("cofferd-{verb}/{}", env!("CARGO_PKG_VERSION"))),
        ..Caller::service()
    }
}

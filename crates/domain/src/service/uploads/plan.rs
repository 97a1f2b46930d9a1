//! Everything about an upload that can be decided before its first byte.

use super::{UploadSpec, writing::BATCH_BYTES};
use crate::{
    Error, Result,
    caller::{Caller, FileAccess, Principal, may_use},
    error::{Conflict, FieldViolation, Resource, State, Taken},
    file::{Changes, Classification, Description, File, Namespace, Owner, Payer, Sha256Sum, Status},
    id::{FileId, ObjectId, UploadId, VersionId},
    name,
    path::{Key, StoragePath},
    quota::Hold,
    service::{Coffer, Trail, files::revision, parse_path},
    store::{Intent, Lookup, NewFile, NodeStart, Target},
    time::now,
    upload::{MAX_FILE_BYTES, Upload},
    volume::{Provider, Strategy, Versioning, Volume, VolumeRef},
};

/// An upload that may begin, or go on.
pub(super) struct Plan {
    pub(super) caller: Caller,
    pub(super) volume: Volume,
    pub(super) object: ObjectId,
    pub(super) target: Target,
    /// Whom its bytes are charged to while they are on their way.
    payer: Payer,
    /// A path taken meanwhile by a file of the caller makes this upload a version of that file.
    pub(super) may_become_version: bool,
    /// Bytes that its commit gives back.
    pub(super) replaced_bytes: u64,
    pub(super) spec: UploadSpec,
}

impl Plan {
    /// What is held from the start: what can be resumed, or is larger than a batch, must not be refused for a quota at its end.
    fn hold(&self) -> Hold {
        let declared = self.spec.size.unwrap_or_default();
        if self.spec.request.is_none() && declared <= BATCH_BYTES as u64 {
            return Hold::default();
        }
        Hold {
            bytes: declared.saturating_sub(self.replaced_bytes),
            files: u64::from(matches!(self.target, Target::New(_))),
        }
    }

    /// The key of a version of the volume; of a `content`, as far as that is known.
    pub(super) fn key(&self, version: VersionId, content: Option<Sha256Sum>) -> Key {
        match (self.volume.settings.strategy, content) {
            (Strategy::Uuid, _) => Key::of_version(version),
            (Strategy::Hash, Some(content)) => Key::of_content(&content, version),
            (Strategy::Hash, None) | (Strategy::None, _) => Key::apart(version),
        }
    }

    /// The row it begins with. A `content` that is not known yet may have been declared: another one is refused.
    pub(super) fn intent(
        &self,
        id: UploadId,
        start: NodeStart,
        open_limit: usize,
        content: Option<Sha256Sum>,
    ) -> Intent {
        let version = VersionId::new();
        let ttl =
            chrono::TimeDelta::from_std(self.volume.settings.upload_ttl()).unwrap_or(chrono::TimeDelta::MAX);
        Intent {
            id,
            volume: self.volume.id,
            key: self.key(version, content.or(self.spec.sha256)),
            version,
            file: match &self.target {
                Target::New(_) => None,
                Target::Version { file, .. } => Some(*file),
            },
            payer: self.payer.clone(),
            hold: self.hold(),
            file_bytes: self.spec.size.unwrap_or_default(),
            replaced_bytes: self.replaced_bytes,
            scope: self.caller.principal.as_ref().map(Principal::scope).unwrap_or_default(),
            request: self.spec.request.clone(),
            open_limit,
            spec: serde_json::to_value(&self.spec).unwrap_or_default(),
            declared_size: self.spec.size,
            start,
            expires_at: now() + ttl,
        }
    }
}

impl Coffer {
    /// The plan of an upload that goes on: the same checks again, because what is allowed may have changed.
    pub(super) async fn plan_of(&self, caller: &Caller, upload: &Upload, trail: &Trail) -> Result<Plan> {
        let spec: UploadSpec = serde_json::from_value(upload.spec.clone())
            .map_err(|e| Error::internal("read what was asked of an upload", e))?;
        self.plan(caller, UploadSpec { request: upload.request.clone(), ..spec }, trail).await
    }

    pub(super) async fn plan(&self, caller: &Caller, spec: UploadSpec, trail: &Trail) -> Result<Plan> {
        let principal = caller.known()?;
        let owner = principal.owner().ok_or(Error::PermissionDenied("upload files"))?;
        check_texts(&spec)?;
        if spec.project.as_ref().is_some_and(|project| !principal.projects.contains(project)) {
            return Err(Error::NotFound(Resource::Project(spec.project.unwrap_or_default())));
        }

        let (volume, existing, path) = self.locate(caller, &spec, trail).await?;
        trail.update(|operation| operation.volume_id = Some(volume.id));
        let provider = self.provider(&volume).await?;
        trail.update(|operation| operation.provider = Some(provider));
        if !volume.settings.is_active {
            return Err(Error::State(State::VolumeInactive));
        }
        let declared = spec.size.unwrap_or_default();
        let limit = volume.settings.max_file_bytes.map_or(MAX_FILE_BYTES, |limit| limit.min(MAX_FILE_BYTES));
        if declared > limit {
            return Err(Error::FileTooLarge { limit });
        }
        let is_new = existing.is_none();
        let replaced_bytes = match (&existing, volume.settings.versioning) {
            (Some(file), Versioning::None) => file.content.size,
            _ => 0,
        };
        let (target, payer) = match existing {
            Some(file) => (version_of(&file, &spec)?, file.payer()),
            None if spec.if_etag.is_some() => return Err(Error::Conflict(Conflict::Etag)),
            None => new_file(principal, owner, &volume, provider, path.as_ref(), &spec)?,
        };
        if let Target::New(file) = &target {
            self.must_be_free("spec.path", &volume, &file.organisation, &file.path).await?;
        }
        Ok(Plan {
            caller: caller.clone(),
            volume,
            object: ObjectId::new(),
            target,
            payer,
            may_become_version: is_new && path.is_some() && !spec.create_only,
            replaced_bytes,
            spec,
        })
    }

    /// The volume, the file that gets a version if there is one, and the path if one was named.
    async fn locate(
        &self,
        caller: &Caller,
        spec: &UploadSpec,
        trail: &Trail,
    ) -> Result<(Volume, Option<File>, Option<StoragePath>)> {
        let principal = caller.known()?;
        if let Some(reference) = &spec.file {
            let seen = self.see(caller, reference, trail).await?;
            if seen.access != FileAccess::Own {
                return Err(Error::PermissionDenied("replace the content of this file"));
            }
            if seen.file.deleted_at.is_some() {
                return Err(Error::NotFound(reference.resource()));
            }
            let volume = self.volume(Some(&VolumeRef::Id(seen.file.volume))).await?;
            return Ok((volume, Some(seen.file), None));
        }
        let volume = self.volume(spec.volume.as_ref()).await?;
        if !may_use(principal, &volume) {
            return Err(Error::NotFound(VolumeRef::Id(volume.id).resource()));
        }
        let Some(path) = &spec.path else { return Ok((volume, None, None)) };
        let path = parse_path("spec.path", path, &volume.settings.paths)?;
        let existing = self.live_at(caller, &volume, &path).await?;
        match &existing {
            Some(_) if spec.create_only => Err(Error::AlreadyExists(Taken::Path)),
            Some(file) if caller.access(file) != FileAccess::Own => Err(Error::AlreadyExists(Taken::Path)),
            Some(file) => {
                trail.on(file);
                Ok((volume, existing, Some(path)))
            }
            None => Ok((volume, None, Some(path))),
        }
    }

    /// The live file at a path of the caller's organisation.
    pub(super) async fn live_at(
        &self,
        caller: &Caller,
        volume: &Volume,
        path: &StoragePath,
    ) -> Result<Option<File>> {
        let organisation = caller.known()?.organisation.clone();
        self.store()
            .file(&Lookup::Path { organisation, volume: VolumeRef::Id(volume.id), nfc: path.nfc() })
            .await
    }
}

/// The target of an upload that makes a version of `file`.
pub(super) fn version_of(file: &File, spec: &UploadSpec) -> Result<Target> {
    if spec.file_id.as_ref().is_some_and(|name| *name != file.file_id) {
        return Err(Error::invalid("spec.file_id", "is given to a new file only; this file has another"));
    }
    if file.status == Status::Archived {
        return Err(Error::State(State::FileStatus("archived")));
    }
    let if_revision = revision(spec.if_etag.as_deref())?;
    if if_revision.is_some_and(|revision| revision != file.revision) {
        return Err(Error::Conflict(Conflict::Etag));
    }
    let mut changed = file.clone();
    spec.changes.apply(&mut changed);
    let violations = changed.description.violations("spec.");
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    Ok(Target::Version { file: file.id, if_revision, changes: spec.changes.clone() })
}

fn new_file(
    principal: &Principal,
    owner: Owner,
    volume: &Volume,
    provider: Provider,
    path: Option<&StoragePath>,
    spec: &UploadSpec,
) -> Result<(Target, Payer)> {
    let id = FileId::new();
    let rules = &volume.settings.paths;
    let filename = match (&spec.changes.filename, path) {
        (Some(filename), _) => filename.clone(),
        (None, Some(path)) => path.filename(rules).to_owned(),
        (None, None) => return Err(Error::invalid("spec.filename", "a new file needs a path or a filename")),
    };
    let Changes { mime_type, encoding, classification, tags, custom_metadata, is_public, .. } =
        spec.changes.clone();
    let description = Description {
        mime_type: mime_type.unwrap_or_else(|| name::mime_of(&filename)),
        filename,
        encoding: encoding.unwrap_or_default(),
        classification: classification.unwrap_or(Classification::Internal),
        tags: tags.unwrap_or_default(),
        custom_metadata: custom_metadata.unwrap_or_default(),
    };
    let violations = description.violations("spec.");
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    let path = match path {
        Some(path) => path.clone(),
        None => own_path(id, &owner, &description.filename, rules),
    };
    let payer = Payer::of(principal, &owner, volume.id, spec.project.clone());
    let file = NewFile {
        id,
        file_id: spec.file_id.clone().unwrap_or_else(|| id.default_name()),
        owner,
        organisation: principal.organisation.clone(),
        project: spec.project.clone(),
        path,
        description,
        is_public: is_public.unwrap_or(false),
        provider,
    };
    Ok((Target::New(Box::new(file)), payer))
}

/// `{namespace}/{owner}/{file id}/{filename}`, so that equal names never collide; the id alone where that is no valid path of the volume.
fn own_path(id: FileId, owner: &Owner, filename: &str, rules: &crate::path::PathRules) -> StoragePath {
    let namespace = match owner.namespace {
        Namespace::Users => "users",
        Namespace::Apps => "apps",
    };
    let text = [namespace, &owner.path_segment(), &id.to_string(), filename].join(&rules.delimiter);
    StoragePath::parse(&text, rules).unwrap_or_else(|_| StoragePath::stored(id.to_string()))
}

fn check_texts(spec: &UploadSpec) -> Result<()> {
    let mut found = Vec::new();
    let mut check =
        |field: &str, problem: Option<&str>| {
            found.extend(problem.map(|problem| FieldViolation {
                field: format!("spec.{field}"),
                problem: problem.to_owned(),
            }));
        };
    check("file_id", spec.file_id.as_deref().and_then(|text| name::check_file_id(text).err()));
    check("change_description", name::check_description(&spec.change_description).err());
    check(
        "project_id",
        spec.project
            .as_deref()
            .filter(|p| !name::is_identifier(p))
            .map(|_| "must be 1 to 100 visible characters without /"),
    );
    check("size_bytes", spec.size.filter(|n| i64::try_from(*n).is_err()).map(|_| "is too large"));
    check("path", spec.file.as_ref().and(spec.path.as_ref()).map(|_| "must be empty when file is set"));
    check("volume", spec.file.as_ref().and(spec.volume.as_ref()).map(|_| "must be empty when file is set"));
    check("create_only", (spec.create_only && spec.file.is_some()).then_some("does not go with file"));
    if found.is_empty() { Ok(()) } else { Err(Error::Invalid(found)) }
}

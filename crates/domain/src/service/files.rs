//! Descriptions and lives of files.

use super::{Coffer, Trail, parse_path};
use crate::{
    Error, Result,
    caller::{Caller, FileAccess, is_view_recorded},
    error::{Conflict, Unauthenticated},
    file::{Changes, File, FileRef, Filter, Namespace},
    operation::OperationKind,
    page::{Page, PageRequest},
    request::Request,
    store::Scope,
    volume::VolumeRef,
};

/// A file and how much of it the caller may see.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The file.
    pub file: File,
    /// Never [`FileAccess::Hidden`].
    pub access: FileAccess,
}

impl Coffer {
    /// One file. Recorded for confidential and restricted ones.
    pub async fn get_file(&self, caller: &Caller, file: &FileRef) -> Result<Seen> {
        let (caller, file) = (caller.clone(), file.clone());
        self.audited(caller.operation(OperationKind::ViewMetadata), move |me, trail| async move {
            let seen = me.see(&caller, &file, &trail).await?;
            if is_view_recorded(seen.file.description.classification) {
                me.store().record(&[trail.operation()]).await?;
            }
            Ok(seen)
        })
        .await
    }

    /// A page of the files the caller may see: an admin those of the organisation, others their own. Recorded.
    pub async fn list_files(
        &self,
        caller: &Caller,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<File>> {
        let (caller, filter, page) = (caller.clone(), filter.clone(), page.clone());
        self.audited(caller.operation(OperationKind::List), move |me, trail| async move {
            let scope = scope(&caller, &filter)?;
            let filter = match &filter.volume {
                Some(volume) => {
                    Filter { volume: Some(VolumeRef::Id(me.volume(Some(volume)).await?.id)), ..filter }
                }
                None => filter,
            };
            let found = me.store().files(&scope, &filter, &page).await?;
            me.seen(&trail, found.items.len()).await?;
            Ok(found)
        })
        .await
    }

    /// Changes a description.
    pub async fn update_file(
        &self,
        caller: &Caller,
        file: &FileRef,
        changes: Changes,
        if_etag: Option<String>,
        request: Option<Request>,
    ) -> Result<File> {
        let (caller, file) = (caller.clone(), file.clone());
        self.audited_once(
            caller.operation(OperationKind::UpdateMetadata),
            request.clone(),
            move |me, trail| async move {
                let principal = caller.known()?.clone();
                let current = me.see_managed(&caller, &file, &trail, "change this file").await?;
                let if_revision = revision(if_etag.as_deref())?;
                if let Some(path) = &changes.path {
                    let volume = me.volume(Some(&VolumeRef::Id(current.volume))).await?;
                    let path = parse_path("changes.path", path, &volume.settings.paths)?;
                    if path.nfc() != current.path.nfc() {
                        me.must_be_free("changes.path", &volume, &current.organisation, &path).await?;
                    }
                }
                let mut changed = current.clone();
                changes.apply(&mut changed);
                let violations = changed.description.violations("changes.");
                if !violations.is_empty() {
                    return Err(Error::Invalid(violations));
                }
                let file = me
                    .store()
                    .update_file(
                        current.id,
                        if_revision,
                        &changes,
                        principal.user.as_ref(),
                        &trail.operation(),
                        request.as_ref(),
                    )
                    .await?;
                if changes.path.is_some() {
                    me.settle_links(file.volume, &[&current.path, &file.path]).await;
                }
                Ok(file)
            },
        )
        .await
    }

    /// Moves a file to the trash.
    pub async fn delete_file(
        &self,
        caller: &Caller,
        file: &FileRef,
        if_etag: Option<String>,
        request: Option<Request>,
    ) -> Result<File> {
        let (caller, file) = (caller.clone(), file.clone());
        self.audited_once(
            caller.operation(OperationKind::Delete),
            request.clone(),
            move |me, trail| async move {
                let principal = caller.known()?.clone();
                let current = me.see_managed(&caller, &file, &trail, "delete this file").await?;
                if current.deleted_at.is_some() {
                    return Err(Error::NotFound(file.resource()));
                }
                let if_revision = revision(if_etag.as_deref())?;
                let file = me
                    .store()
                    .delete_file(
                        current.id,
                        if_revision,
                        principal.user.as_ref(),
                        &trail.operation(),
                        request.as_ref(),
                    )
                    .await?;
                me.settle_links(file.volume, &[&file.path]).await;
                Ok(file)
            },
        )
        .await
    }

    /// Takes a file out of the trash.
    pub async fn undelete_file(
        &self,
        caller: &Caller,
        file: &FileRef,
        path: Option<String>,
        request: Option<Request>,
    ) -> Result<File> {
        let (caller, file) = (caller.clone(), file.clone());
        self.audited_once(
            caller.operation(OperationKind::Undelete),
            request.clone(),
            move |me, trail| async move {
                let principal = caller.known()?.clone();
                let current = me.see_managed(&caller, &file, &trail, "undelete this file").await?;
                let volume = me.volume(Some(&VolumeRef::Id(current.volume))).await?;
                let path = path.map(|path| parse_path("path", &path, &volume.settings.paths)).transpose()?;
                let wanted = path.as_ref().unwrap_or(&current.path);
                me.must_be_free("path", &volume, &current.organisation, wanted).await?;
                let file = me
                    .store()
                    .undelete_file(
                        current.id,
                        path.as_ref(),
                        principal.user.as_ref(),
                        &trail.operation(),
                        request.as_ref(),
                    )
                    .await?;
                me.settle_link(&volume, &file.path.nfc()).await;
                Ok(file)
            },
        )
        .await
    }

    /// Removes a file in the trash for good. Answers the bytes given back.
    pub async fn purge_file(&self, caller: &Caller, file: &FileRef, request: Option<Request>) -> Result<u64> {
        let (caller, file) = (caller.clone(), file.clone());
        self.audited_once(
            caller.operation(OperationKind::Purge),
            request.clone(),
            move |me, trail| async move {
                caller.known()?;
                let current = me.see_managed(&caller, &file, &trail, "purge this file").await?;
                me.store().purge_file(current.id, &trail.operation(), request.as_ref()).await
            },
        )
        .await
    }

    /// The file a caller names, if the caller may know of it; the trail is told.
    pub(super) async fn see(&self, caller: &Caller, file: &FileRef, trail: &Trail) -> Result<Seen> {
        if caller.principal.is_some() {
            caller.known()?;
        }
        // Whoever has no token is told the same of what is absent and of what is not public.
        let hidden = || match caller.principal {
            Some(_) => Error::NotFound(file.resource()),
            None => Error::Unauthenticated(Unauthenticated::Missing),
        };
        let found = match self.look_up(caller, file).await {
            Err(Error::NotFound(_)) => return Err(hidden()),
            outcome => outcome?,
        };
        match caller.access(&found) {
            FileAccess::Hidden => Err(hidden()),
            access @ (FileAccess::Public | FileAccess::Administer | FileAccess::Own) => {
                trail.on(&found);
                Ok(Seen { file: found, access })
            }
        }
    }

    /// The file a caller names, if the caller may manage it.
    async fn see_managed(
        &self,
        caller: &Caller,
        file: &FileRef,
        trail: &Trail,
        what: &'static str,
    ) -> Result<File> {
        let seen = self.see(caller, file, trail).await?;
        match seen.access {
            FileAccess::Own | FileAccess::Administer => Ok(seen.file),
            FileAccess::Public | FileAccess::Hidden => Err(Error::PermissionDenied(what)),
        }
    }
}

/// The revision an etag stands for; one that we never gave cannot match.
pub(super) fn revision(if_etag: Option<&str>) -> Result<Option<u64>> {
    if_etag.map(|etag| etag.parse().map_err(|_| Error::Conflict(Conflict::Etag))).transpose()
}

fn scope(caller: &Caller, filter: &Filter) -> Result<Scope> {
    let principal = caller.known()?;
    let organisation = principal.organisation.clone();
    if principal.roles.is_admin {
        return Ok(Scope::Organisation(organisation));
    }
    let owner = principal.owner().ok_or(Error::PermissionDenied("list files"))?;
    if filter.owner.is_some_and(|asked| Some(asked) != owner.user) {
        return Err(Error::PermissionDenied("list the files of others"));
    }
    Ok(match (owner.namespace, owner.user, owner.app) {
        (Namespace::Users, Some(user), _) => Scope::User { organisation, user },
        (_, _, app) => Scope::App { organisation, app: app.unwrap_or_default() },
    })
}

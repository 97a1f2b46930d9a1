//! Apps that act for users.

use super::Coffer;
use crate::{Error, Result, caller::Principal, error::Resource, id::UserId};

impl Coffer {
    /// An app as the user it wants to act for. Somebody who is not known yet is taken at the app's word.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] for whoever is no app with the role `delegate`; [`Error::NotFound`] for a user who is known to belong
    /// to another organisation.
    pub async fn delegate(&self, app: Principal, user: UserId) -> Result<Principal> {
        let principal = app.on_behalf_of(user)?;
        match self.store().organisation_of(user).await? {
            Some(organisation) if organisation != principal.organisation => {
                Err(Error::NotFound(Resource::User(user.to_string())))
            }
            _ => Ok(principal),
        }
    }
}

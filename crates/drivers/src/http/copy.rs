//! Objects that a server of WebDAV makes of others.

use super::{
    client::{Ask, Client},
    space::Space,
};
use crate::remote::{Failure, insist, time_to_copy};
use coffer_domain::{driver::ErrorKind, id::UploadId};

impl Space {
    /// Copies an object, staged until it is whole; answers its size.
    pub(super) async fn copy(&self, upload: UploadId, from: &str, to: &str) -> Result<u64, Failure> {
        let Some(source) = self.client.dav_stat(from).await? else {
            self.client.expect_folder().await?;
            return Err(Failure::wrong(ErrorKind::NotFound, "there is no object"));
        };
        // Told before bytes are copied for nothing; the move looks again.
        if self.client.dav_stat(to).await?.is_some() {
            return Err(Failure::wrong(ErrorKind::AlreadyExists, "an object is at the key"));
        }
        self.sweep(upload).await?;
        let staged = format!("{}whole", self.folder(upload));
        let copied = async {
            self.client.duplicate(from, &staged, source.size).await?;
            self.client.rename(&staged, to, source.size).await
        };
        let outcome = copied.await;
        let swept = self.sweep(upload).await;
        outcome.and(swept)?;
        Ok(source.size)
    }
}

impl Client {
    /// Makes another object of one of this size, where nothing is.
    async fn duplicate(&self, from: &str, to: &str, size: u64) -> Result<(), Failure> {
        self.make_parents(to).await?;
        let attempt = || {
            let ask = Ask::new("COPY", from)
                .header("destination", self.url(to))
                .header("overwrite", "F")
                .header("depth", "0")
                .longer(time_to_copy(size));
            self.tell(ask)
        };
        let outcome = insist(attempt).await;
        let found = self.dav_stat(to).await?.map(|stat| stat.size);
        match outcome {
            Ok(()) if found == Some(size) => Ok(()),
            Ok(()) => Err(Failure::wrong(ErrorKind::Unavailable, "less was copied than there is")),
            // The try before may have done it.
            Err(failure) if failure.status() == Some(412) && found == Some(size) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

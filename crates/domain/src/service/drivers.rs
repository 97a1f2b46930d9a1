//! Opened backends, one per volume, and the markers that say whose a volume is.

use super::Coffer;
use crate::{
    Error, Result,
    driver::{self, Driver, ErrorKind, Open, PieceSize},
    error::{State, Unavailable},
    id::{ClusterId, VolumeId},
    path::Key,
    volume::{Backend, OpenBackend, Place, Provider, Settings, Strategy, Volume},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Largest marker that is read.
const MAX_MARKER_BYTES: u64 = 4_096;

/// What `.coffer/volume.json` holds. A volume without it, or with another's, is not touched: an unmounted disk is not a volume whose
/// files were lost, and a bucket of another database is not ours to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    cluster: ClusterId,
    volume: VolumeId,
}

/// How a driver's failure is told: [`Error::from`] to everybody, [`Error::to_operator`] to who may know addresses.
pub(super) type Tell = fn(driver::Error) -> Error;

/// Opens each backend once. A volume's approved path is read when it is opened and by each [`Coffer::recheck_drivers`], not for each transfer:
/// a path is never changed and, while a volume is on it, not removed, so only somebody who writes to the database himself could notice.
pub(super) struct Drivers {
    opener: Arc<dyn Open>,
    opened: Mutex<HashMap<VolumeId, Opened>>,
}

/// A driver, and what it was opened with: changed settings open another.
#[derive(Clone)]
struct Opened {
    settings: Backend,
    backend: OpenBackend,
    driver: Arc<dyn Driver>,
}

impl Drivers {
    pub(super) fn new(opener: Arc<dyn Open>) -> Self {
        Self { opener, opened: Mutex::default() }
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<VolumeId, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, volume: &Volume) -> Option<Arc<dyn Driver>> {
        let Settings { backend, default_prefix, .. } = &volume.settings;
        self.opened()
            .get(&volume.id)
            .filter(|known| known.settings == *backend && known.backend.prefix == *default_prefix)
            .map(|known| known.driver.clone())
    }
}

impl Coffer {
    /// The driver of a volume that carries our marker.
    pub(super) async fn driver(&self, volume: &Volume) -> Result<Arc<dyn Driver>> {
        self.driver_told(volume, Error::from).await
    }

    /// [`Coffer::driver`], whose failures are told as `tell` has it.
    pub(super) async fn driver_told(&self, volume: &Volume, tell: Tell) -> Result<Arc<dyn Driver>> {
        if let Some(driver) = self.0.drivers.known(volume) {
            return Ok(driver);
        }
        let backend = self.backend(volume).await?;
        // Two who open at once do so twice: no lock is held while a backend is asked.
        let driver = self.0.drivers.opener.open(&backend).await.map_err(tell)?;
        verify_marker(&*driver, &backend, tell).await?;
        self.0.drivers.opened().insert(
            volume.id,
            Opened { settings: volume.settings.backend.clone(), backend, driver: driver.clone() },
        );
        Ok(driver)
    }

    /// The kind of backend that a volume's files are on. Whether it is FTP or SFTP is not the volume's to say: its endpoint is of one kind for good.
    pub(super) async fn provider(&self, volume: &Volume) -> Result<Provider> {
        match volume.settings.backend {
            Backend::Local { .. } => Ok(Provider::Local),
            Backend::S3 { .. } => Ok(Provider::S3),
            Backend::Http { .. } => Ok(Provider::Http),
            Backend::Ftp { ftp_id } => match self.0.drivers.known(volume) {
                Some(driver) => Ok(driver.provider()),
                None => Ok(self.endpoint(ftp_id).await?.server.provider()),
            },
        }
    }

    /// Forgets drivers of volumes that are no longer where they were, or may not be there any more, so that the next use opens what is
    /// there now.
    pub(super) async fn recheck_drivers(&self) {
        let opened: Vec<_> = self.0.drivers.opened().values().cloned().collect();
        for Opened { settings, backend, driver } in opened {
            let outcome = match self.approved_place(&settings).await {
                Ok(place) if place == backend.place => {
                    verify_marker(&*driver, &backend, Error::to_operator).await
                }
                Ok(Place::Local(_)) => Err(Error::Unavailable(Unavailable::NotOnThisNode)),
                Ok(Place::S3(_) | Place::Http(_) | Place::Ftp(_) | Place::Sftp(_)) => {
                    tracing::info!(volume.id = %backend.volume, "a volume's endpoint or credential was changed");
                    self.0.drivers.opened().remove(&backend.volume);
                    continue;
                }
                Err(problem @ Error::Unavailable(Unavailable::NotOnThisNode)) => Err(problem),
                // The database cannot tell now.
                Err(_) => continue,
            };
            if let Err(problem) = outcome {
                tracing::warn!(volume.id = %backend.volume, problem = %problem, "a volume is not where it was");
                self.0.drivers.opened().remove(&backend.volume);
            }
        }
    }

    /// Opens a new volume's backend and writes its marker, unless the place is somebody else's. For operators, who are told of addresses.
    pub(super) async fn claim(&self, volume: &Volume) -> Result<Arc<dyn Driver>> {
        let backend = self.backend(volume).await?;
        let driver = self.0.drivers.opener.open(&backend).await.map_err(Error::to_operator)?;
        let can = driver.capabilities();
        match volume.settings.strategy {
            Strategy::Hash if !can.rename => {
                return Err(Error::Unsupported("keys that are known at the end"));
            }
            Strategy::None if !can.link => {
                return Err(Error::Unsupported("contents that are found at paths"));
            }
            Strategy::None | Strategy::Uuid | Strategy::Hash => {}
        }
        match read_marker(&*driver, Error::to_operator).await? {
            Some(marker) if marker == expected(&backend) => {}
            Some(_) => {
                return Err(Error::State(State::VolumeConflict(
                    "the place carries the marker of another volume",
                )));
            }
            None => {
                let marker = serde_json::to_vec(&expected(&backend))
                    .map_err(|e| Error::internal("write a volume marker", e))?;
                driver.put(&Key::marker(), Bytes::from(marker)).await.map_err(Error::to_operator)?;
            }
        }
        Ok(driver)
    }

    /// Removes a deleted volume's marker and forgets its driver.
    pub(super) async fn disclaim(&self, volume: &Volume) -> Result<()> {
        let driver = self.driver(volume).await?;
        self.0.drivers.opened().remove(&volume.id);
        Ok(driver.delete(&Key::marker()).await?)
    }

    /// Whether the volume's disk is still what it was: the marker is read again. For operators, as [`Coffer::claim`].
    pub(super) async fn verify(&self, volume: &Volume, driver: &dyn Driver) -> Result<()> {
        let backend = self.backend(volume).await?;
        let outcome = verify_marker(driver, &backend, Error::to_operator).await;
        if outcome.is_err() {
            self.0.drivers.opened().remove(&volume.id);
        }
        outcome
    }

    async fn backend(&self, volume: &Volume) -> Result<OpenBackend> {
        Ok(OpenBackend {
            volume: volume.id,
            cluster: self.0.cluster,
            prefix: volume.settings.default_prefix.clone(),
            place: self.approved_place(&volume.settings.backend).await?,
        })
    }

    /// Where a backend is, if that is approved.
    async fn approved_place(&self, backend: &Backend) -> Result<Place> {
        match backend {
            Backend::Local { local_path_id } => {
                let path = self.store().local_path(*local_path_id).await?;
                let path = path.ok_or(Error::Unavailable(Unavailable::NotOnThisNode))?.path;
                Ok(Place::Local(PathBuf::from(path)))
            }
            Backend::S3 { bucket_id: id, .. }
            | Backend::Http { endpoint_id: id, .. }
            | Backend::Ftp { ftp_id: id } => self.endpoint_place(backend, *id).await,
        }
    }
}

fn expected(backend: &OpenBackend) -> Marker {
    Marker { cluster: backend.cluster, volume: backend.volume }
}

async fn verify_marker(driver: &dyn Driver, backend: &OpenBackend, tell: Tell) -> Result<()> {
    match read_marker(driver, tell).await? {
        Some(marker) if marker == expected(backend) => Ok(()),
        Some(_) | None => Err(Error::Unavailable(Unavailable::NotOnThisNode)),
    }
}

/// The marker of a place; one that cannot be understood counts as somebody else's.
async fn read_marker(driver: &dyn Driver, tell: Tell) -> Result<Option<Marker>> {
    let stream = match driver.read(&Key::marker(), 0..MAX_MARKER_BYTES, PieceSize::default()).await {
        Ok(stream) => stream,
        Err(driver::Error { kind: ErrorKind::NotFound, .. }) => return Ok(None),
        Err(error) => return Err(tell(error)),
    };
    let bytes: Vec<Bytes> = stream.try_collect().await.map_err(tell)?;
    let foreign = || Error::State(State::VolumeConflict("the place carries a marker that is not ours"));
    serde_json::from_slice(&bytes.concat()).map(Some).map_err(|_| foreign())
}

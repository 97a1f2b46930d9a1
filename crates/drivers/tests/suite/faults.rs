//! Remote drivers whose server, or whose way to it, misbehaves.

mod copies;
mod cuts;
mod floods;
mod ftp;
mod hostile;
mod names;
mod proxy;
mod scripted;
mod sftp;
mod trust;

use crate::{servers, support::kind};
use coffer_domain::driver::{Driver, Error, ErrorKind};
use coffer_drivers::{Patience, ftp as ftp_driver, http, s3, sftp::Sftp};
use proxy::{Fault, Proxy};
use scripted::Scripted;
use std::{sync::Arc, time::Duration};

/// Waits that end soon.
fn impatient() -> coffer_drivers::WireOptions {
    let patience = Patience {
        connect: Duration::from_secs(2),
        answer: Duration::from_millis(400),
        piece: Duration::from_millis(400),
    };
    coffer_drivers::WireOptions { patience, ..servers::loopback() }
}

async fn open_s3(config: s3::Config) -> Result<Arc<dyn Driver>, Error> {
    Ok(Arc::new(s3::S3::open(config).await?))
}

async fn open_http(config: http::Config) -> Result<Arc<dyn Driver>, Error> {
    Ok(Arc::new(http::Http::open(config).await?))
}

async fn open_sftp(config: coffer_drivers::sftp::Config) -> Result<Arc<dyn Driver>, Error> {
    Ok(Arc::new(Sftp::open(config).await?))
}

async fn open_ftp(config: ftp_driver::Config) -> Result<Arc<dyn Driver>, Error> {
    Ok(Arc::new(ftp_driver::Ftp::open(config).await?))
}

fn assert_kind<T>(result: Result<T, Error>, expected: ErrorKind, of: &str) {
    assert_eq!(kind(result), Some(expected), "{of}");
}

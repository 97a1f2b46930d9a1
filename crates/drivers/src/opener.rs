//! Opens the driver of a volume, with all wrappers.

use crate::{WireOptions, ftp, http, local, s3, sftp, wrap};
use async_trait::async_trait;
use coffer_domain::{
    budget::Budget,
    driver::{Driver, Open, Result},
    endpoint::{FtpServer, SftpServer},
    volume::{FtpPlace, HttpPlace, OpenBackend, Place, S3Place, SftpPlace},
};
use std::sync::Arc;

/// Opens drivers. Limits, retries and the way to servers are the same for all of them.
#[derive(Debug, Clone, Default)]
pub struct Opener {
    options: wrap::Options,
    wire: WireOptions,
    budget: Budget,
}

impl Opener {
    /// Puts wrappers with these options around every driver it opens, reaches servers like this, and gives all of them this memory for
    /// bytes on their way.
    pub fn new(options: wrap::Options, wire: WireOptions, budget: Budget) -> Self {
        Self { options, wire, budget }
    }

    fn s3(&self, place: &S3Place, prefix: &str) -> s3::Config {
        let S3Place { url, bucket, region, use_path_style, access_key, secret_key } = place;
        s3::Config {
            region: region.clone(),
            is_virtual_host: !use_path_style,
            prefix: prefix.to_owned(),
            wire: self.wire.clone(),
            budget: self.budget.clone(),
            ..s3::Config::new(url.to_string(), bucket, access_key, secret_key.clone())
        }
    }

    fn http(&self, place: &HttpPlace, prefix: &str) -> http::Config {
        let HttpPlace { url, use_query_params, login } = place;
        http::Config {
            prefix: prefix.to_owned(),
            use_query_params: *use_query_params,
            wire: self.wire.clone(),
            budget: self.budget.clone(),
            ..http::Config::new(url.to_string(), login.clone())
        }
    }

    fn ftp(&self, place: &FtpPlace, prefix: &str) -> ftp::Config {
        let FtpPlace { server, password } = place;
        let FtpServer { host, port, security, username, folder } = server;
        ftp::Config {
            path: folder.to_string(),
            prefix: prefix.to_owned(),
            wire: self.wire.clone(),
            budget: self.budget.clone(),
            ..ftp::Config::new(host.as_str(), *port, *security, username, password.clone())
        }
    }

    fn sftp(&self, place: &SftpPlace, prefix: &str) -> sftp::Config {
        let SftpPlace { server, login } = place;
        let SftpServer { host, port, username, host_key, folder } = server;
        sftp::Config {
            port: *port,
            path: folder.to_string(),
            prefix: prefix.to_owned(),
            wire: self.wire.clone(),
            budget: self.budget.clone(),
            ..sftp::Config::new(host.as_str(), username, login.clone(), host_key.clone())
        }
    }
}

#[async_trait]
impl Open for Opener {
    async fn open(&self, backend: &OpenBackend) -> Result<Arc<dyn Driver>> {
        let OpenBackend { place, prefix, .. } = backend;
        let driver: Arc<dyn Driver> = match place {
            Place::Local(root) => {
                let config =
                    local::Config { root: root.clone(), prefix: prefix.clone(), ..local::Config::default() };
                Arc::new(local::Local::open(config).await?)
            }
            Place::S3(place) => Arc::new(s3::S3::open(self.s3(place, prefix)).await?),
            Place::Http(place) => Arc::new(http::Http::open(self.http(place, prefix)).await?),
            Place::Ftp(place) => Arc::new(ftp::Ftp::open(self.ftp(place, prefix)).await?),
            Place::Sftp(place) => Arc::new(sftp::Sftp::open(self.sftp(place, prefix)).await?),
        };
        Ok(wrap::all(driver, &self.options))
    }
}

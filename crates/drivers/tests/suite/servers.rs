//! Drivers on real servers.

use coffer_domain::{budget::Budget, driver::Driver, egress::Policy};
use coffer_drivers::{
    WireOptions,
    http::{self, Auth, Http},
    s3::{self, S3},
    wrap,
};
use coffer_test_servers::{ACCESS_KEY, Kind, PASSWORD, SECRET_KEY, Server, USER};
use std::sync::Arc;

/// What may be connected to in tests.
pub(crate) fn loopback() -> WireOptions {
    let allow = ["127.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()).to_vec();
    WireOptions { policy: Policy { allow, deny: Vec::new() }, ..WireOptions::default() }
}

/// A bucket behind this URL.
pub(crate) fn s3_config(url: &str, bucket: &str) -> s3::Config {
    let credentials = s3::Credentials {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        session_token: None,
    };
    s3::Config { wire: loopback(), ..s3::Config::new(url, bucket, credentials) }
}

/// A bucket of its own on `rclone serve s3`.
pub(crate) async fn s3(prefix: &str, budget: Budget) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = Kind::RcloneS3.shared()?;
    let config = s3_config(&server.url(), &server.place());
    let config = s3::Config { prefix: prefix.to_owned(), budget, ..config };
    Some((Arc::new(S3::open(config).await.unwrap()), server))
}

/// A folder of a server.
pub(crate) fn http_config(kind: Kind, url: &str, place: &str) -> http::Config {
    let auth = match kind {
        Kind::Nginx => Auth::None,
        _ => Auth::Basic { user: USER.to_owned(), password: PASSWORD.to_owned() },
    };
    http::Config { wire: loopback(), ..http::Config::new(format!("{url}/{place}"), auth) }
}

/// A folder of its own on a server of HTTP.
pub(crate) async fn http(kind: Kind, prefix: &str, budget: Budget) -> Option<(Arc<dyn Driver>, Arc<Server>)> {
    let server = kind.shared()?;
    let config = http_config(kind, &server.url(), &server.place());
    let config = http::Config { prefix: prefix.to_owned(), budget, ..config };
    Some((Arc::new(Http::open(config).await.unwrap()), server))
}

/// The driver, with all wrappers if it is to be so.
pub(crate) fn wrapped_if(is_wrapped: bool, driver: Arc<dyn Driver>) -> Arc<dyn Driver> {
    if is_wrapped { wrap::all(driver, &wrap::Options::default()) } else { driver }
}

//! MinIO, which keeps a directory for each bucket.

use crate::{ACCESS_KEY, SECRET_KEY, Server, missing};
use std::process::Command;

/// What the names of its hosts end with when they begin with that of a bucket. See [`Server::host_with_bucket`].
pub(crate) const DOMAIN: &str = "0x1";

pub(crate) fn s3() -> Option<Server> {
    let program = missing::find("minio")?;
    Some(Server::start_when("/minio/health/ready", |address, root, scratch| {
        let mut command = Command::new(&program);
        command.args(["server", "--quiet", "--address"]).arg(address.to_string()).arg(root);
        // None of the user's settings.
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.as_encoded_bytes().starts_with(b"MINIO_")) {
            command.env_remove(name);
        }
        command
            .env("HOME", scratch)
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_DOMAIN", DOMAIN)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        command
    }))
}

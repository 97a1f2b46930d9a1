//! rclone, which serves a directory.

use crate::{ACCESS_KEY, PASSWORD, SECRET_KEY, Server, USER, missing};
use std::process::Command;

pub(crate) fn s3() -> Option<Server> {
    serve("s3", &["--auth-key", &format!("{ACCESS_KEY},{SECRET_KEY}"), "--no-cleanup"])
}

pub(crate) fn webdav() -> Option<Server> {
    serve("webdav", &["--user", USER, "--pass", PASSWORD])
}

fn serve(protocol: &str, options: &[&str]) -> Option<Server> {
    let program = missing::find("rclone")?;
    Some(Server::start(|address, root, scratch| {
        let mut command = Command::new(&program);
        command
            .args(["serve", protocol, "--log-level", "ERROR", "--no-unicode-normalization", "--addr"])
            .arg(address.to_string());
        command.args(options).arg(root);
        // None of the user's settings and caches.
        command.env("RCLONE_CONFIG", "/notfound").env("RCLONE_CACHE_DIR", scratch.join("cache"));
        command
    }))
}

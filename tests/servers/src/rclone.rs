//! rclone, which serves a directory.

use crate::{ACCESS_KEY, PASSWORD, SECRET_KEY, Server, USER, missing, openssh};
use std::{path::Path, process::Command};

pub(crate) fn s3() -> Option<Server> {
    serve("s3", |_| {
        vec!["--auth-key".to_owned(), format!("{ACCESS_KEY},{SECRET_KEY}"), "--no-cleanup".to_owned()]
    })
}

pub(crate) fn webdav() -> Option<Server> {
    serve("webdav", |_| user())
}

pub(crate) fn sftp() -> Option<Server> {
    let maker = missing::find("ssh-keygen")?;
    serve("sftp", |scratch| {
        let (name, kind) = openssh::HOST_KEYS[0];
        openssh::make_key(&maker, scratch, name, kind);
        let key = scratch.join(name).display().to_string();
        // Without its cache it writes files from their beginning to their end only.
        let more = ["--key".to_owned(), key, "--vfs-cache-mode".to_owned(), "writes".to_owned()];
        user().into_iter().chain(more).collect()
    })
}

fn user() -> Vec<String> {
    ["--user", USER, "--pass", PASSWORD].map(str::to_owned).to_vec()
}

fn serve(protocol: &str, options: impl Fn(&Path) -> Vec<String>) -> Option<Server> {
    let program = missing::find("rclone")?;
    Some(Server::start(|address, root, scratch| {
        let mut command = Command::new(&program);
        command
            .args(["serve", protocol, "--log-level", "ERROR", "--no-unicode-normalization", "--addr"])
            .arg(address.to_string());
        command.args(options(scratch)).arg(root);
        // None of the user's settings and caches.
        command.env("RCLONE_CONFIG", "/notfound").env("RCLONE_CACHE_DIR", scratch.join("cache"));
        command
    }))
}

//! nginx with PUT and DELETE.

use crate::{Server, missing};
use std::{fs, path::Path, process::Command};

pub(crate) fn put() -> Option<Server> {
    let program = missing::find("nginx")?;
    Some(Server::start(|address, root, scratch| {
        let settings = scratch.join("nginx.conf");
        fs::write(&settings, config(&address.to_string(), root, scratch)).expect("settings can be written");
        let mut command = Command::new(&program);
        command.arg("-c").arg(settings).arg("-e").arg(scratch.join("error"));
        command
    }))
}

fn config(address: &str, root: &Path, scratch: &Path) -> String {
    let (root, scratch) = (root.display(), scratch.display());
    let other = ["proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {scratch}/.{kind};"))
        .join(" ");
    format!(
        "daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/error;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_max_body_size 0; client_body_temp_path {scratch}/bodies; {other}\n\
         keepalive_requests 100000; large_client_header_buffers 4 32k;\n\
         server {{ listen {address}; root {root}; dav_methods PUT DELETE; create_full_put_path on; }} }}\n"
    )
}

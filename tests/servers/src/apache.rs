//! Apache with mod_dav.

use crate::{Server, USER, missing};
use std::{fs, path::Path, process::Command};

/// Where Debian has its modules.
const MODULES: &str = "/usr/lib/apache2/modules";

pub(crate) fn dav() -> Option<Server> {
    let program = missing::find("apache2")?;
    Some(Server::start(|address, root, scratch| {
        let settings = scratch.join("apache.conf");
        fs::write(scratch.join("users"), users()).expect("the users can be written");
        fs::write(&settings, config(&address.to_string(), root, scratch)).expect("settings can be written");
        let mut command = Command::new(&program);
        command.arg("-f").arg(settings).args(["-D", "FOREGROUND"]);
        command
    }))
}

/// The SHA-1 of [`PASSWORD`](crate::PASSWORD), in base64: the simplest form that Apache takes.
const SUM: &str = "MfDh3HhraZVQHKUqLGFF0YEFEuA=";

/// One user.
fn users() -> String {
    format!("{USER}:{{SHA}}{SUM}\n")
}

fn config(address: &str, root: &Path, scratch: &Path) -> String {
    let (root, scratch) = (root.display(), scratch.display());
    let load = |module: &str| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n");
    let modules: String =
        ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs"]
            .map(load)
            .concat();
    format!(
        "{modules}ServerName localhost\nListen {address}\nPidFile {scratch}/pid\nErrorLog {scratch}/error\n\
         LogLevel error\nDefaultRuntimeDir {scratch}\nMutex pthread\nDocumentRoot {root}\nDavLockDB {scratch}/locks\n\
         User www-data\nGroup www-data\nStartServers 1\nServerLimit 2\nThreadsPerChild 32\nMaxRequestWorkers 64\n\
         MaxKeepAliveRequests 0\nAllowEncodedSlashes NoDecode\nEnableSendfile On\n\
         <Directory {root}>\nDav On\nDavDepthInfinity Off\nAuthType Basic\nAuthName test\nAuthUserFile {scratch}/users\n\
         Require valid-user\n</Directory>\n"
    )
}

//! ProFTPD, which has listings for machines.

use crate::{Server, USER, missing};
use std::{fs, path::Path, process::Command};

/// [`PASSWORD`](crate::PASSWORD) as `crypt` has it.
const PASSWORD_SUM: &str =
    "$6$coffertest$wkDDpPlYqKVQcAxO91GULs6e.EmePAqIWsjyyjoCp5LYlj3x910UJm2J6H8rYYzWRqerDEoPFXEf19lUxKETh0";
/// Who nobody is, on Debian.
const NOBODY: u32 = 65534;

pub(crate) fn ftp() -> Option<Server> {
    let program = missing::find("proftpd")?;
    Some(Server::start(|address, root, scratch| {
        // It takes no settings from where everybody may write.
        let own = scratch.join("own");
        fs::create_dir_all(&own).expect("a directory can be made");
        let id = rustix::process::geteuid();
        let id = if id.is_root() { NOBODY } else { id.as_raw() };
        let users = own.join("users");
        fs::write(&users, format!("{USER}:{PASSWORD_SUM}:{id}:{id}::{}:/bin/sh\n", root.display()))
            .expect("users can be written");
        make_private(&users);
        let settings = own.join("proftpd.conf");
        fs::write(&settings, config(&address.ip().to_string(), address.port(), &own))
            .expect("settings can be written");
        let mut command = Command::new(&program);
        command.args(["--nodaemon", "--quiet", "--config"]).arg(settings);
        command
    }))
}

fn config(ip: &str, port: u16, own: &Path) -> String {
    let own = own.display();
    let user = match rustix::process::geteuid().is_root() {
        true => "User nobody\nGroup nogroup\nDefaultRoot ~\n",
        false => "",
    };
    format!(
        "ServerType standalone\nServerName test\nServerIdent off\nDefaultAddress {ip}\nPort {port}\nUseIPv6 off\n\
         SocketBindTight on\n{user}PidFile {own}/pid\nScoreboardFile {own}/scoreboard\nSystemLog {own}/log\nTransferLog none\nWtmpLog off\n\
         UseReverseDNS off\nAuthOrder mod_auth_file.c\nAuthUserFile {own}/users\nRequireValidShell off\n\
         MaxInstances 300\nUmask 022\nAllowOverwrite on\nAllowStoreRestart on\nAllowRetrieveRestart on\n\
         CommandBufferSize 8192\nTimeoutLinger 1\n\
         <IfModule mod_delay.c>\nDelayEngine off\n</IfModule>\n<IfModule mod_auth_pam.c>\nAuthPAM off\n</IfModule>\n\
         <IfModule mod_lang.c>\nUseEncoding off\n</IfModule>\n<IfModule mod_ctrls.c>\nControlsEngine off\n</IfModule>\n"
    )
}

fn make_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("permissions can be set");
}

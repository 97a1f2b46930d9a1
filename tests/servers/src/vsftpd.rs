//! vsftpd, which has no listing for machines, tells of half an upload that all is well, and lets data connections be made only by who resumes
//! the TLS session of the control connection.

use crate::{PASSWORD, Server, certificate, missing};
use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// How connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Explicit,
    Implicit,
}

/// The only name it takes without the accounts of the host; a list of passwords is looked at all the same.
pub(crate) const USER: &str = "ftp";

pub(crate) fn ftp(security: Security) -> Option<Server> {
    let program = missing::find("vsftpd")?;
    Some(Server::start(|address, root, scratch| {
        // Where it locks itself up it must not be able to write.
        fs::create_dir_all(scratch.join("empty")).expect("a directory can be made");
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("permissions can be set");
        fs::write(scratch.join("passwords"), format!("{PASSWORD}\n")).expect("passwords can be written");
        if security != Security::Plain {
            certificate::write(scratch);
        }
        let settings = scratch.join("vsftpd.conf");
        fs::write(&settings, config(address, root, scratch, security)).expect("settings can be written");
        let mut command = Command::new(&program);
        command.arg(settings);
        command
    }))
}

fn config(address: SocketAddr, root: &Path, scratch: &Path, security: Security) -> String {
    let (root, scratch) = (root.display(), scratch.display());
    let as_launched = if rustix::process::geteuid().is_root() { "NO" } else { "YES" };
    let tls = match security {
        Security::Plain => String::new(),
        Security::Explicit | Security::Implicit => {
            let implicit = if security == Security::Implicit { "YES" } else { "NO" };
            format!(
                "ssl_enable=YES\nimplicit_ssl={implicit}\nallow_anon_ssl=YES\nforce_anon_logins_ssl=YES\n\
                 force_anon_data_ssl=YES\nrequire_ssl_reuse=YES\nssl_ciphers=HIGH\nrsa_cert_file={scratch}/certificate.pem\n\
                 rsa_private_key_file={scratch}/key.pem\n"
            )
        }
    };
    format!(
        "listen=YES\nbackground=NO\nlisten_address={ip}\nlisten_port={port}\nrun_as_launching_user={as_launched}\n\
         nopriv_user=nobody\nftp_username=daemon\nanonymous_enable=YES\nlocal_enable=NO\nwrite_enable=YES\n\
         anon_upload_enable=YES\nanon_mkdir_write_enable=YES\nanon_other_write_enable=YES\n\
         anon_world_readable_only=NO\nanon_umask=022\nanon_root={root}\n\
         secure_chroot_dir={scratch}/empty\nsecure_email_list_enable=YES\nemail_password_file={scratch}/passwords\n\
         connect_from_port_20=NO\nmax_clients=0\nmax_per_ip=0\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
         xferlog_enable=NO\nuse_localtime=NO\n{tls}",
        ip = address.ip(),
        port = address.port(),
    )
}

//! Servers that do not let us in, or may not be talked to.

use super::{assert_kind, open_ftp};
use crate::servers;
use coffer_domain::{driver::ErrorKind, secret::Secret};
use coffer_drivers::ftp::{Config, Security};
use coffer_test_servers::Kind;

const KINDS: [Kind; 4] = [Kind::Vsftpd, Kind::VsftpdExplicit, Kind::VsftpdImplicit, Kind::Proftpd];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_denied() {
    for kind in KINDS {
        let Some(server) = kind.shared() else { continue };
        let config = servers::ftp_config(kind, &server, server.address(), &server.place());
        for (username, password) in [(config.username.as_str(), "not it"), ("nobody-of-that-name", "x")] {
            let (username, password) = (username.to_owned(), Secret::new(password));
            let wrong = Config { username, password, ..config.clone() };
            assert_kind(open_ftp(wrong).await, ErrorKind::Denied, &format!("{kind:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_nobody_is_not_trusted() {
    for kind in [Kind::VsftpdExplicit, Kind::VsftpdImplicit] {
        let Some(server) = kind.shared() else { continue };
        let config = servers::ftp_config(kind, &server, server.address(), &server.place());
        let strange = Config { wire: servers::loopback(), ..config.clone() };
        let failure = open_ftp(strange).await.err().unwrap();
        assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
        let told = failure.source.unwrap().to_string();
        assert!(told.starts_with("not trusted"), "{told}");
        // The certificate is for the name too.
        let named = Config { host: "localhost".to_owned(), ..config };
        open_ftp(named).await.unwrap();
    }
}

/// What asks for TLS is not talked to without, and what has none is not believed to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_is_not_taken_for_protected() {
    if let Some(server) = Kind::VsftpdExplicit.shared() {
        let config = servers::ftp_config(Kind::VsftpdExplicit, &server, server.address(), &server.place());
        let clear = Config { security: Security::Plain, ..config };
        assert_kind(open_ftp(clear).await, ErrorKind::Denied, "a server that asks for TLS");
    }
    if let Some(server) = Kind::Vsftpd.shared() {
        let config = servers::ftp_config(Kind::Vsftpd, &server, server.address(), &server.place());
        let protected = Config { security: Security::Explicit, ..config };
        assert!(open_ftp(protected).await.is_err(), "a server without TLS");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_whose_folder_is_gone_is_unavailable() {
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let Some(server) = kind.shared() else { continue };
        let place = server.place();
        let config = servers::ftp_config(kind, &server, server.address(), &place);
        let driver = open_ftp(config).await.unwrap();
        assert_eq!(driver.list("", None, 10).await.unwrap(), []);
        std::fs::remove_dir_all(server.directory(&place)).unwrap();
        assert_kind(driver.list("", None, 10).await, ErrorKind::Unavailable, "a listing");
        assert_kind(driver.stat(&crate::support::fresh_key()).await, ErrorKind::Unavailable, "a look");
    }
}

/// Names on the disk that no key has, and links, are not there; a folder that may not be looked into is not an empty one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_object_is_not_listed() {
    use std::os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    };
    for kind in [Kind::Vsftpd, Kind::Proftpd] {
        let Some(server) = kind.shared() else { continue };
        let place = server.place();
        let directory = server.directory(&place);
        let driver = open_ftp(servers::ftp_config(kind, &server, server.address(), &place)).await.unwrap();
        for name in [&b"good"[..], b"caf\xe9", b"a\rb", b"a\nb", b"-rw-r--r-- x", b" blank"] {
            std::fs::write(directory.join(std::ffi::OsStr::from_bytes(name)), b"x").unwrap();
        }
        symlink("/etc", directory.join("etc")).unwrap();
        symlink("/etc/passwd", directory.join("passwd")).unwrap();
        let found = driver.list("", None, 100).await.unwrap();
        let found: Vec<_> = found.iter().map(|listed| listed.key.as_str()).collect();
        assert_eq!(found, [" blank", "-rw-r--r-- x", "good"], "{kind:?}");
        if rustix::process::geteuid().is_root() {
            let closed = directory.join("closed");
            std::fs::create_dir(&closed).unwrap();
            std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
            assert_kind(driver.list("", None, 100).await, ErrorKind::Denied, "a folder of somebody else");
            std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
            assert_kind(driver.list("", None, 100).await, ErrorKind::Denied, "one that lets through");
        }
    }
}

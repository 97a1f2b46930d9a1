#![doc = include_str!("../README.md")]

mod apache;
mod certificate;
mod minio;
mod missing;
mod nginx;
mod openssh;
mod process;
mod proftpd;
mod rclone;
mod vsftpd;

pub use missing::find;
pub use openssh::with_subsystem as openssh_with_subsystem;
pub use process::Server;

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What S3's servers take as the access key.
pub const ACCESS_KEY: &str = "test-access-key";
/// What S3's servers take as the secret.
pub const SECRET_KEY: &str = "test-secret-key";
/// What servers of HTTP and FTP take as the user's name, but for vsftpd.
pub const USER: &str = "tester";
/// What servers of HTTP and FTP take as the password; Apache and ProFTPD are told its sum.
pub const PASSWORD: &str = "a test's password";

/// How one logs in to a server of SFTP.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The user's name.
    pub username: String,
    /// The user's private key; without one it is [`PASSWORD`].
    pub key: Option<String>,
    /// What the server's keys are known by, as `ssh-keygen -lf` shows them.
    pub host_keys: Vec<String>,
}

/// A kind of server. One of each runs at a time: who asks while one runs shares it, and it ends with the last who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `rclone serve s3`.
    RcloneS3,
    /// `rclone serve webdav`.
    RcloneWebdav,
    /// Apache with mod_dav.
    ApacheDav,
    /// nginx with PUT and DELETE, which is plain HTTP.
    Nginx,
    /// MinIO, whose files are not the objects.
    Minio,
    /// OpenSSH, which serves SFTP.
    OpenSsh,
    /// `rclone serve sftp`.
    RcloneSftp,
    /// vsftpd in clear.
    Vsftpd,
    /// vsftpd with TLS from the command `AUTH TLS` on.
    VsftpdExplicit,
    /// vsftpd with TLS from the first byte on.
    VsftpdImplicit,
    /// ProFTPD in clear.
    Proftpd,
}

static RUNNING: [Mutex<Weak<Server>>; Kind::ALL.len()] = [const { Mutex::new(Weak::new()) }; Kind::ALL.len()];

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RcloneS3,
        Self::RcloneWebdav,
        Self::ApacheDav,
        Self::Nginx,
        Self::Minio,
        Self::OpenSsh,
        Self::RcloneSftp,
        Self::Vsftpd,
        Self::VsftpdExplicit,
        Self::VsftpdImplicit,
        Self::Proftpd,
    ];

    /// What it takes as the user's name.
    pub fn user(self) -> &'static str {
        match self {
            Self::Vsftpd | Self::VsftpdExplicit | Self::VsftpdImplicit => vsftpd::USER,
            _ => USER,
        }
    }

    /// One that runs, or `None` where its program is missing.
    ///
    /// # Panics
    /// If it does not start, or is missing where `COFFER_REQUIRE_BACKENDS` says that it must not.
    pub fn shared(self) -> Option<Arc<Server>> {
        let mut running = RUNNING[self as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Some(server);
        }
        let server = Arc::new(self.start()?);
        *running = Arc::downgrade(&server);
        Some(server)
    }

    /// One of its own.
    ///
    /// # Panics
    /// As [`Kind::shared`].
    pub fn start(self) -> Option<Server> {
        match self {
            Self::RcloneS3 => rclone::s3(),
            Self::RcloneWebdav => rclone::webdav(),
            Self::ApacheDav => apache::dav(),
            Self::Nginx => nginx::put(),
            Self::Minio => minio::s3(),
            Self::OpenSsh => openssh::sftp(),
            Self::RcloneSftp => rclone::sftp(),
            Self::Vsftpd => vsftpd::ftp(vsftpd::Security::Plain),
            Self::VsftpdExplicit => vsftpd::ftp(vsftpd::Security::Explicit),
            Self::VsftpdImplicit => vsftpd::ftp(vsftpd::Security::Implicit),
            Self::Proftpd => proftpd::ftp(),
        }
    }
}

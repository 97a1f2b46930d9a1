//! Where a volume's backend is, with all that opens it.

use crate::{
    endpoint::{BaseUrl, FtpServer, Login, SftpServer, SshLogin},
    id::{ClusterId, VolumeId},
    secret::Secret,
};
use std::path::PathBuf;

/// Everything a driver needs to open a volume's backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBackend {
    /// The volume.
    pub volume: VolumeId,
    /// The metadata database, which the volume's marker names.
    pub cluster: ClusterId,
    /// Put before every key: empty, or segments ending with `/`.
    pub prefix: String,
    /// Where.
    pub place: Place,
}

/// A backend's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An absolute directory.
    Local(PathBuf),
    /// A bucket.
    S3(S3Place),
    /// A server of HTTP.
    Http(HttpPlace),
    /// An FTP server.
    Ftp(FtpPlace),
    /// An SFTP server.
    Sftp(SftpPlace),
}

/// A bucket, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The API, without a path.
    pub url: BaseUrl,
    /// The bucket's name.
    pub bucket: String,
    /// The region requests are signed for.
    pub region: String,
    /// Whether the bucket stands in the path of requests, and not before the host.
    pub use_path_style: bool,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: Secret,
}

/// An HTTP or WebDAV server, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPlace {
    /// What keys are put behind.
    pub url: BaseUrl,
    /// Whether an object is `{url}?id={key}` and not `{url}/{key}`.
    pub use_query_params: bool,
    /// What opens it, of a kind that HTTP has; `None`: it is open.
    pub login: Option<Login>,
}

/// An FTP server, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FtpPlace {
    /// Where it is, and who logs in.
    pub server: FtpServer,
    /// The user's password.
    pub password: Secret,
}

/// An SFTP server, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    /// Where it is, and who logs in.
    pub server: SftpServer,
    /// What proves it.
    pub login: SshLogin,
}

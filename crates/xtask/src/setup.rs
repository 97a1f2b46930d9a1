//! `cargo xtask setup`: finds what is needed and installs what is missing.

use anyhow::bail;

use crate::workspace::Workspace;

mod go;
mod peers;
mod postgres;
mod tools;

/// Something a task needs from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// rustfmt and clippy of this toolchain.
    RustComponents,
    /// OpenSSL's headers: rusoto compiles in a client that stands on it, though nothing here uses that.
    Openssl,
    /// PostgreSQL's server programs, version 14 or later.
    Postgres,
    Git,
    /// Shows the order of system calls to the driver's tests.
    Strace,
    /// A Python environment with the packages of the interop client.
    Python,
    /// A Go at least as new as the interop client asks for, and its modules.
    Go,
    Buf,
    Grpcurl,
    CargoDeny,
    /// diesel's command line, for PostgreSQL.
    Diesel,
    /// A C++ compiler, for libFuzzer.
    Cpp,
    /// A server of S3 and WebDAV that the drivers are tested with, and a peer to be measured with.
    Rclone,
    /// Another peer, and a server of plain HTTP.
    Nginx,
    /// A server of WebDAV.
    Apache,
    /// A server of S3 that keeps versions.
    Minio,
    /// A server of SFTP, and what makes its keys.
    OpenSsh,
    /// A server of FTP, with TLS too.
    Vsftpd,
    /// A server of FTP with listings for machines.
    Proftpd,
    Curl,
}

/// What the demo needs.
pub(crate) const SERVER: [Need; 2] = [Need::Openssl, Need::Postgres];
/// What printing `schema.rs` needs.
pub(crate) const SCHEMA: [Need; 3] = [Need::RustComponents, Need::Postgres, Need::Diesel];
/// What `lint` needs.
pub(crate) const LINT: [Need; 6] =
    [Need::RustComponents, Need::Openssl, Need::Buf, Need::CargoDeny, Need::Postgres, Need::Diesel];
/// What the tests need to skip none. Go stands before what is built with it.
pub(crate) const TESTS: [Need; 16] = [
    Need::Openssl,
    Need::Postgres,
    Need::Git,
    Need::Strace,
    Need::Python,
    Need::Go,
    Need::Buf,
    Need::Grpcurl,
    Need::Rclone,
    Need::Nginx,
    Need::Apache,
    Need::Minio,
    Need::OpenSsh,
    Need::Vsftpd,
    Need::Proftpd,
    Need::Curl,
];
/// What the fuzz targets need.
pub(crate) const FUZZ: [Need; 2] = [Need::Openssl, Need::Cpp];
/// What transfers are compared with. A benchmark goes on without those it cannot get.
pub(crate) const PEERS: [Need; 3] = [Need::Curl, Need::Rclone, Need::Nginx];
/// All of it.
pub(crate) const EVERYTHING: [Need; 20] = [
    Need::RustComponents,
    Need::Openssl,
    Need::Postgres,
    Need::Git,
    Need::Strace,
    Need::Python,
    Need::Go,
    Need::Buf,
    Need::Grpcurl,
    Need::CargoDeny,
    Need::Diesel,
    Need::Cpp,
    Need::Rclone,
    Need::Nginx,
    Need::Apache,
    Need::Minio,
    Need::OpenSsh,
    Need::Vsftpd,
    Need::Proftpd,
    Need::Curl,
];

/// Installs what is missing of `needs`, in their order.
///
/// # Errors
/// Names everything that is still missing, and how to get it, after having tried all.
pub(crate) fn ensure(workspace: &Workspace, needs: &[Need]) -> anyhow::Result<()> {
    let mut left = Vec::new();
    for need in needs {
        if need.is_met(workspace) {
            continue;
        }
        println!("{need:?} is missing: installing it");
        let reason = match need.install(workspace) {
            Ok(()) if need.is_met(workspace) => continue,
            Ok(()) => "it was installed but is not found".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        left.push(format!("{need:?}: {}\n    {}", need.by_hand(), reason.replace('\n', "\n    ")));
    }
    if !left.is_empty() {
        bail!("still missing:\n  {}", left.join("\n  "));
    }
    Ok(())
}

impl Need {
    fn is_met(self, workspace: &Workspace) -> bool {
        match self {
            Self::RustComponents => tools::has_rust_components(workspace),
            Self::Openssl => tools::has_openssl(workspace),
            Self::Postgres => postgres::is_installed(workspace),
            Self::Git => workspace.has("git"),
            Self::Strace => workspace.has("strace"),
            Self::Python => tools::has_python(workspace),
            Self::Go => go::is_ready(workspace),
            Self::Buf => workspace.has("buf"),
            Self::Grpcurl => workspace.has("grpcurl"),
            Self::CargoDeny => workspace.has("cargo-deny"),
            Self::Diesel => workspace.has("diesel"),
            Self::Cpp => workspace.has("c++"),
            Self::Rclone => peers::has_rclone(workspace),
            Self::Nginx => peers::has_nginx(workspace),
            Self::Apache => workspace.has("apache2"),
            Self::Minio => go::has_minio(workspace),
            Self::OpenSsh => peers::has_openssh(workspace),
            Self::Vsftpd => peers::has_vsftpd(workspace),
            Self::Proftpd => peers::has_proftpd(workspace),
            Self::Curl => workspace.has("curl"),
        }
    }

    fn install(self, workspace: &Workspace) -> anyhow::Result<()> {
        match self {
            Self::RustComponents => tools::install_rust_components(workspace),
            Self::Openssl => tools::apt(workspace, &["libssl-dev", "pkg-config"]),
            Self::Postgres => postgres::install(workspace),
            Self::Git => tools::apt(workspace, &["git", "ca-certificates"]),
            Self::Strace => tools::apt(workspace, &["strace"]),
            Self::Python => tools::install_python(workspace),
            Self::Go => go::install(workspace),
            Self::Buf => tools::install_buf(workspace),
            Self::Grpcurl => go::install_grpcurl(workspace),
            Self::CargoDeny => tools::install_cargo_deny(workspace),
            Self::Diesel => tools::install_diesel(workspace),
            Self::Cpp => tools::apt(workspace, &["g++"]),
            Self::Rclone => peers::install_rclone(workspace),
            Self::Nginx => peers::install_nginx(workspace),
            // The package `apache2` would start a server; this one has only the program and its modules.
            Self::Apache => tools::apt(workspace, &["apache2-bin"]),
            Self::Minio => go::install_minio(workspace),
            Self::OpenSsh => peers::install_openssh(workspace),
            Self::Vsftpd => peers::install_vsftpd(workspace),
            Self::Proftpd => peers::install_proftpd(workspace),
            Self::Curl => tools::apt(workspace, &["curl"]),
        }
    }

    /// What a person does where it cannot be installed from here.
    fn by_hand(self) -> &'static str {
        match self {
            Self::RustComponents => "rustup component add rustfmt clippy",
            Self::Openssl => {
                "install OpenSSL's headers and pkg-config (Debian: apt-get install libssl-dev pkg-config)"
            }
            Self::Postgres => {
                "install PostgreSQL's server, 14 or later (Debian: apt-get install postgresql), \
                 or set COFFER_POSTGRES_BIN to the directory of its programs; it need not run"
            }
            Self::Git => "install git",
            Self::Strace => "install strace",
            Self::Python => {
                "install Python 3 with venv (Debian: apt-get install python3-venv) and let pip reach a registry"
            }
            Self::Go => "install Go in the version that tests/interop/go/go.mod names, or later",
            Self::Buf => "put buf into PATH (npm install --global @bufbuild/buf)",
            Self::Grpcurl => {
                "put grpcurl into PATH (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest)"
            }
            Self::CargoDeny => "cargo install cargo-deny --locked",
            Self::Diesel => {
                "install libpq's headers (Debian: apt-get install libpq-dev), then \
                 cargo install diesel_cli --locked --no-default-features --features postgres"
            }
            Self::Cpp => "install a C++ compiler (Debian: apt-get install g++)",
            Self::Rclone => "put rclone into PATH",
            Self::Nginx => "put nginx into PATH, with its DAV module",
            Self::Apache => "install Apache 2.4 with mod_dav (Debian: apt-get install apache2-bin)",
            Self::Minio => "put minio into PATH (go install github.com/minio/minio@latest)",
            Self::OpenSsh => "install OpenSSH's server and client (Debian: openssh-server, openssh-client)",
            Self::Vsftpd => "put vsftpd into PATH, 3.0 or later",
            Self::Proftpd => "put proftpd into PATH, 1.3.8 or later",
            Self::Curl => "install curl",
        }
    }
}

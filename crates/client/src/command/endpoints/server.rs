//! Where an endpoint is, on the command line.

use crate::command::exit::Failure;
use clap::{Args, ValueEnum};
use coffer_client::v1::{self, endpoint::Server};

/// A bucket, or a server of one of the protocols. The service checks it.
#[derive(Args, Default)]
pub(super) struct Where {
    /// A bucket on S3 or what speaks like it: URL of the API
    #[arg(long, value_name = "URL", requires = "bucket", conflicts_with_all = ["http", "ftp", "sftp"])]
    s3: Option<String>,
    /// Name of the bucket
    #[arg(long, value_name = "NAME", requires = "s3", conflicts_with_all = ["http", "ftp", "sftp"])]
    bucket: Option<String>,
    /// What requests are signed for [default: us-east-1]
    #[arg(long, value_name = "NAME", requires = "s3", conflicts_with_all = ["http", "ftp", "sftp"])]
    region: Option<String>,
    /// The bucket stands before the host, and not in the path
    #[arg(long, requires = "s3", conflicts_with_all = ["http", "ftp", "sftp"])]
    bucket_in_host: bool,
    /// An HTTP or WebDAV server: URL that keys are put behind
    #[arg(long, value_name = "URL", conflicts_with_all = ["ftp", "sftp"])]
    pub(super) http: Option<String>,
    /// An FTP server: its name or address
    #[arg(long, value_name = "HOST", requires = "user", conflicts_with = "sftp")]
    ftp: Option<String>,
    /// How its connections are protected [default: explicit]
    #[arg(long, value_name = "HOW", requires = "ftp", conflicts_with_all = ["s3", "http", "sftp"])]
    security: Option<Security>,
    /// An SFTP server: its name or address
    #[arg(long, value_name = "HOST", requires = "user", requires = "host_key")]
    sftp: Option<String>,
    /// Fingerprint of the key it has to show, as ssh-keygen -lf prints it
    #[arg(long, value_name = "SHA256:…", requires = "sftp", conflicts_with_all = ["s3", "http", "ftp"])]
    host_key: Option<String>,
    /// Port of an FTP or SFTP server [default: that of its protocol]
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["s3", "http"])]
    port: Option<u16>,
    /// Who logs in to an FTP or SFTP server
    #[arg(long, value_name = "NAME", conflicts_with_all = ["s3", "http"])]
    user: Option<String>,
    /// Folder on an FTP or SFTP server, absolute or from where the log-in leads [default: there]
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["s3", "http"])]
    path: Option<String>,
}

/// How connections to an FTP server are protected.
#[derive(Clone, Copy, ValueEnum)]
enum Security {
    /// Not at all: the password and all contents can be read on the way
    Plain,
    /// By TLS that is asked for
    Explicit,
    /// By TLS from the first byte on
    Implicit,
}

impl From<Security> for v1::FtpSecurity {
    fn from(security: Security) -> Self {
        match security {
            Security::Plain => Self::Plain,
            Security::Explicit => Self::Explicit,
            Security::Implicit => Self::Implicit,
        }
    }
}

impl Where {
    /// What is given of it; `None` if nothing is.
    pub(super) fn server(self) -> Result<Option<Server>, Failure> {
        let Self {
            s3,
            bucket,
            region,
            bucket_in_host,
            http,
            ftp,
            security,
            sftp,
            host_key,
            port,
            user,
            path,
        } = self;
        let (is_of_login, port) = (port.is_some() || user.is_some() || path.is_some(), port.map(i32::from));
        let (username, path) = (user.unwrap_or_default(), path.unwrap_or_default());
        Ok(match (s3, http, ftp, sftp) {
            (Some(endpoint_url), None, None, None) => Some(Server::S3Bucket(v1::S3Bucket {
                endpoint_url,
                bucket_name: bucket.unwrap_or_default(),
                region: region.unwrap_or_default(),
                use_ssl: None,
                use_path_style: Some(!bucket_in_host),
            })),
            (None, Some(url), None, None) => Some(Server::Http(v1::HttpServer { url })),
            (None, None, Some(host), None) => Some(Server::Ftp(v1::FtpServer {
                host,
                port,
                security: security.map(v1::FtpSecurity::from).unwrap_or_default().into(),
                username,
                path,
            })),
            (None, None, None, Some(host)) => Some(Server::Sftp(v1::SftpServer {
                host,
                port,
                username,
                host_key: host_key.unwrap_or_default(),
                path,
            })),
            (None, None, None, None) if is_of_login => {
                return Err(Failure::Usage("--port, --user and --path go with --ftp or --sftp".to_owned()));
            }
            (None, None, None, None) => None,
            // What the arguments say of each other lets nothing else through.
            _ => return Err(Failure::Usage("an endpoint is at one place".to_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        server: Where,
    }

    fn read(words: &str) -> Option<Option<Server>> {
        let line = Line::try_parse_from(std::iter::once("at").chain(words.split_whitespace())).ok()?;
        line.server.server().ok()
    }

    #[test]
    fn a_server_that_is_logged_in_to_is_given_with_its_user() {
        let ftp = v1::FtpServer { host: "h".into(), username: "ann".into(), ..Default::default() };
        assert_eq!(read("--ftp h --user ann"), Some(Some(Server::Ftp(ftp.clone()))));
        let (security, path) = (v1::FtpSecurity::Implicit.into(), "/in".to_owned());
        assert_eq!(
            read("--ftp h --user ann --security implicit --port 2121 --path /in"),
            Some(Some(Server::Ftp(v1::FtpServer { port: Some(2121), security, path, ..ftp })))
        );
        let (host, username, host_key) = ("h".to_owned(), "ann".to_owned(), "SHA256:x".to_owned());
        assert_eq!(
            read("--sftp h --user ann --host-key SHA256:x"),
            Some(Some(Server::Sftp(v1::SftpServer { host, username, host_key, ..Default::default() })))
        );
        assert_eq!(read(""), Some(None));
    }

    #[test]
    fn what_belongs_to_one_kind_of_server_goes_with_no_other() {
        for words in [
            "--ftp h",
            "--sftp h --user ann",
            "--sftp h --host-key SHA256:x",
            "--ftp h --user ann --host-key SHA256:x",
            "--sftp h --user ann --host-key SHA256:x --security plain",
            "--ftp h --user ann --security some",
            "--ftp h --user ann --port 65536",
            "--ftp h --user ann --bucket b",
            "--ftp h --sftp h --user ann --host-key SHA256:x",
            "--ftp h --user ann --http http://h",
            "--http http://h --user ann",
            "--http http://h --region r",
            "--s3 https://h --bucket b --port 1",
            "--s3 https://h",
            "--bucket b",
            "--port 21",
            "--user ann",
        ] {
            assert_eq!(read(words), None, "{words}");
        }
    }
}

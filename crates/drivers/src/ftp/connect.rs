//! How a session begins: a connection to a checked address, TLS, the log-in.

use super::{
    error::failure,
    session::{Control, Offers, Session},
};
use crate::{
    remote::Failure,
    wire::{self, Dialler, Patience},
};
use async_trait::async_trait;
use coffer_domain::{driver::ErrorKind, endpoint::FtpSecurity, secret::Secret};
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use suppaftp::{
    FtpError, FtpResult, Mode, Status,
    tokio::{AsyncRustlsStream, AsyncTlsConnector},
    types::FileType,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// TLS sessions that one session of FTP remembers: that of its control connection and those of a few transfers.
const RESUMPTIONS: usize = 16;

/// Who logs in where.
pub(super) struct Account {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: FtpSecurity,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) dialler: Dialler,
    pub(super) tls: ClientConfig,
    pub(super) patience: Patience,
}

impl Account {
    /// A new session.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        let Patience { connect, answer, .. } = self.patience;
        match timeout(connect * 2 + answer, self.begin()).await {
            Ok(begun) => begun,
            Err(_elapsed) => Err(wire::Failure::Silent("a session").into()),
        }
    }

    async fn begin(&self) -> Result<Session, Failure> {
        let tls = Tls::new(&self.tls, self.patience.connect);
        let problem = Arc::clone(&tls.problem);
        let outcome = self.log_in(tls).await;
        // The library keeps of a handshake's failure no more than its text.
        let told = problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (outcome, told) {
            (Ok((control, offers)), _) => Ok(Session::new(control, offers, problem, self.patience)),
            (Err(_), Some(told)) => Err(told.into()),
            (Err(failure), None) => Err(failure),
        }
    }

    async fn log_in(&self, tls: Tls) -> Result<(Control, Offers), Failure> {
        let mut control = self.connect(tls).await?;
        let peer = control.get_ref().await.peer_addr().map_err(FtpError::ConnectionError).map_err(failure)?;
        let limit = self.patience.connect;
        control = control.passive_stream_builder(move |address| {
            Box::pin(async move { dial_data(address, peer.ip(), limit).await })
        });
        // Whatever address an answer names, the port is looked for where the control connection leads.
        control.set_passive_nat_workaround(true);
        control.login(self.username.as_str(), self.password.expose()).await.map_err(failure)?;
        let offers = match control.feat().await {
            Ok(features) => Offers::new(features),
            // It has not heard of features, or tells them in no form of RFC 2389: then it is asked for nothing that is new.
            Err(FtpError::UnexpectedResponse(reply)) if (500..600).contains(&reply.status.code()) => {
                Offers::default()
            }
            Err(FtpError::BadResponse) => Offers::default(),
            Err(error) => return Err(failure(error)),
        };
        if offers.utf8 {
            match control.opts("UTF8", Some("ON")).await {
                // Many always do, and refuse to be told.
                Ok(()) | Err(FtpError::UnexpectedResponse(_)) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        control.transfer_type(FileType::Binary).await.map_err(failure)?;
        let is_extended = offers.epsv || peer.is_ipv6();
        control.set_mode(if is_extended { Mode::ExtendedPassive } else { Mode::Passive });
        Ok((control, offers))
    }

    async fn connect(&self, tls: Tls) -> Result<Control, Failure> {
        let Self { host, port, security, dialler, .. } = self;
        if *security == FtpSecurity::Implicit {
            return self.connect_implicitly(tls).await;
        }
        let stream = dialler.dial(host, *port).await?;
        let control = Control::connect_with_stream(stream).await.map_err(failure)?;
        match security {
            FtpSecurity::Explicit => control.into_secure(tls, bare(host)).await.map_err(failure),
            FtpSecurity::Plain | FtpSecurity::Implicit => Ok(control),
        }
    }

    async fn connect_implicitly(&self, tls: Tls) -> Result<Control, Failure> {
        let mut last = Failure::wrong(ErrorKind::Unavailable, "the host has no address");
        for address in self.dialler.addresses(&self.host, self.port).await? {
            let connecting = Control::connect_secure_implicit(address, tls.clone(), bare(&self.host));
            // It dials, shakes hands and waits for a greeting.
            let mut control = match timeout(self.patience.connect * 3, connecting).await {
                Ok(Ok(control)) => control,
                Ok(Err(error)) => {
                    last = failure(error);
                    continue;
                }
                Err(_elapsed) => {
                    last = wire::Failure::Silent("a connection").into();
                    continue;
                }
            };
            // It fails only on a connection that is gone, which shows at once.
            let _ = control.get_ref().await.set_nodelay(true);
            for command in ["PBSZ 0", "PROT P"] {
                control.custom_command(command, &[Status::CommandOk]).await.map_err(failure)?;
            }
            return Ok(control);
        }
        Err(last)
    }
}

/// A host as certificates name it.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// A data connection, which leads where the control connection does or nowhere.
async fn dial_data(address: SocketAddr, peer: IpAddr, limit: Duration) -> FtpResult<TcpStream> {
    let dialled = match address.ip() == peer {
        true => wire::dial(address, limit).await,
        false => Err(wire::Failure::Malformed("a data connection to another address".to_owned())),
    };
    dialled.map_err(|failure| FtpError::ConnectionError(io::Error::other(failure)))
}

/// TLS of one session: data connections resume the session of the control connection, which many servers ask for, and those of no other.
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    limit: Duration,
    problem: Problem,
}

/// Why the last handshake failed.
pub(super) type Problem = Arc<Mutex<Option<wire::Failure>>>;

impl Tls {
    fn new(config: &ClientConfig, limit: Duration) -> Self {
        let mut config = config.clone();
        config.resumption = Resumption::in_memory_sessions(RESUMPTIONS);
        Self { connector: TlsConnector::from(Arc::new(config)), limit, problem: Problem::default() }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

#[async_trait]
impl AsyncTlsConnector for Tls {
    type Stream = AsyncRustlsStream;

    async fn connect(&self, domain: &str, stream: TcpStream) -> FtpResult<AsyncRustlsStream> {
        let shaken = match ServerName::try_from(domain.to_owned()) {
            Ok(name) => match timeout(self.limit, self.connector.connect(name, stream)).await {
                Ok(Ok(stream)) => Ok(AsyncRustlsStream::from(stream)),
                Ok(Err(error)) => Err(wire::Failure::of_handshake(&error)),
                Err(_elapsed) => Err(wire::Failure::Silent("a TLS handshake")),
            },
            Err(error) => Err(wire::Failure::Config(error.to_string())),
        };
        shaken.map_err(|failure| {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
            FtpError::ConnectionError(io::Error::other(failure))
        })
    }
}

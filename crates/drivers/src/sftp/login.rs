//! Sessions are made: the server shows that it is the one that is pinned, then we log in.

use super::{
    client::Session,
    config::Config,
    error::{has_nothing_in_common, of_login},
    stream::Stream,
};
use crate::{
    remote::Failure,
    wire::{self, Dialler},
};
use async_ssh2_lite::{
    AsyncSession, SessionConfiguration,
    ssh2::{HashType, MethodType},
};
use coffer_domain::{endpoint::SshLogin, secret::Secret};
use data_encoding::BASE64_NOPAD;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;

/// Kinds of keys. A server has one of each, as a rule, and shows the one it is asked for.
const KINDS: [&str; 3] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "rsa-sha2-512,rsa-sha2-256",
];
/// How long libssh2 waits where it does so on a thread: when it is dropped, by which time it has no connection.
const DROP: Duration = Duration::from_secs(5);
/// Most bytes of a file with a key.
const MOST_KEY_BYTES: u64 = 64 * 1024;

/// Logs in.
pub(super) struct Door {
    config: Config,
    dialler: Dialler,
    /// Of which kind the pinned key is, once that is known.
    kind: OnceLock<&'static str>,
}

/// Whom we met.
enum Met {
    /// The server that is pinned.
    Known(Session),
    /// One with this key.
    Stranger(String),
    /// One that has no key of the kind.
    Nobody,
}

impl Door {
    pub(super) fn new(config: Config) -> Self {
        let dialler = Dialler::new(config.wire.policy.clone(), config.wire.patience.connect);
        Self { config, dialler, kind: OnceLock::new() }
    }

    /// A session that is ready.
    pub(super) async fn enter(&self, epoch: u64) -> Result<Session, Failure> {
        let mut session = self.find(epoch).await?;
        self.log_in(&mut session).await?;
        session.ready().await?;
        Ok(session)
    }

    /// The server that is pinned.
    async fn find(&self, epoch: u64) -> Result<Session, Failure> {
        if let Some(kind) = self.kind.get() {
            return match self.meet(kind, epoch).await? {
                Met::Known(session) => Ok(session),
                Met::Stranger(found) => Err(changed(&[found])),
                Met::Nobody => Err(lost()),
            };
        }
        // Nothing says of which kind the pinned key is. One that seemed not to be there is asked for again: a connection may have been lost.
        let (mut strangers, mut left) = (Vec::new(), KINDS.to_vec());
        for _ in 0..2 {
            let mut absent = Vec::new();
            for kind in left {
                match self.meet(kind, epoch).await? {
                    Met::Known(session) => {
                        let _ = self.kind.set(kind);
                        return Ok(session);
                    }
                    Met::Stranger(found) => strangers.push(found),
                    Met::Nobody => absent.push(kind),
                }
            }
            left = absent;
        }
        Err(if strangers.is_empty() { lost() } else { changed(&strangers) })
    }

    /// Shakes hands, and looks at the key.
    async fn meet(&self, kind: &str, epoch: u64) -> Result<Met, Failure> {
        let Config { host, port, host_key, wire, .. } = &self.config;
        let socket = Arc::new(self.dialler.dial(host, *port).await?);
        let mut options = SessionConfiguration::new();
        options.set_timeout(u32::try_from(DROP.as_millis()).unwrap_or(u32::MAX));
        let session = AsyncSession::new(Stream(Arc::clone(&socket)), options).map_err(of_login)?;
        let mut session = Session::new(session, socket, wire.patience, epoch);
        let ssh = session.ssh();
        ssh.method_pref(MethodType::HostKey, kind).await.map_err(of_login)?;
        match timeout(wire.patience.answer, ssh.handshake()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if has_nothing_in_common(&error) => return Ok(Met::Nobody),
            Ok(Err(error)) => return Err(wire::Failure::Broken(format!("no handshake: {error}")).into()),
            Err(_elapsed) => return Err(wire::Failure::Silent("a handshake").into()),
        }
        let found =
            ssh.host_key_hash(HashType::Sha256).map(|sum| format!("SHA256:{}", BASE64_NOPAD.encode(sum)));
        match found {
            Some(found) if found == host_key.to_string() => Ok(Met::Known(session)),
            found => Ok(Met::Stranger(found.unwrap_or_else(|| "none".to_owned()))),
        }
    }

    async fn log_in(&self, session: &mut Session) -> Result<(), Failure> {
        let Config { username, login, wire, .. } = &self.config;
        let limit = wire.patience.answer;
        let ssh = session.ssh();
        let outcome = match login {
            SshLogin::Password(password) => {
                timeout(limit, ssh.userauth_password(username, password.expose())).await
            }
            SshLogin::Key(key) => {
                timeout(limit, ssh.userauth_pubkey_memory(username, None, key.expose(), None)).await
            }
            SshLogin::KeyFile(path) => {
                let key = read_key(path).await?;
                timeout(limit, ssh.userauth_pubkey_memory(username, None, key.expose(), None)).await
            }
        };
        match outcome {
            Ok(Ok(())) if ssh.authenticated() => Ok(()),
            Ok(Ok(())) => {
                Err(wire::Failure::Config("the server wants more than this log-in".to_owned()).into())
            }
            Ok(Err(error)) => Err(of_login(error)),
            Err(_elapsed) => Err(wire::Failure::Silent("a log-in").into()),
        }
    }
}

/// The key in a file, read anew each time: it may be replaced.
async fn read_key(path: &Path) -> Result<Secret, Failure> {
    let unusable = |problem: String| wire::Failure::Config(format!("the file of the key: {problem}"));
    let size = tokio::fs::metadata(path).await.map_err(|error| unusable(error.to_string()))?.len();
    if size > MOST_KEY_BYTES {
        return Err(unusable("it is too large".to_owned()).into());
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| unusable(error.to_string()))?;
    Ok(Secret::new(text))
}

fn changed(found: &[String]) -> Failure {
    let found = found.join(", ");
    wire::Failure::Untrusted(format!("the server's key is {found}, and not the one that is pinned")).into()
}

fn lost() -> Failure {
    wire::Failure::Broken("no key could be exchanged".to_owned()).into()
}

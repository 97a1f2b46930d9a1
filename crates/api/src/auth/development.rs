//! A key of one's own, for a machine without an identity provider: `cofferd` makes it, trusts it, and mints tokens with it.

use super::{Error, PublicKey, TrustedIssuer};
use coffer_domain::time::now;
use data_encoding::BASE64URL_NOPAD;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;
use spki::der::pem::{self, LineEnding};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

/// `iss` of development tokens.
pub const DEVELOPMENT_ISSUER: &str = "coffer-development";

/// `aud` of development tokens.
pub const DEVELOPMENT_AUDIENCE: &str = "coffer";

const PEM_LABEL: &str = "PRIVATE KEY";

/// What a development token says. Checked when it is presented, as any token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The user: a UUID, or a name whose id is derived.
    pub subject: Option<String>,
    /// The tenant.
    pub organisation: Option<String>,
    /// The app.
    pub app: Option<String>,
    /// Projects whose quotas may be charged.
    pub projects: Vec<String>,
    /// `operator`, `admin`, `auditor`, `delegate`.
    pub roles: Vec<String>,
}

/// An Ed25519 key pair in a file.
#[derive(Debug)]
pub struct DevelopmentKey {
    pair: Ed25519KeyPair,
    id: String,
}

impl DevelopmentKey {
    /// Loads the key (PKCS#8 as PEM), making it first if there is none. A file that others can read is refused. Of two processes that
    /// make it at once both use the same.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let file_error = |source| Error::File { path: path.display().to_string(), source };
        match fs::metadata(path) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => create(path).map_err(file_error)?,
            Err(e) => return Err(file_error(e)),
        }
        let unusable = |problem| Error::DevelopmentKey { path: path.display().to_string(), problem };
        if fs::metadata(path).map_err(file_error)?.permissions().mode() & 0o077 != 0 {
            return Err(unusable("must not be accessible to others (chmod 600)"));
        }
        let text = fs::read(path).map_err(file_error)?;
        let (label, pkcs8) = pem::decode_vec(&text).map_err(|_| unusable("is not PEM"))?;
        if label != PEM_LABEL {
            return Err(unusable("is not a private key"));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|_| unusable("is not an Ed25519 key in PKCS#8"))?;
        let fingerprint = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let id = BASE64URL_NOPAD.encode(&fingerprint.as_ref()[..12]);
        Ok(Self { pair, id })
    }

    /// The public half as a trusted issuer.
    pub fn issuer(&self) -> Result<TrustedIssuer, Error> {
        let key = PublicKey::ed25519(self.pair.public_key().as_ref())?;
        TrustedIssuer::with_key(
            DEVELOPMENT_ISSUER,
            vec![DEVELOPMENT_AUDIENCE.to_owned()],
            Some(self.id.clone()),
            key,
        )
    }

    /// A token that is valid from now on for `ttl`, in whole seconds.
    pub fn mint(&self, claims: &Claims, ttl: Duration) -> String {
        let Claims { subject, organisation, app, projects, roles } = claims;
        let issued = now().timestamp();
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id});
        let payload = json!({
            "iss": DEVELOPMENT_ISSUER, "aud": DEVELOPMENT_AUDIENCE, "iat": issued,
            "exp": issued.saturating_add_unsigned(ttl.as_secs()),
            "sub": subject, "org": organisation, "app": app, "projects": projects, "roles": roles,
        });
        let encode = |part: &serde_json::Value| BASE64URL_NOPAD.encode(part.to_string().as_bytes());
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let signature = BASE64URL_NOPAD.encode(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }
}

/// Writes a fresh key beside `path` and links it there, so that it appears whole, and only if nobody else made one.
fn create(path: &Path) -> io::Result<()> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| io::Error::other("no random numbers"))?;
    let pem = pem::encode_string(PEM_LABEL, LineEnding::LF, pkcs8.as_ref())
        .map_err(|e| io::Error::other(e.to_string()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", uuid::Uuid::now_v7()));
    let fresh = Path::new(&name);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    let outcome = file
        .write_all(pem.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(fresh, path));
    fs::remove_file(fresh)?;
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

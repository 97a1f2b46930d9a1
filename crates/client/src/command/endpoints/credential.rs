//! `coffer endpoints credential`

use super::{PAGE_SIZE, paths, removed, secret::Source};
use crate::command::{
    Context,
    exit::Failure,
    json,
    output::{printable, time, value_name},
};
use clap::{ArgGroup, Args, Subcommand};
use coffer_client::v1::{self, login::Kind};
use futures_util::TryStreamExt as _;
use std::pin::pin;

#[derive(Args)]
pub(super) struct Credentials {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List credentials of an endpoint; a volume that names none uses the last one
    List {
        /// UUID of the endpoint
        endpoint: String,
    },
    /// Store what opens an endpoint, or replace what a credential is
    Set(Set),
    /// Remove a credential that no volume needs
    Delete {
        /// UUID of the credential
        id: String,
    },
}

/// The secret itself is read from standard input or a file.
#[derive(Args)]
#[command(group = ArgGroup::new("target").args(["endpoint", "replace"]).required(true))]
struct Set {
    /// UUID of the endpoint it opens
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// UUID of a credential to replace, instead of storing another
    #[arg(long, value_name = "CREDENTIAL")]
    replace: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    source: Source,
    /// What it is, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// One of the kinds of logins.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct How {
    /// Access key id of an S3 bucket; the secret is the secret key
    #[arg(long, value_name = "ID")]
    access_key: Option<String>,
    /// User of an HTTP server; the secret is the password
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The secret is a bearer token of an HTTP server
    #[arg(long)]
    bearer: bool,
    /// Header of an HTTP server; the secret is its value
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// The secret is the password of the user of an FTP or SFTP server
    #[arg(long)]
    password: bool,
    /// The secret is a private key of the user of an SFTP server, without a passphrase
    #[arg(long)]
    private_key: bool,
    /// Private key of the user of an SFTP server in a file of the service, below its `sftp.key_folder`; there is no secret to read
    #[arg(long, value_name = "PATH", conflicts_with = "secret_file")]
    key_file: Option<String>,
}

impl Credentials {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.action {
            Action::List { endpoint } => list(context, endpoint).await,
            Action::Set(set) => set.run(context).await,
            Action::Delete { id } => {
                let request = v1::DeleteCredentialRequest { id: id.clone(), ..Default::default() };
                context.client.delete_credential(request).await?;
                removed(context, "DeleteCredentialResponse", &v1::DeleteCredentialResponse {}, &id)
            }
        }
    }
}

impl Set {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self { endpoint, replace, how, source, description } = self;
        let kind = how.kind(source).await?;
        let login = Some(v1::Login { kind: Some(kind) });
        let credential = match (endpoint, replace) {
            (_, Some(id)) => {
                let paths = paths(&[("login", true), ("description", description.is_some())])?;
                let request = v1::UpdateCredentialRequest {
                    id,
                    login,
                    description: description.unwrap_or_default(),
                    update_mask: Some(prost_types::FieldMask { paths }),
                    request_id: String::new(),
                };
                context.client.update_credential(request).await?
            }
            (endpoint, None) => {
                let request = v1::CreateCredentialRequest {
                    endpoint_id: endpoint.unwrap_or_default(),
                    login,
                    description: description.unwrap_or_default(),
                    request_id: String::new(),
                };
                context.client.create_credential(request).await?
            }
        };
        show(context, &credential)
    }
}

impl How {
    /// What is stored: with the secret, where there is one.
    async fn kind(self, source: Source) -> Result<Kind, Failure> {
        let Self { access_key, user, bearer, header, password, private_key, key_file } = self;
        if let Some(path) = key_file {
            return Ok(Kind::KeyFile(v1::KeyFileLogin { path }));
        }
        // Whoever waits for input keeps no runtime's thread from its work.
        let secret = tokio::task::spawn_blocking(move || source.read()).await;
        let secret =
            secret.map_err(|stopped| Failure::Other(format!("cannot read the secret: {stopped}")))??;
        Ok(match (access_key, user, header) {
            (Some(access_key), None, None) => Kind::S3(v1::S3Login { access_key, secret_key: secret }),
            (None, Some(username), None) => Kind::Basic(v1::BasicLogin { username, password: secret }),
            (None, None, Some(name)) => Kind::CustomHeader(v1::CustomHeaderLogin { name, value: secret }),
            (None, None, None) if bearer => Kind::Bearer(v1::BearerLogin { token: secret }),
            (None, None, None) if password => Kind::Password(v1::PasswordLogin { password: secret }),
            (None, None, None) if private_key => {
                Kind::PrivateKey(v1::PrivateKeyLogin { private_key: secret })
            }
            // The group above lets nothing else through.
            _ => return Err(Failure::Usage("name one kind of credential".to_owned())),
        })
    }
}

async fn list(context: &Context, endpoint_id: String) -> Result<(), Failure> {
    let request = v1::ListCredentialsRequest { page_size: PAGE_SIZE, endpoint_id, ..Default::default() };
    let mut pages = pin!(context.client.credentials(request));
    while let Some(credentials) = pages.try_next().await? {
        credentials.iter().try_for_each(|credential| show(context, credential))?;
    }
    Ok(())
}

fn show(context: &Context, credential: &v1::Credential) -> Result<(), Failure> {
    if context.output.json {
        return context.output.line(json::message("Credential", credential));
    }
    context.output.line(line(credential))
}

fn line(credential: &v1::Credential) -> String {
    let kind = value_name(credential.kind().as_str_name(), "CREDENTIAL_KIND_");
    let v1::Credential { id, endpoint_id, kind: _, access_key, description, create_time, key_path } =
        credential;
    let time = time(create_time.as_ref());
    let text = format!("{id}  of {endpoint_id}  {time}  {kind:<13}  {access_key}{key_path}  {description}");
    printable(text.trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    #[test]
    fn a_credential_is_of_one_kind_and_for_one_thing() {
        let parse = |line: &[&str]| Line::try_parse_from(std::iter::once("set").chain(line.iter().copied()));
        for right in [
            &["e", "--user=u"][..],
            &["e", "--bearer", "--description=d"],
            &["e", "--header=x-key", "--secret-file=f"],
            &["--replace=c", "--access-key=a"],
            &["e", "--password"],
            &["--replace=c", "--private-key", "--secret-file=f"],
            &["e", "--key-file=clinic/id"],
        ] {
            assert!(parse(right).is_ok(), "{right:?}");
        }
        for wrong in [
            &["e"][..],
            &["--user=u"],
            &["e", "--user=u", "--bearer"],
            &["e", "--replace=c", "--bearer"],
            &["e", "--bearer=token"],
            &["e", "--user=u", "--password=p"],
            &["e", "--user=u", "--password"],
            &["e", "--password=p"],
            &["e", "--password", "--private-key"],
            &["e", "--private-key=key"],
            &["e", "--key-file"],
            &["e", "--key-file=id", "--secret-file=f"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn lines() {
        let credential = v1::Credential {
            id: "c".into(),
            endpoint_id: "e".into(),
            kind: v1::CredentialKind::S3.into(),
            access_key: "AK".into(),
            ..Default::default()
        };
        assert_eq!(line(&credential), "c  of e  -  s3             AK");
        let credential = v1::Credential {
            access_key: String::new(),
            kind: v1::CredentialKind::KeyFile.into(),
            key_path: "clinic/id".into(),
            description: "d".into(),
            ..credential
        };
        assert_eq!(line(&credential), "c  of e  -  key_file       clinic/id  d");
    }
}

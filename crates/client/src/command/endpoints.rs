//! `coffer endpoints`

mod credential;
mod secret;
mod server;

use super::{
    Context,
    exit::{Exit, Failure},
    json,
    output::{printable, time, value_name},
};
use clap::{Args, Subcommand};
use coffer_client::v1::{self, endpoint::Server};
use futures_util::TryStreamExt as _;
use server::Where;
use std::{pin::pin, time::Duration};

/// Endpoints or credentials asked for at a time.
const PAGE_SIZE: i32 = 500;

#[derive(Args)]
pub(super) struct Endpoints {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show an endpoint
    Show {
        /// UUID of the endpoint
        id: String,
    },
    /// Make a server known that volumes may stand on; nothing is asked of it
    Create(Create),
    /// Describe an endpoint anew, or move it while no volume stands on it
    Update(Update),
    /// Remove an endpoint that no volume stands on, with its credentials
    Delete {
        /// UUID of the endpoint
        id: String,
    },
    /// List, store and remove what opens an endpoint
    Credential(credential::Credentials),
    /// Try a volume: write, read, list and delete a small object
    Check {
        /// UUID or name of the volume
        volume: String,
    },
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    server: Where,
    /// What it is, for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
}

#[derive(Args)]
struct Update {
    /// UUID of the endpoint
    id: String,
    #[command(flatten)]
    server: Where,
    /// What it is, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl Endpoints {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self.action {
            None => list(context).await,
            Some(Action::Show { id }) => show(context, &client.endpoint(id).await?),
            Some(Action::Create(create)) => {
                let Create { server, description } = create;
                let endpoint = v1::Endpoint { server: server.server()?, description, ..Default::default() };
                if endpoint.server.is_none() {
                    let problem = "say where it is: --s3 with --bucket, --http, --ftp or --sftp";
                    return Err(Failure::Usage(problem.to_owned()));
                }
                let request = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
                show(context, &client.create_endpoint(request).await?)
            }
            Some(Action::Update(update)) => show(context, &client.update_endpoint(update.request()?).await?),
            Some(Action::Delete { id }) => {
                let request = v1::DeleteEndpointRequest { id: id.clone(), ..Default::default() };
                client.delete_endpoint(request).await?;
                removed(context, "DeleteEndpointResponse", &v1::DeleteEndpointResponse {}, &id)
            }
            Some(Action::Credential(credentials)) => credentials.run(context).await,
            Some(Action::Check { volume }) => check(context, &client.check_volume(volume).await?),
        }
    }
}

impl Update {
    fn request(self) -> Result<v1::UpdateEndpointRequest, Failure> {
        let Self { id, server, description } = self;
        let server = server.server()?;
        let paths = paths(&[("server", server.is_some()), ("description", description.is_some())])?;
        let description = description.unwrap_or_default();
        let endpoint = v1::Endpoint { id, server, description, create_time: None };
        Ok(v1::UpdateEndpointRequest {
            endpoint: Some(endpoint),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        })
    }
}

/// The fields that are given; none is wrong usage.
fn paths(fields: &[(&str, bool)]) -> Result<Vec<String>, Failure> {
    let given: Vec<_> =
        fields.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| (*name).to_owned()).collect();
    if given.is_empty() { Err(Failure::Usage("say what is to be changed".to_owned())) } else { Ok(given) }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let request = v1::ListEndpointsRequest { page_size: PAGE_SIZE, ..Default::default() };
    let mut pages = pin!(context.client.endpoints(request));
    while let Some(endpoints) = pages.try_next().await? {
        endpoints.iter().try_for_each(|endpoint| show(context, endpoint))?;
    }
    Ok(())
}

fn show(context: &Context, endpoint: &v1::Endpoint) -> Result<(), Failure> {
    if context.output.json {
        return context.output.line(json::message("Endpoint", endpoint));
    }
    context.output.line(line(endpoint))
}

fn line(endpoint: &v1::Endpoint) -> String {
    let v1::Endpoint { id, server, description, create_time } = endpoint;
    let place = match server {
        Some(Server::S3Bucket(v1::S3Bucket { endpoint_url, bucket_name, region, .. })) => {
            format!("s3    {endpoint_url} {bucket_name} in {region}")
        }
        Some(Server::Http(v1::HttpServer { url })) => format!("http  {url}"),
        Some(Server::Ftp(server)) => {
            let v1::FtpServer { host, port, username, path, .. } = server;
            let security = value_name(server.security().as_str_name(), "FTP_SECURITY_");
            format!("ftp   {} {security}", address(username, host, *port, path))
        }
        Some(Server::Sftp(v1::SftpServer { host, port, username, host_key, path })) => {
            format!("sftp  {} {host_key}", address(username, host, *port, path))
        }
        // A newer service knows more of them.
        None => "?".to_owned(),
    };
    let text = format!("{id}  {}  {place}  {description}", time(create_time.as_ref()));
    printable(text.trim_end()).into_owned()
}

/// Who logs in where, and the folder.
fn address(username: &str, host: &str, port: Option<i32>, path: &str) -> String {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let folder = if path.is_empty() { String::new() } else { format!(" {path}") };
    format!("{username}@{host}{port}{folder}")
}

/// Tells that something is gone.
fn removed(context: &Context, kind: &str, answer: &impl prost::Message, id: &str) -> Result<(), Failure> {
    if context.output.json {
        return context.output.line(json::message(kind, answer));
    }
    context.output.line(format!("{}  removed", printable(id)))
}

/// Tells what was found. A volume that is not healthy is a failure.
fn check(context: &Context, check: &v1::CheckVolumeResponse) -> Result<(), Failure> {
    if context.output.json {
        context.output.line(json::message("CheckVolumeResponse", check))?;
    } else {
        check.steps.iter().try_for_each(|step| context.output.line(step_line(step)))?;
    }
    if check.is_healthy { Ok(()) } else { Err(Failure::Reported(Exit::Other)) }
}

fn step_line(step: &v1::CheckStep) -> String {
    let v1::CheckStep { name, passed, problem, duration_us, detail } = step;
    let duration = Duration::from_micros(u64::try_from(*duration_us).unwrap_or(0));
    let outcome = match (passed, detail.as_str()) {
        (true, _) => "passed".to_owned(),
        (false, "") => format!("failed: {problem}"),
        (false, detail) => format!("failed: {problem}: {detail}"),
    };
    printable(&format!("{name:<8}{:>10.1} ms  {outcome}", duration.as_secs_f64() * 1_000.0)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let server = Server::Http(v1::HttpServer { url: "http://h/dav".into() });
        let mut endpoint = v1::Endpoint { id: "e".into(), server: Some(server), ..Default::default() };
        assert_eq!(line(&endpoint), "e  -  http  http://h/dav");
        endpoint.server = Some(Server::S3Bucket(v1::S3Bucket {
            endpoint_url: "https://s3".into(),
            bucket_name: "photos".into(),
            region: "eu".into(),
            ..Default::default()
        }));
        endpoint.description = "ours\n".into();
        assert_eq!(line(&endpoint), "e  -  s3    https://s3 photos in eu  ours");
        endpoint.server = Some(Server::Ftp(v1::FtpServer {
            host: "fd00::1".into(),
            port: Some(21),
            security: v1::FtpSecurity::Explicit.into(),
            username: "ann".into(),
            path: "/in".into(),
        }));
        assert_eq!(line(&endpoint), "e  -  ftp   ann@[fd00::1]:21 /in explicit  ours");
        let sftp = v1::SftpServer { host: "h".into(), username: "ann".into(), ..Default::default() };
        endpoint.server = Some(Server::Sftp(v1::SftpServer { host_key: "SHA256:x".into(), ..sftp }));
        assert_eq!(line(&endpoint), "e  -  sftp  ann@h SHA256:x  ours");
        let mut step =
            v1::CheckStep { name: "write".into(), passed: true, duration_us: 1_234, ..Default::default() };
        assert_eq!(step_line(&step), "write          1.2 ms  passed");
        (step.passed, step.problem) = (false, "VOLUME_CONFLICT".into());
        assert_eq!(step_line(&step), "write          1.2 ms  failed: VOLUME_CONFLICT");
        (step.problem, step.detail) = ("ADDRESS_FORBIDDEN".into(), "h at 10.0.0.1".into());
        assert_eq!(step_line(&step), "write          1.2 ms  failed: ADDRESS_FORBIDDEN: h at 10.0.0.1");
    }

    #[test]
    fn an_update_names_what_is_given() {
        let update = |server: Where, description: Option<&str>| {
            let description = description.map(str::to_owned);
            Update { id: "e".into(), server, description }.request()
        };
        let mut server = Where::default();
        server.http = Some("http://h".into());
        let request = update(server, Some("")).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["server", "description"]);
        let request = update(Where::default(), Some("d")).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["description"]);
        assert!(matches!(update(Where::default(), None), Err(Failure::Usage(_))));
    }
}

//! Endpoints and credentials between the wire and the domain.

use crate::fields::{Fields, all_or_none, non_empty, to_time};
use coffer_domain::{
    endpoint::{
        BaseUrl, Credential, CredentialChanges, CredentialKind, DEFAULT_REGION, DEFAULT_SFTP_PORT, Endpoint,
        EndpointChanges, Folder, FtpSecurity, FtpServer, Host, HostKey, HttpServer, Login, S3Bucket, Server,
        SftpServer,
    },
    id::{CredentialId, EndpointId},
    secret::Secret,
};
use coffer_proto::v1::{
    self, BasicLogin, BearerLogin, CreateCredentialRequest, CustomHeaderLogin, KeyFileLogin, PasswordLogin,
    PrivateKeyLogin, S3Login, UpdateCredentialRequest, UpdateEndpointRequest,
};

/// A new endpoint. What only the service sets is not looked at.
pub(super) fn endpoint(endpoint: Option<v1::Endpoint>, fields: &mut Fields) -> Option<(Server, String)> {
    let Some(endpoint) = endpoint else { return fields.take("endpoint", Err("must be given")) };
    let v1::Endpoint { id: _, server: kind, description, create_time: _ } = endpoint;
    server(kind, fields).map(|server| (server, description))
}

pub(super) fn endpoint_update(
    message: UpdateEndpointRequest,
    fields: &mut Fields,
) -> Option<(EndpointId, EndpointChanges)> {
    let UpdateEndpointRequest { endpoint, update_mask, request_id: _ } = message;
    let mask = fields.mask(update_mask, &["server", "description"], 2);
    let Some(endpoint) = endpoint else { return fields.take("endpoint", Err("must be given")) };
    let v1::Endpoint { id, server: kind, description, create_time: _ } = endpoint;
    let id = fields.id("endpoint.id", &id);
    let mask = mask?;
    let is_named = |field: &str| mask.iter().any(|named| named == field);
    let server = is_named("server").then(|| server(kind, fields));
    let description = is_named("description").then_some(description);
    Some((id?, EndpointChanges { server: all_or_none(server)?, description }))
}

fn server(kind: Option<v1::endpoint::Server>, fields: &mut Fields) -> Option<Server> {
    match kind {
        Some(v1::endpoint::Server::S3Bucket(v1::S3Bucket {
            endpoint_url,
            bucket_name,
            region,
            use_ssl,
            use_path_style,
        })) => {
            let url = BaseUrl::parse(&endpoint_url, Some(use_ssl.unwrap_or(true)));
            let url = fields.take("endpoint.s3_bucket.endpoint_url", url)?;
            if use_ssl.is_some_and(|use_ssl| use_ssl != url.is_tls()) {
                fields.refuse("endpoint.s3_bucket.use_ssl", "must not contradict the scheme of endpoint_url");
            }
            Some(Server::S3Bucket(S3Bucket {
                url,
                name: bucket_name,
                region: non_empty(region).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
                use_path_style: use_path_style.unwrap_or(true),
            }))
        }
        Some(v1::endpoint::Server::Http(v1::HttpServer { url })) => {
            let url = fields.take("endpoint.http.url", url.parse::<BaseUrl>())?;
            Some(Server::Http(HttpServer { url }))
        }
        Some(v1::endpoint::Server::Ftp(server)) => ftp(server, fields).map(Server::Ftp),
        Some(v1::endpoint::Server::Sftp(server)) => sftp(server, fields).map(Server::Sftp),
        None => fields.take("endpoint.server", Err("must be one of the kinds of server")),
    }
}

fn ftp(server: v1::FtpServer, fields: &mut Fields) -> Option<FtpServer> {
    let v1::FtpServer { host, port: number, security, username, path } = server;
    let host = fields.take("endpoint.ftp.host", host.parse::<Host>());
    let security = fields.optional_enum("endpoint.ftp.security", security, |security| match security {
        v1::FtpSecurity::Unspecified => None,
        v1::FtpSecurity::Plain => Some(FtpSecurity::Plain),
        v1::FtpSecurity::Explicit => Some(FtpSecurity::Explicit),
        v1::FtpSecurity::Implicit => Some(FtpSecurity::Implicit),
    });
    let number = port("endpoint.ftp.port", number, fields);
    let folder = fields.take("endpoint.ftp.path", path.parse::<Folder>());
    let security = security?.unwrap_or_default();
    let port = number?.unwrap_or_else(|| security.default_port());
    Some(FtpServer { host: host?, port, security, username, folder: folder? })
}

fn sftp(server: v1::SftpServer, fields: &mut Fields) -> Option<SftpServer> {
    let v1::SftpServer { host, port: number, username, host_key, path } = server;
    let host = fields.take("endpoint.sftp.host", host.parse::<Host>());
    let number = port("endpoint.sftp.port", number, fields);
    let host_key = fields.take("endpoint.sftp.host_key", host_key.parse::<HostKey>());
    let folder = fields.take("endpoint.sftp.path", path.parse::<Folder>());
    let port = number?.unwrap_or(DEFAULT_SFTP_PORT);
    Some(SftpServer { host: host?, port, username, host_key: host_key?, folder: folder? })
}

/// A port; `None` inside if it is left out.
fn port(field: &str, number: Option<i32>, fields: &mut Fields) -> Option<Option<u16>> {
    let Some(number) = number else { return Some(None) };
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    fields.take(field, port.map(Some).ok_or("must be from 1 to 65535"))
}

/// What opens an endpoint, and the endpoint.
pub(super) fn credential(
    message: CreateCredentialRequest,
    fields: &mut Fields,
) -> Option<(EndpointId, Login, String)> {
    let CreateCredentialRequest { endpoint_id, login: kind, description, request_id: _ } = message;
    let endpoint = fields.id("endpoint_id", &endpoint_id);
    let login = login(kind, fields);
    Some((endpoint?, login?, description))
}

pub(super) fn credential_update(
    message: UpdateCredentialRequest,
    fields: &mut Fields,
) -> Option<(CredentialId, CredentialChanges)> {
    let UpdateCredentialRequest { id, login: kind, description, update_mask, request_id: _ } = message;
    let id = fields.id("id", &id);
    let mask = fields.mask(update_mask, &["login", "description"], 2)?;
    let is_named = |field: &str| mask.iter().any(|named| named == field);
    let login = is_named("login").then(|| login(kind, fields));
    let description = is_named("description").then_some(description);
    Some((id?, CredentialChanges { login: all_or_none(login)?, description }))
}

fn login(login: Option<v1::Login>, fields: &mut Fields) -> Option<Login> {
    use v1::login::Kind;
    Some(match login.and_then(|v1::Login { kind }| kind) {
        Some(Kind::S3(S3Login { access_key, secret_key })) => {
            Login::S3 { access_key, secret_key: Secret::new(secret_key) }
        }
        Some(Kind::Basic(BasicLogin { username, password })) => {
            Login::Basic { username, password: Secret::new(password) }
        }
        Some(Kind::Bearer(BearerLogin { token })) => Login::Bearer { token: Secret::new(token) },
        Some(Kind::CustomHeader(CustomHeaderLogin { name, value })) => {
            Login::CustomHeader { name: name.to_ascii_lowercase(), value: Secret::new(value) }
        }
        Some(Kind::Password(PasswordLogin { password })) => {
            Login::Password { password: Secret::new(password) }
        }
        Some(Kind::PrivateKey(PrivateKeyLogin { private_key })) => {
            Login::PrivateKey { key: Secret::new(private_key) }
        }
        Some(Kind::KeyFile(KeyFileLogin { path })) => Login::KeyFile { path },
        None => return fields.take("login", Err("must be one of the kinds of login")),
    })
}

/// The login without what is secret, for fingerprints of requests: those are stored, and a short secret can be guessed from one.
pub(super) fn without_secrets(login: Option<&v1::Login>) -> Option<v1::Login> {
    use v1::login::Kind;
    let kind = login?.kind.as_ref().map(|kind| match kind {
        Kind::S3(S3Login { access_key, secret_key: _ }) => {
            Kind::S3(S3Login { access_key: access_key.clone(), secret_key: String::new() })
        }
        Kind::Basic(BasicLogin { username, password: _ }) => {
            Kind::Basic(BasicLogin { username: username.clone(), password: String::new() })
        }
        Kind::Bearer(BearerLogin { token: _ }) => Kind::Bearer(BearerLogin { token: String::new() }),
        Kind::CustomHeader(CustomHeaderLogin { name, value: _ }) => {
            Kind::CustomHeader(CustomHeaderLogin { name: name.clone(), value: String::new() })
        }
        Kind::Password(PasswordLogin { password: _ }) => {
            Kind::Password(PasswordLogin { password: String::new() })
        }
        Kind::PrivateKey(PrivateKeyLogin { private_key: _ }) => {
            Kind::PrivateKey(PrivateKeyLogin { private_key: String::new() })
        }
        Kind::KeyFile(KeyFileLogin { path }) => Kind::KeyFile(KeyFileLogin { path: path.clone() }),
    });
    Some(v1::Login { kind })
}

pub(super) fn to_endpoint(endpoint: Endpoint) -> v1::Endpoint {
    let Endpoint { id, server, description, created_at } = endpoint;
    v1::Endpoint {
        id: id.to_string(),
        server: Some(match server {
            Server::S3Bucket(S3Bucket { url, name, region, use_path_style }) => {
                v1::endpoint::Server::S3Bucket(v1::S3Bucket {
                    use_ssl: Some(url.is_tls()),
                    endpoint_url: url.to_string(),
                    bucket_name: name,
                    region,
                    use_path_style: Some(use_path_style),
                })
            }
            Server::Http(HttpServer { url }) => {
                v1::endpoint::Server::Http(v1::HttpServer { url: url.to_string() })
            }
            Server::Ftp(FtpServer { host, port, security, username, folder }) => {
                v1::endpoint::Server::Ftp(v1::FtpServer {
                    host: host.into(),
                    port: Some(port.into()),
                    security: match security {
                        FtpSecurity::Plain => v1::FtpSecurity::Plain,
                        FtpSecurity::Explicit => v1::FtpSecurity::Explicit,
                        FtpSecurity::Implicit => v1::FtpSecurity::Implicit,
                    }
                    .into(),
                    username,
                    path: folder.into(),
                })
            }
            Server::Sftp(SftpServer { host, port, username, host_key, folder }) => {
                v1::endpoint::Server::Sftp(v1::SftpServer {
                    host: host.into(),
                    port: Some(port.into()),
                    username,
                    host_key: host_key.into(),
                    path: folder.into(),
                })
            }
        }),
        description,
        create_time: Some(to_time(created_at)),
    }
}

pub(super) fn to_credential(credential: Credential) -> v1::Credential {
    let Credential { id, endpoint, kind, description, created_at } = credential;
    let (mut access_key, mut key_path) = (String::new(), String::new());
    let kind = match kind {
        CredentialKind::S3 { access_key: id } => {
            access_key = id;
            v1::CredentialKind::S3
        }
        CredentialKind::Basic => v1::CredentialKind::Basic,
        CredentialKind::Bearer => v1::CredentialKind::Bearer,
        CredentialKind::CustomHeader => v1::CredentialKind::CustomHeader,
        CredentialKind::Password => v1::CredentialKind::Password,
        CredentialKind::PrivateKey => v1::CredentialKind::PrivateKey,
        CredentialKind::KeyFile { path } => {
            key_path = path;
            v1::CredentialKind::KeyFile
        }
    };
    v1::Credential {
        id: id.to_string(),
        endpoint_id: endpoint.to_string(),
        kind: kind.into(),
        access_key,
        description,
        create_time: Some(to_time(created_at)),
        key_path,
    }
}

#[cfg(test)]
mod tests;

use super::*;
use crate::fields::converted;
use prost_types::FieldMask;
use v1::{endpoint::Server as WireServer, login::Kind};

fn bucket(endpoint_url: &str, use_ssl: Option<bool>) -> v1::Endpoint {
    let bucket = v1::S3Bucket {
        endpoint_url: endpoint_url.into(),
        bucket_name: "photos".into(),
        use_ssl,
        ..v1::S3Bucket::default()
    };
    v1::Endpoint { server: Some(WireServer::S3Bucket(bucket)), ..v1::Endpoint::default() }
}

#[test]
fn a_bucket_has_the_defaults_of_the_contract_and_its_scheme_from_one_place() {
    for (text, use_ssl, url) in [
        ("s3.example", None, "https://s3.example"),
        ("s3.example:9000", Some(false), "http://s3.example:9000"),
        ("http://s3.example", None, "http://s3.example"),
        ("http://s3.example", Some(false), "http://s3.example"),
    ] {
        let (server, _) = converted(|fields| endpoint(Some(bucket(text, use_ssl)), fields)).unwrap();
        let Server::S3Bucket(S3Bucket { url: read, name, region, use_path_style }) = server else {
            panic!("a bucket")
        };
        assert_eq!(
            (read.to_string().as_str(), name.as_str(), region.as_str(), use_path_style),
            (url, "photos", "us-east-1", true)
        );
    }
    for (bad, field) in [
        (bucket("http://s3.example", Some(true)), "endpoint.s3_bucket.use_ssl"),
        (bucket("ftp://s3.example", None), "endpoint.s3_bucket.endpoint_url"),
        (v1::Endpoint::default(), "endpoint.server"),
    ] {
        assert_eq!(converted(|fields| endpoint(Some(bad), fields)).unwrap_err(), [field]);
    }
    assert_eq!(converted(|fields| endpoint(None, fields)).unwrap_err(), ["endpoint"]);
}

const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrrIXVGDRyELCcmtMTXgvz3s";

fn ftp_server() -> v1::FtpServer {
    v1::FtpServer { host: "ftp.example".into(), username: "ann".into(), ..v1::FtpServer::default() }
}

fn sftp_server() -> v1::SftpServer {
    v1::SftpServer {
        host: "sftp.example".into(),
        username: "ann".into(),
        host_key: HOST_KEY.into(),
        ..v1::SftpServer::default()
    }
}

fn read(server: WireServer) -> Result<Server, Vec<String>> {
    let wire = v1::Endpoint { server: Some(server), ..v1::Endpoint::default() };
    converted(|fields| endpoint(Some(wire), fields)).map(|(server, _)| server)
}

#[test]
fn a_server_has_the_port_of_its_protocol_and_protected_connections() {
    for (security, port, read_as, at) in [
        (v1::FtpSecurity::Unspecified, None, FtpSecurity::Explicit, 21),
        (v1::FtpSecurity::Plain, None, FtpSecurity::Plain, 21),
        (v1::FtpSecurity::Explicit, Some(990), FtpSecurity::Explicit, 990),
        (v1::FtpSecurity::Implicit, None, FtpSecurity::Implicit, 990),
        (v1::FtpSecurity::Implicit, Some(65_535), FtpSecurity::Implicit, 65_535),
    ] {
        let wire = v1::FtpServer { security: security.into(), port, ..ftp_server() };
        let Ok(Server::Ftp(server)) = read(WireServer::Ftp(wire)) else { panic!("an FTP server") };
        assert_eq!((server.security, server.port), (read_as, at));
    }
    let Ok(Server::Sftp(server)) = read(WireServer::Sftp(sftp_server())) else { panic!("an SFTP server") };
    assert_eq!((server.port, server.folder.as_str()), (22, ""));
}

#[test]
fn every_bad_field_of_a_server_is_told() {
    let ftp = v1::FtpServer {
        host: "a\r\nb".into(),
        port: Some(0),
        security: 99,
        path: "../x".into(),
        ..ftp_server()
    };
    let fields = ["host", "security", "port", "path"].map(|field| format!("endpoint.ftp.{field}"));
    assert_eq!(read(WireServer::Ftp(ftp)).unwrap_err(), fields);
    for port in [-1, 0, 65_536, i32::MAX] {
        let wire = v1::SftpServer { port: Some(port), ..sftp_server() };
        assert_eq!(read(WireServer::Sftp(wire)).unwrap_err(), ["endpoint.sftp.port"], "{port}");
    }
    for host_key in ["", "SHA256:", "MD5:16:27", &HOST_KEY[7..], &HOST_KEY[..49]] {
        let wire = v1::SftpServer { host_key: host_key.into(), ..sftp_server() };
        assert_eq!(read(WireServer::Sftp(wire)).unwrap_err(), ["endpoint.sftp.host_key"], "{host_key}");
    }
    let empty = ["host", "host_key"].map(|field| format!("endpoint.sftp.{field}"));
    assert_eq!(read(WireServer::Sftp(v1::SftpServer::default())).unwrap_err(), empty);
}

#[test]
fn an_endpoint_goes_out_as_it_came_in() {
    for server in [
        bucket("https://s3.example", Some(true)).server,
        Some(WireServer::Http(v1::HttpServer { url: "http://h/a".into() })),
        Some(WireServer::Ftp(v1::FtpServer { path: "/in".into(), ..ftp_server() })),
        Some(WireServer::Ftp(v1::FtpServer { security: v1::FtpSecurity::Plain.into(), ..ftp_server() })),
        Some(WireServer::Sftp(v1::SftpServer { port: Some(2_222), ..sftp_server() })),
    ] {
        let wire = v1::Endpoint { server, description: "d".into(), ..v1::Endpoint::default() };
        let (server, description) = converted(|fields| endpoint(Some(wire), fields)).unwrap();
        let made = Endpoint::new(server, description);
        let again = converted(|fields| endpoint(Some(to_endpoint(made.clone())), fields)).unwrap();
        assert_eq!(again, (made.server, made.description));
    }
}

#[test]
fn only_what_the_mask_names_is_changed_and_has_to_be_there() {
    let id = EndpointId::new();
    let update = |wire: v1::Endpoint, paths: &[&str]| {
        let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
        let endpoint = Some(v1::Endpoint { id: id.to_string(), ..wire });
        converted(|fields| {
            endpoint_update(
                UpdateEndpointRequest { endpoint, update_mask, request_id: String::new() },
                fields,
            )
        })
    };
    let (_, changes) = update(bucket("s3.example", None), &["description"]).unwrap();
    assert_eq!(changes, EndpointChanges { server: None, description: Some(String::new()) });
    assert_eq!(update(v1::Endpoint::default(), &["server"]).unwrap_err(), ["endpoint.server"]);
    assert_eq!(update(v1::Endpoint::default(), &["id"]).unwrap_err(), ["update_mask"]);
    assert_eq!(update(v1::Endpoint::default(), &[]).unwrap_err(), ["update_mask"]);
}

#[test]
fn a_fingerprint_holds_no_secret() {
    for kind in [
        Kind::S3(S3Login { access_key: "name".into(), secret_key: "swordfish".into() }),
        Kind::Basic(BasicLogin { username: "name".into(), password: "swordfish".into() }),
        Kind::Bearer(BearerLogin { token: "swordfish".into() }),
        Kind::CustomHeader(CustomHeaderLogin { name: "name".into(), value: "swordfish".into() }),
        Kind::Password(PasswordLogin { password: "swordfish".into() }),
        Kind::PrivateKey(PrivateKeyLogin { private_key: "swordfish".into() }),
        Kind::KeyFile(KeyFileLogin { path: "name".into() }),
    ] {
        let is_all_secret = matches!(kind, Kind::Bearer(_) | Kind::Password(_) | Kind::PrivateKey(_));
        let shown = format!("{:?}", without_secrets(Some(&v1::Login { kind: Some(kind) })));
        assert!(!shown.contains("swordfish") && (is_all_secret || shown.contains("name")), "{shown}");
    }
}

#[test]
fn a_credential_shows_what_of_it_is_no_secret() {
    let shown = |login: Login| {
        let v1::Credential { kind, access_key, key_path, .. } =
            to_credential(Credential::new(EndpointId::new(), &login, String::new()));
        (v1::CredentialKind::try_from(kind).unwrap(), access_key, key_path)
    };
    let (secret, none) = (|| Secret::new("swordfish"), String::new);
    let s3 = Login::S3 { access_key: "AK".into(), secret_key: secret() };
    assert_eq!(shown(s3), (v1::CredentialKind::S3, "AK".into(), none()));
    let password = Login::Password { password: secret() };
    assert_eq!(shown(password), (v1::CredentialKind::Password, none(), none()));
    let key = Login::PrivateKey { key: secret() };
    assert_eq!(shown(key), (v1::CredentialKind::PrivateKey, none(), none()));
    let file = Login::KeyFile { path: "clinic/id".into() };
    assert_eq!(shown(file), (v1::CredentialKind::KeyFile, none(), "clinic/id".into()));
}

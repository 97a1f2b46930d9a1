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

#[test]
fn an_endpoint_goes_out_as_it_came_in() {
    for server in [
        bucket("https://s3.example", Some(true)).server,
        Some(WireServer::Http(v1::HttpServer { url: "http://h/a".into() })),
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
    ] {
        let is_bearer = matches!(kind, Kind::Bearer(_));
        let shown = format!("{:?}", without_secrets(Some(&v1::Login { kind: Some(kind) })));
        assert!(!shown.contains("swordfish") && (is_bearer || shown.contains("name")), "{shown}");
    }
}

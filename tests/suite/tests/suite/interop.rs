//! Clients in other languages and the operator's tools, from the contract alone.

use coffer_tests::{
    Cofferd, Token,
    cofferd::{target_directory, workspace},
    missing,
};
use serde_json::{Value, json};
use std::{path::PathBuf, process::Command};

/// Exit code by which a client says that a tool it needs is missing.
const MISSING: i32 = 77;

async fn run(language: &str) {
    let cofferd = Cofferd::start().await;
    let mut command = Command::new(workspace().join("tests/interop").join(language).join("run.sh"));
    command.env("ADDR", cofferd.grpc_addr()).env("TOKEN", cofferd.token(&Token::user("ann", "clinic")));
    command
        .env("COFFER_ADDR", cofferd.grpc_addr())
        .env("COFFER_TOKEN", cofferd.token(&Token::user("ann", "clinic")));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("the client can be started");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(MISSING) {
        return missing::ignore(language);
    }
    assert!(output.status.success(), "{said}");
    println!("{said}");
    for fact in [
        "upload.sha256 ",
        "read.length 700001",
        "list.count 1",
        "bad_path.code INVALID_ARGUMENT",
        "bad_path.reason FIELD_INVALID",
        "bad_path.field_violation spec.path",
    ] {
        assert!(said.contains(fact), "{fact} is not in:\n{said}");
    }
    assert!(cofferd.database.number("SELECT count(*) FROM storage_files").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client() {
    run("python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_go_client() {
    run("go").await;
}

/// grpcurl where the set-up puts it, else from the PATH.
fn grpcurl() -> Option<PathBuf> {
    let installed = target_directory().join("tools/bin/grpcurl");
    if installed.exists() { Some(installed) } else { missing::has("grpcurl").then(|| "grpcurl".into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_grpcurl() {
    let Some(grpcurl) = grpcurl() else { return missing::ignore("grpcurl") };
    let cofferd = Cofferd::start().await;
    let ann = cofferd.token(&Token::user("ann", "clinic"));
    let auditor = cofferd.token(&Token::user("aud", "clinic").role("auditor"));
    let call = |token: &str, messages: &[Value], method: &[&str]| {
        let mut command = Command::new(&grpcurl);
        command.arg("-plaintext").arg("-H").arg(format!("authorization: Bearer {token}"));
        if !messages.is_empty() {
            command.arg("-d").arg(messages.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"));
        }
        let output = command.arg(cofferd.grpc_addr()).args(method).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (ok, services, error) = call(&ann, &[], &["list"]);
    assert!(ok, "{error}");
    for service in [
        "coffer.v1.TransferService",
        "coffer.v1.FileService",
        "coffer.v1.VolumeService",
        "coffer.v1.QuotaService",
        "coffer.v1.AuditService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(service), "{service} is not in:\n{services}");
    }
    let content = data_encoding::BASE64.encode(b"hello, coffer");
    let upload = [
        json!({"spec": {"path": "hello.txt"}}),
        json!({"data": {"content": content}}),
        json!({"writeOffset": 13, "finish": true}),
    ];
    let (ok, answer, error) = call(&ann, &upload, &["coffer.v1.TransferService/WriteFile"]);
    assert!(ok, "{error}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (answer["file"]["path"].as_str(), answer["file"]["sizeBytes"].as_str()),
        (Some("hello.txt"), Some("13"))
    );
    let (ok, answer, error) = call(&ann, &[json!({})], &["coffer.v1.FileService/ListFiles"]);
    assert!(ok && answer.contains("hello.txt"), "{answer}{error}");
    let (ok, answer, error) = call(
        &ann,
        &[json!({"file": {"path": {"path": "hello.txt"}}})],
        &["coffer.v1.TransferService/ReadFile"],
    );
    assert!(ok && answer.contains(&content), "{answer}{error}");
    let (ok, answer, error) = call(&auditor, &[json!({})], &["coffer.v1.AuditService/ListOperations"]);
    assert!(
        ok && answer.contains("OPERATION_KIND_UPLOAD") && answer.contains("OPERATION_KIND_DOWNLOAD"),
        "{answer}{error}"
    );
    let (ok, _, error) =
        call(&ann, &[json!({"file": {"id": "nonsense"}})], &["coffer.v1.FileService/GetFile"]);
    assert!(
        !ok && error.contains("InvalidArgument")
            && error.contains("FIELD_INVALID")
            && error.contains("file.id"),
        "{error}"
    );
    let (ok, answer, error) =
        call(&ann, &[json!({"service": "coffer.v1.FileService"})], &["grpc.health.v1.Health/Check"]);
    assert!(ok && answer.contains("SERVING"), "{answer}{error}");
}

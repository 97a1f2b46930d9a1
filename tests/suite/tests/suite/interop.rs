//! Clients in other languages and the operator's tools, from the contract alone.

use coffer_tests::{
    Cofferd, Token,
    cofferd::{target_directory, workspace},
    missing,
};
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
    let run = |command: &str| {
        let tools = grpcurl.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let output = Command::new("bash")
            .arg("-c")
            .arg(command.replace("127.0.0.1:50051", cofferd.grpc_addr()))
            .env("PATH", format!("{tools}:{}", std::env::var("PATH").unwrap_or_default()))
            .env("TOKEN", cofferd.token(&Token::user("ann", "clinic")))
            .env("AUDITOR", cofferd.token(&Token::user("eve", "clinic").role("auditor")))
            .output()
            .unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    // The commands of the README, as they stand there, and what each must show.
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let commands: Vec<_> = readme.lines().filter(|line| line.starts_with("grpcurl ")).collect();
    let shown: [&[&str]; 5] = [
        &[
            "coffer.v1.TransferService",
            "coffer.v1.FileService",
            "coffer.v1.VolumeService",
            "coffer.v1.QuotaService",
            "coffer.v1.AuditService",
            "grpc.health.v1.Health",
        ],
        &["\"path\": \"hello.txt\"", "\"sizeBytes\": \"13\""],
        &["\"path\": \"hello.txt\""],
        &["aGVsbG8sIGNvZmZlcg=="],
        &["OPERATION_KIND_UPLOAD", "OPERATION_KIND_DOWNLOAD", "OPERATION_KIND_LIST"],
    ];
    assert_eq!(commands.len(), shown.len(), "{commands:#?}");
    for (command, shown) in commands.into_iter().zip(shown) {
        let (ok, said) = run(command);
        println!("$ {command}\n{said}");
        assert!(ok, "{command}\n{said}");
        for text in shown {
            assert!(said.contains(text), "{text} is not in the answer to\n{command}\n{said}");
        }
    }
    // A refusal can be read, details included.
    let (ok, said) = run(
        r#"grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d '{"file":{"id":"nonsense"}}' 127.0.0.1:50051 coffer.v1.FileService/GetFile"#,
    );
    assert!(
        !ok && said.contains("InvalidArgument") && said.contains("FIELD_INVALID") && said.contains("file.id"),
        "{said}"
    );
    let (ok, said) = run(
        r#"grpcurl -plaintext -d '{"service":"coffer.v1.FileService"}' 127.0.0.1:50051 grpc.health.v1.Health/Check"#,
    );
    assert!(ok && said.contains("SERVING"), "{said}");
}

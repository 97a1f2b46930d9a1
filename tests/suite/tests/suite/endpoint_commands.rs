//! `coffer endpoints`: what an operator does about servers, with no other tool.

use crate::{endpoints, ftp_endpoints, volumes};
use coffer_proto::v1::{self, volume::Backend};
use coffer_test_servers::Kind;
use coffer_tests::{Cofferd, Token, cofferd::command, proxy::Proxy};
use serde_json::{Value, json};
use std::{io::Write as _, process::Stdio};

/// The command in the name of a caller.
struct Desk {
    addr: String,
    token: String,
}

impl Desk {
    fn at(cofferd: &Cofferd, token: &Token) -> Self {
        Self { addr: format!("http://{}", cofferd.grpc_addr()), token: cofferd.token(token) }
    }

    /// Exit code, what is printed and what is said beside it, for words that are separated by blanks and what is typed.
    fn run(&self, words: &str, input: &str) -> (Option<i32>, String, String) {
        let mut command = command("coffer");
        command.args(["--addr", &self.addr, "--retry", "0", "endpoints"]).args(words.split(' '));
        command.env("COFFER_TOKEN", &self.token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that needs no input may have gone.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The document it prints.
    fn json(&self, words: &str, input: &str) -> Value {
        let (exit, printed, said) = self.run(&format!("{words} --json"), input);
        assert_eq!(exit, Some(0), "{words}: {said}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{words}: {error}: {printed}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_needs_the_command_alone() {
    let Some(server) = Kind::Nginx.shared() else { return };
    let cofferd = Cofferd::start_with(&[("egress.allow", "127.0.0.0/8")]).await;
    let proxy = Proxy::start(&server.address().to_string()).await;
    let token = Token::user("olga", "clinic").role("operator");
    let desk = Desk::at(&cofferd, &token);
    let url = format!("http://{}/{}", proxy.addr(), server.place());
    let web = desk.json(&format!("create --http {url} --description ours"), "");
    assert_eq!((&web["http"], &web["description"]), (&json!({ "url": url }), &json!("ours")));
    let id = web["id"].as_str().unwrap();
    let photos = desk.json("create --s3 https://s3.example --bucket photos --region eu --bucket-in-host", "");
    let bucket = &photos["s3_bucket"];
    assert_eq!(
        (&bucket["bucket_name"], &bucket["region"], &bucket["use_path_style"]),
        (&json!("photos"), &json!("eu"), &json!(false))
    );
    assert_eq!(desk.json(&format!("show {id}"), ""), web);
    let updated = desk.json(&format!("update {id} --description theirs"), "");
    assert_eq!((&updated["description"], &updated["http"]), (&json!("theirs"), &web["http"]));
    let bucket = photos["id"].as_str().unwrap();
    let moved = desk.json(&format!("update {bucket} --s3 https://other.example --bucket photos"), "");
    assert_eq!(moved["s3_bucket"]["endpoint_url"], json!("https://other.example"));
    let (exit, listed, _) = desk.run("--json", "");
    assert_eq!((exit, listed.lines().count()), (Some(0), 2), "{listed}");

    // Secrets from standard input and from a file, and out again from nowhere.
    let mut shown = String::new();
    let mut keep = |(exit, printed, said): (Option<i32>, String, String)| {
        assert_eq!(exit, Some(0), "{said}");
        shown += &(printed.clone() + &said);
        printed
    };
    let first = desk.json(&format!("credential set {id} --user ann"), "swordfish-1\n");
    let first = first["id"].as_str().unwrap();
    let file = cofferd.data_dir().join("secret");
    std::fs::write(&file, "swordfish-2\n").unwrap();
    let file = file.to_str().unwrap();
    keep(
        desk.run(
            &format!("credential set --replace {first} --bearer --secret-file {file} --description d"),
            "",
        ),
    );
    keep(desk.run(&format!("credential set {id} --header x-key"), "swordfish-3"));
    keep(desk.run(&format!("credential set {bucket} --access-key AK"), "swordfish-4"));
    let listed = keep(desk.run(&format!("credential list {id}"), ""));
    let kinds: Vec<_> = listed.lines().map(|line| line.contains("bearer")).collect();
    assert_eq!(kinds, [true, false], "{listed}");
    assert!(!shown.contains("swordfish"), "{shown}");
    let stored = "SELECT (SELECT count(*) FROM http_credentials) + (SELECT count(*) FROM s3_credentials)";
    assert_eq!(cofferd.database.number(stored).await, 3);

    let operator = cofferd.clients(&token).await;
    let backend = Backend::Http(v1::HttpBackend { endpoint_id: id.into(), ..Default::default() });
    let volume = v1::Volume { name: "far".into(), backend: Some(backend), ..Default::default() };
    volumes::create(&operator, volume).await.unwrap();
    let check = desk.json("check far", "");
    assert_eq!(check["is_healthy"], json!(true), "{check}");
    let (exit, printed, _) = desk.run("check far", "");
    assert!(exit == Some(0) && printed.lines().all(|line| line.ends_with("passed")), "{printed}");
    proxy.point_at("127.0.0.1:1");
    proxy.cut();
    let (exit, printed, _) = desk.run("check far", "");
    assert!(exit == Some(1) && printed.contains("failed: BACKEND_UNAVAILABLE"), "{exit:?} {printed}");
    let (exit, _, said) = desk.run(&format!("delete {id}"), "");
    assert_eq!(exit, Some(5), "a volume stands on it: {said}");
    assert_eq!(desk.json(&format!("delete {bucket}"), ""), json!({}));
    assert_eq!(desk.run(&format!("show {bucket}"), "").0, Some(3));
    assert_eq!(desk.json(&format!("credential delete {first}"), ""), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_logged_in_to_is_told_whole() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("id"), "key").unwrap();
    let cofferd = Cofferd::start_with(&[("sftp.key_folder", folder.path().to_str().unwrap())]).await;
    let desk = Desk::at(&cofferd, &Token::user("olga", "clinic").role("operator"));
    let plain = desk.json("create --ftp Ftp.example --user ann --security plain --path /in", "");
    assert_eq!(
        plain["ftp"],
        json!({
            "host": "ftp.example", "port": 21, "security": "FTP_SECURITY_PLAIN", "username": "ann", "path": "/in"
        })
    );
    let key = ftp_endpoints::HOST_KEY;
    let secure = desk.json(&format!("create --sftp fd00::1 --port 2222 --user ann --host-key {key}"), "");
    let id = secure["id"].as_str().unwrap();
    let moved = desk.json(&format!("update {id} --sftp h --user ann --host-key {key}"), "");
    assert_eq!((&moved["sftp"]["host"], &moved["sftp"]["port"]), (&json!("h"), &json!(22)));
    let made = desk.json(&format!("credential set {id} --password"), "swordfish\n");
    assert_eq!(made["kind"], json!("CREDENTIAL_KIND_PASSWORD"));
    assert_eq!(desk.run(&format!("credential set {id} --password"), "swordfish").0, Some(5), "it has one");
    let credential = made["id"].as_str().unwrap();
    let private = ftp_endpoints::pem("c3dvcmRmaXNo");
    let changed = desk.json(&format!("credential set --replace {credential} --private-key"), &private);
    assert_eq!(changed["kind"], json!("CREDENTIAL_KIND_PRIVATE_KEY"));
    // Nothing is read where nothing is secret.
    let changed = desk.json(&format!("credential set --replace {credential} --key-file id"), "");
    assert_eq!((&changed["kind"], &changed["key_path"]), (&json!("CREDENTIAL_KIND_KEY_FILE"), &json!("id")));
    let (exit, listed, _) = desk.run(&format!("credential list {id}"), "");
    assert!(exit == Some(0) && listed.trim_end().ends_with("key_file       id"), "{listed}");
    let (_, listed, _) = desk.run("--json", "");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let plain = plain["id"].as_str().unwrap();
    let (_, shown, _) = desk.run(&format!("show {plain}"), "");
    assert!(shown.trim_end().ends_with("ftp   ann@ftp.example:21 /in plain"), "{shown}");
    assert_eq!(desk.json(&format!("credential delete {credential}"), ""), json!({}));
    for id in [plain, id] {
        assert_eq!(desk.json(&format!("delete {id}"), ""), json!({}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_changes_nothing() {
    let cofferd = Cofferd::start().await;
    let token = Token::user("olga", "clinic").role("operator");
    let operator = cofferd.clients(&token).await;
    let web = endpoints::create(&operator, endpoints::http("http://example.org")).await.unwrap().id;
    let desk = Desk::at(&cofferd, &token);
    for (words, input, code) in [
        ("create".to_owned(), "", 2),
        ("create --http file:///etc/passwd".to_owned(), "", 2),
        ("create --http http://example.org".to_owned(), "", 5),
        (format!("update {web}"), "", 2),
        (format!("credential set {web} --bearer"), "", 2),
        (format!("credential set {web} --bearer"), "\n", 2),
        (format!("credential set {web} --bearer --secret-file /nowhere"), "x", 2),
        (format!("credential set {web} --bearer=swordfish"), "", 2),
        (format!("credential set {web} --header host"), "x", 2),
        (format!("credential set {web} --access-key a"), "x", 2),
        (format!("credential set {web} --password"), "x", 2),
        (format!("credential set {web} --private-key"), "x", 2),
        (format!("credential set {web} --key-file id"), "", 2),
        ("create --ftp h".to_owned(), "", 2),
        ("create --ftp h --user ann --port 0".to_owned(), "", 2),
        ("create --ftp h --user ann --host-key SHA256:x".to_owned(), "", 2),
        ("create --sftp h --user ann".to_owned(), "", 2),
        ("create --sftp h --user ann --host-key SHA256:x".to_owned(), "", 2),
        ("create --http http://h --user ann".to_owned(), "", 2),
        ("check nothing".to_owned(), "", 3),
    ] {
        let (exit, printed, said) = desk.run(&words, input);
        assert_eq!((exit, printed.as_str()), (Some(code), ""), "{words}: {said}");
    }
    let ann = Desk::at(&cofferd, &Token::user("ann", "clinic"));
    assert_eq!(ann.run(&format!("show {web}"), "").0, Some(4));
    assert_eq!(cofferd.database.number("SELECT count(*) FROM http_credentials").await, 0);
}

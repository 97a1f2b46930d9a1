//! `cofferd check-config`, as an operator meets it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// `cofferd` in an empty environment and a directory of its own.
fn cofferd(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferd"));
    command.env_clear().current_dir(dir).arg("check-config");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_anything_the_defaults_are_shown_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let output = cofferd(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("grpc.addr = \"127.0.0.1:50051\""), "{text}");
    assert!(text.contains("# database.url is not set"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cofferd.toml");
    fs::write(
        &file,
        "default_volume = \"file\"\nshutdown.grace = \"1s\"\n[grpc]\naddr = \"127.0.0.1:1\"\nmax_connections = 7\n",
    )
    .unwrap();
    let output = cofferd(dir.path())
        .env("COFFER_CONFIG", &file)
        .env("COFFER_DEFAULT_VOLUME", "environment")
        .env("COFFER_GRPC_ADDR", "127.0.0.1:2")
        .args(["--set", "grpc.addr=127.0.0.1:3"])
        .args(["--grpc-addr", "127.0.0.1:4"])
        .output()
        .unwrap();
    let text = stdout(&output);
    for (value, source) in [
        ("default_volume = \"environment\"", "COFFER_DEFAULT_VOLUME".to_owned()),
        ("grpc.addr = \"127.0.0.1:4\"", "--grpc-addr".to_owned()),
        ("grpc.max_connections = 7", format!("{}:5", file.display())),
        ("shutdown.grace = \"1s\"", format!("{}:2", file.display())),
        ("http.addr = \"127.0.0.1:9464\"", "default".to_owned()),
    ] {
        let line =
            text.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{value}: {text}"));
        assert_eq!(line.rsplit_once(" # ").unwrap().1, source, "{line}");
    }
}

#[test]
fn what_is_shown_is_a_file_that_gives_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = cofferd(dir.path())
        .args(["--set", "local_paths.allowed_roots=/srv/a:/srv/b c", "--set", "telemetry.sample_ratio=0.25"])
        .args(["--set", "telemetry.log_filter=warn,coffer_api=debug", "--set", "reconcile.orphan_grace=90m"])
        .output()
        .unwrap();
    assert!(first.status.success(), "{}", stderr(&first));
    fs::write(dir.path().join("same.toml"), &first.stdout).unwrap();
    let second = cofferd(dir.path()).args(["--config", "same.toml"]).output().unwrap();
    assert!(second.status.success(), "{}", stderr(&second));
    let values = |output: &Output| {
        stdout(output)
            .lines()
            .filter_map(|line| Some(line.rsplit_once(" # ")?.0.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&second));
    assert!(
        stdout(&first).contains(r#"local_paths.allowed_roots = ["/srv/a", "/srv/b c"]"#),
        "{}",
        stdout(&first)
    );
}

#[test]
fn explained_settings_are_still_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let explained = cofferd(dir.path()).arg("--explain").output().unwrap();
    assert!(
        stdout(&explained).contains("\n# How long running streams may go on after SIGTERM"),
        "{}",
        stdout(&explained)
    );
    fs::write(dir.path().join("explained.toml"), &explained.stdout).unwrap();
    let read = cofferd(dir.path()).args(["--config", "explained.toml"]).output().unwrap();
    assert!(read.status.success(), "{}", stderr(&read));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("bad.toml"),
        "colour = \"red\"\n[grpc]\naddr = \"localhost\"\n\n[shutdown]\ngrace = 30\n[reconcile]\ninterval = 1979-05-27\n",
    )
    .unwrap();
    let output = cofferd(dir.path())
        .args(["--config", "bad.toml", "--set", "grpc.port=1", "--set", "http.addr"])
        .env("COFFER_DATABASE_ULR", "postgres://db/coffer")
        .env("COFFER_DATABASE_POOL_SIZE", "0")
        .env("COFFER_DATABASE_SCHEMA", "Coffer")
        .env("COFFER_DATABASE_MODE", "external")
        .env("COFFER_AUTH_ISSUER", "https://issuer.example")
        .env("COFFER_TELEMETRY_LOG_FORMAT", "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    for expected in [
        "bad.toml:1: there is no setting colour",
        "bad.toml:3: grpc.addr must be an IP address and a port",
        "bad.toml:6: shutdown.grace must be a duration with its unit",
        "bad.toml:8: reconcile.interval cannot be a",
        "--set grpc.port: there is no such setting",
        "--set http.addr: must be KEY=VALUE",
        "COFFER_DATABASE_ULR: there is no such setting",
        "COFFER_DATABASE_POOL_SIZE: database.pool_size must be a number from 2 to 500",
        "COFFER_DATABASE_SCHEMA: database.schema is wrong",
        "COFFER_TELEMETRY_LOG_FORMAT: telemetry.log_format must not be empty",
        "database.mode is external (COFFER_DATABASE_MODE), so database.url or DATABASE_URL must be given",
        "auth.issuer without auth.audience and auth.jwks_file or auth.jwks_url",
    ] {
        assert!(text.contains(expected), "{expected}\n\nis not in\n\n{text}");
    }
    assert_eq!(text.lines().count(), 13, "{text}");
}

#[test]
fn a_file_that_cannot_be_read_or_is_no_toml_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("broken.toml"), "a = 1\nb = = 2\n").unwrap();
    for (file, expected) in [("absent.toml", "cannot read absent.toml"), ("broken.toml", "broken.toml:2: ")] {
        let output = cofferd(dir.path()).args(["--config", file]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn passwords_are_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let right = "postgres://ann:swordfish@db.example/coffer";
    let wrong = "postgres://ann:swordfish@db.example/coffer?sslmode=sometimes";
    for (arguments, environment, code) in [
        (vec!["--set".to_owned(), format!("database.url={right}")], None, 0),
        (vec![], Some(("DATABASE_URL", right)), 0),
        (vec!["--set".to_owned(), format!("database.url={wrong}")], None, 2),
        (vec![], Some(("COFFER_DATABASE_URL", wrong)), 2),
    ] {
        let output = cofferd(dir.path()).args(&arguments).envs(environment).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let text = stdout(&output) + &stderr(&output);
        assert!(!text.contains("swordfish"), "{text}");
        assert!(text.contains("database.url"), "{text}");
    }
}

#[test]
fn our_own_name_for_the_url_wins_over_the_common_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = cofferd(dir.path())
        .env("DATABASE_URL", "postgres://common/coffer")
        .env("COFFER_DATABASE_URL", "postgres://ours/coffer")
        .output()
        .unwrap();
    let text = stdout(&output);
    assert!(text.contains("database.url = \"postgres://ours/coffer\""), "{text}");
}

#[test]
fn an_embedded_database_ignores_the_common_url_but_not_one_meant_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = ["--set", "database.mode=embedded"];
    let ignored =
        cofferd(dir.path()).args(embedded).env("DATABASE_URL", "postgres://common/coffer").output().unwrap();
    assert!(ignored.status.success(), "{}", stderr(&ignored));
    assert!(stdout(&ignored).contains("# database.url is not set"), "{}", stdout(&ignored));
    let refused = cofferd(dir.path())
        .args(embedded)
        .env("COFFER_DATABASE_URL", "postgres://ours/coffer")
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("does not go with a database.url (COFFER_DATABASE_URL)"));
}

#[test]
fn the_development_key_is_for_loopback_and_for_nobody_else() {
    let issuer = ["auth.issuer=https://i", "auth.audience=coffer", "auth.jwks_file=/keys.json"];
    let cases: &[(&[&str], Option<&str>)] = &[
        (&[], None),
        (&["grpc.addr=[::1]:1"], None),
        (
            &["grpc.addr=0.0.0.0:1", "grpc.insecure=true"],
            Some("auth.issuer or auth.certificates_file must be given"),
        ),
        (
            &["grpc.addr=0.0.0.0:1", "grpc.insecure=true", "auth.development=on"],
            Some("whoever holds the development key"),
        ),
        (&["auth.development=off"], Some("no caller could be known")),
        (&issuer, None),
        (&["grpc.addr=0.0.0.0:1", "grpc.insecure=true", issuer[0], issuer[1], issuer[2]], None),
        (&["auth.development=on", issuer[0], issuer[1], issuer[2]], Some("does not go with an auth.issuer")),
        (&["grpc.addr=127.0.0.1:1", "http.addr=127.0.0.1:1"], Some("are both 127.0.0.1:1")),
    ];
    check(cases);
}

#[test]
fn tokens_do_not_travel_in_clear_unless_somebody_says_so() {
    let issuer = ["auth.issuer=https://i", "auth.audience=coffer", "auth.jwks_file=/keys.json"];
    let tls = ["grpc.tls.certificate=/c.pem", "grpc.tls.key=/k.pem"];
    let ca = "grpc.tls.client_ca=/ca.pem";
    let list = "auth.certificates_file=/list.json";
    let cases: &[(&[&str], Option<&str>)] = &[
        (
            &["grpc.addr=0.0.0.0:1", issuer[0], issuer[1], issuer[2]],
            Some("so grpc.tls.certificate must be given"),
        ),
        (&["grpc.addr=0.0.0.0:1", issuer[0], issuer[1], issuer[2], tls[0], tls[1]], None),
        (&["grpc.addr=0.0.0.0:1", tls[0], tls[1], ca, list], None),
        (&[tls[0]], Some("grpc.tls.certificate and grpc.tls.key go together")),
        (&[tls[1]], Some("grpc.tls.certificate and grpc.tls.key go together")),
        (&[ca], Some("grpc.tls.client_ca needs a grpc.tls.certificate")),
        (&[tls[0], tls[1], list], Some("auth.certificates_file needs a grpc.tls.client_ca")),
        (&[tls[0], tls[1], "grpc.tls.client_crl=/crl.pem"], Some("client_crl needs a grpc.tls.client_ca")),
        (&[tls[0], tls[1], "grpc.tls.client_auth=required"], Some("which needs a grpc.tls.client_ca")),
        (&[tls[0], tls[1], ca, "grpc.tls.client_auth=always"], Some("must be one of optional, required")),
        (&["grpc.insecure=yes"], Some("must be true or false")),
    ];
    check(cases);
}

#[test]
fn keys_come_from_one_place_that_nobody_between_can_change() {
    let issuer = ["auth.issuer=https://i", "auth.audience=coffer"];
    let with = |url: &'static str| [issuer[0], issuer[1], url];
    let cases: &[(&[&str], Option<&str>)] = &[
        (&with("auth.jwks_url=https://id.example/keys"), None),
        (&with("auth.jwks_url=http://127.0.0.1:8080/keys"), None),
        (&with("auth.jwks_url=http://[::1]:8080/keys"), None),
        (&with("auth.jwks_url=http://id.example/keys"), Some("http:// is for loopback only")),
        (&with("auth.jwks_url=https://a:b@id.example/keys"), Some("must hold no password")),
        (&with("auth.jwks_url=ftp://id.example/keys"), Some("must be https://")),
        (&with("auth.jwks_url=keys"), Some("auth.jwks_url")),
        (
            &[issuer[0], issuer[1], "auth.jwks_url=https://i/k", "auth.jwks_file=/k"],
            Some(
                "auth.jwks_file (--set auth.jwks_file) and auth.jwks_url (--set auth.jwks_url) are both given",
            ),
        ),
        (&["auth.jwks_refresh=1h", "auth.jwks_max_age=30m"], Some("must not be shorter")),
        (&["auth.jwks_refresh=9s"], Some("must be from 10s")),
        (&["egress.allow=127.0.0.0/8, ::1", "egress.deny=10.0.0.0/8"], None),
        (&["egress.allow=localhost"], Some("must be an address or a network")),
        (&["sftp.key_folder=/etc/coffer/keys"], None),
        (&["sftp.key_folder=keys"], Some("sftp.key_folder must be an absolute path")),
        (&["grpc.trusted_proxies=10.0.0.1/8"], Some("\"10.0.0.1/8\" is none")),
    ];
    check(cases);
}

/// Each of these settings alone is right, or has one mistake.
fn check(cases: &[(&[&str], Option<&str>)]) {
    let dir = tempfile::tempdir().expect("a directory");
    for (settings, mistake) in cases {
        let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
        let output = cofferd(dir.path()).args(arguments).output().expect("cofferd runs");
        let text = stderr(&output);
        match mistake {
            None => assert!(output.status.success(), "{settings:?}: {text}"),
            Some(mistake) => {
                assert_eq!(output.status.code(), Some(2), "{settings:?}");
                assert!(text.contains(mistake) && text.lines().count() == 2, "{settings:?}: {text}");
            }
        }
    }
}

#[test]
fn variables_of_other_programs_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let output = cofferd(dir.path())
        .env("COFFER_ADDR", "http://127.0.0.1:50051")
        .env("COFFER_TOKEN", "t")
        .env("COFFER_CA", "/ca.pem")
        .env("COFFER_CERT", "/client.pem")
        .env("COFFER_KEY", "/client.key")
        .env("COFFER_POSTGRES_BIN", "/opt/pg/bin")
        .env("COFFER_REQUIRE_BACKENDS", "1")
        .env("COFFER_DATA_DIR", "/var/lib/coffer")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("data_dir = \"/var/lib/coffer\""));
}

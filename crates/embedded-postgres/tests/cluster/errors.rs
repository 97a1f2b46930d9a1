//! Every error that a caller can bring about.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use coffer_embedded_postgres::{Cluster, Error, Options};

use crate::rig::{Owner, Place, Session, require};

#[test]
fn a_wrong_coffer_postgres_bin_is_named() {
    let place = Place::open();
    let nowhere = place.dir.join("nowhere");
    let error = Owner::start(&place.dir, &[("COFFER_POSTGRES_BIN", &nowhere)]).err().unwrap();
    assert!(
        error.contains(&format!("COFFER_POSTGRES_BIN={}: no program postgres", nowhere.display())),
        "{error}"
    );
    assert!(!place.dir.join("pg").exists());
}

#[test]
fn the_output_of_a_failed_initdb_is_quoted_and_nothing_is_left() {
    if !require() {
        return;
    }
    let place = Place::open();
    let bin = place.dir.join("bin");
    fs::create_dir(&bin).unwrap();
    for (program, script) in [
        ("postgres", "echo 'postgres (PostgreSQL) 15.1'"),
        ("initdb", "echo 'the disk is full' >&2; exit 3"),
        ("psql", "exit 1"),
    ] {
        let file = bin.join(program);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let error = Owner::start(&place.dir, &[("COFFER_POSTGRES_BIN", &bin)]).err().unwrap();
    assert!(error.contains("initdb failed (exit status: 3): the disk is full"), "{error}");
    assert!(!place.dir.join("pg").exists());
    // And the next one can.
    place.start().unwrap();
}

#[test]
fn a_failed_start_quotes_its_log_and_leaves_nothing_running() {
    if !require() {
        return;
    }
    let place = Place::open();
    let error = place.start_with("work_mem", "a lot").unwrap_err();
    let Error::Start { status, log, output } = &error else { panic!("{error}") };
    assert!(!status.success());
    assert_eq!(*log, place.dir.join("postgres.log"));
    assert!(output.contains("work_mem") && output.contains("a lot"), "{output}");

    let cluster = place.start().unwrap();
    cluster.stop().unwrap();
    // What it quotes is of its own start.
    let error = place.start_with("no_such_setting", "1").unwrap_err();
    let Error::Start { output, .. } = &error else { panic!("{error}") };
    assert!(output.contains("no_such_setting") && !output.contains("work_mem"), "{output}");
}

#[test]
fn a_start_that_takes_too_long_is_undone() {
    if !require() {
        return;
    }
    let place = Place::open();
    let options = Options { start_timeout: Duration::ZERO, ..Options::disposable() };
    let error = Cluster::start(&place.dir, options).unwrap_err();
    assert!(matches!(error, Error::Timeout { timeout: Duration::ZERO, .. }), "{error}");
    assert!(!place.dir.join("pg/postmaster.pid").exists());
    place.start().unwrap();
}

#[test]
fn data_of_another_version_are_refused() {
    if !require() {
        return;
    }
    let place = Place::open();
    place.start().unwrap().stop().unwrap();
    let file = place.dir.join("pg/PG_VERSION");
    let real = fs::read(&file).unwrap();
    fs::write(&file, "7\n").unwrap();
    let error = place.start().unwrap_err();
    assert!(matches!(error, Error::Version { wanted: 7, .. }), "{error}");
    assert!(error.to_string().contains("apt-get install postgresql-7"), "{error}");
    fs::write(&file, real).unwrap();
    place.start().unwrap();
}

#[test]
fn a_socket_directory_of_somebody_else_is_not_used() {
    if !require() {
        return;
    }
    let place = Place::open();
    std::os::unix::fs::symlink("/tmp", place.dir.join("socket")).unwrap();
    let error = place.start().unwrap_err();
    assert!(matches!(&error, Error::Socket { path, .. } if *path == place.dir.join("socket")), "{error}");
}

#[test]
fn a_directory_that_is_none_is_named() {
    let place = Place::open();
    let file = place.dir.join("file");
    fs::write(&file, "").unwrap();
    let error = Cluster::start(&file, Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == file), "{error}");
    let error = Cluster::start(Path::new("/proc/nowhere"), Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }), "{error}");
}

#[test]
fn bad_names_and_refused_statements() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    for (name, template) in [("Bad", None), ("good", Some("bad; name"))] {
        assert!(matches!(cluster.create_database(name, template), Err(Error::Name { .. })));
    }
    assert!(matches!(cluster.drop_database("x\" WITH (FORCE); --"), Err(Error::Name { .. })));

    let error = cluster.create_database("coffer", None).unwrap_err();
    let Error::Statement { message, .. } = &error else { panic!("{error}") };
    assert!(message.contains("already exists"), "{message}");
    let error = cluster.create_database("another", Some("missing")).unwrap_err();
    assert!(error.to_string().contains(r#"template database "missing" does not exist"#), "{error}");
    let _session = Session::open(&cluster.url()).unwrap();
    let error = cluster.create_database("another", Some("coffer")).unwrap_err();
    assert!(error.to_string().contains("is being accessed by other users"), "{error}");
}

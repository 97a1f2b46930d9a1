//! Owners and servers that are killed, and what the next owner finds.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coffer_embedded_postgres::{Cluster, Error, Shutdown};

use crate::rig::{Owner, Place, Session, kill, require, wait_for_end};

const COMMITTED: &str = "CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)";

fn assert_kept(cluster: &Cluster) {
    let session = Session::open(&cluster.url()).unwrap();
    assert_eq!(session.value("SELECT count(*) FROM kept"), "1000");
}

#[test]
fn a_second_owner_is_refused() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let error = place.start().unwrap_err();
    assert!(matches!(&error, Error::InUse { dir } if *dir == place.dir), "{error}");
    let error = Owner::start(&place.dir, &[]).err().unwrap();
    assert!(error.contains("is in use by another process"), "{error}");

    // It is the first that goes on.
    assert!(cluster.is_running().unwrap());
    Session::open(&cluster.url()).unwrap();
    cluster.stop().unwrap();
    place.start().unwrap();
}

#[test]
fn the_server_ends_with_a_killed_owner() {
    if !require() {
        return;
    }
    for place in [Place::open(), Place::private()] {
        let owner = match Owner::start(&place.dir, &[]) {
            Err(error) if error.contains("in a user namespace") && !crate::rig::backends_are_required() => {
                eprintln!("ignored: {error}");
                continue;
            }
            owner => owner.unwrap(),
        };
        let pid = owner.pid;
        let session = Session::open(&owner.url).unwrap();
        session.execute(COMMITTED);
        session.execute("BEGIN; INSERT INTO kept VALUES (1001)");
        owner.kill();
        wait_for_end(pid);
        assert_kept(&place.start().unwrap());
    }
}

#[test]
fn a_new_owner_need_not_wait_for_the_old_server() {
    if !require() {
        return;
    }
    let place = Place::open();
    let owner = Owner::start(&place.dir, &[]).unwrap();
    Session::open(&owner.url).unwrap().execute(COMMITTED);
    for _ in 0..5 {
        Owner::start(&place.dir, &[]).err().unwrap();
    }
    owner.kill();
    for _ in 0..5 {
        // Each is killed when its server has just begun, and the server of the one before may still be ending.
        Owner::start(&place.dir, &[]).unwrap().kill();
    }
    assert_kept(&place.start().unwrap());
}

#[test]
fn a_killed_server_is_noticed_and_its_data_recovered() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    session.execute(COMMITTED);
    let pid = cluster.pid();
    kill(pid);
    wait_for_end(pid);
    assert!(!cluster.is_running().unwrap());
    assert!(place.dir.join("pg/postmaster.pid").exists());
    assert!(matches!(cluster.create_database("another", None), Err(Error::Statement { .. })));
    assert_eq!(cluster.stop().unwrap(), Shutdown::Unclean);
    assert_kept(&place.start().unwrap());
}

/// A server of the same data that nobody's death ends.
fn orphan(place: &Place, postgres: &PathBuf) -> Child {
    let owner = fs::metadata(place.dir.join("pg")).unwrap();
    let setting = |name: &str, value: PathBuf| format!("--{name}={}", value.display());
    Command::new(postgres)
        .arg("-D")
        .arg(place.dir.join("pg"))
        .arg("--listen_addresses=")
        .arg(setting("unix_socket_directories", place.dir.join("socket")))
        .arg(setting("hba_file", place.dir.join("pg_hba.conf")))
        .arg(setting("ident_file", place.dir.join("pg_ident.conf")))
        .uid(owner.uid())
        .gid(owner.gid())
        .current_dir("/")
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn living_processes_of_an_earlier_server_are_taken_over() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let url = cluster.url();
    Session::open(&url).unwrap().execute(COMMITTED);
    let postgres = fs::read_link(format!("/proc/{}/exe", cluster.pid())).unwrap();
    cluster.stop().unwrap();

    for is_postmaster_killed in [false, true] {
        let mut orphan = orphan(&place, &postgres);
        let session = loop {
            if let Ok(session) = Session::open(&url) {
                break session;
            }
            assert_eq!(orphan.try_wait().unwrap(), None, "the orphan starts");
            std::thread::yield_now();
        };
        session.execute("BEGIN; INSERT INTO kept VALUES (1001)");
        if is_postmaster_killed {
            kill(orphan.id());
        }
        // We are its parent and do not wait for it: it stays as a zombie with its id.
        let cluster = place.start().unwrap();
        assert_ne!(cluster.pid(), orphan.id());
        assert!(orphan.try_wait().unwrap().is_some(), "the orphan has ended");
        assert_kept(&cluster);
    }
}

#[test]
fn files_that_speak_of_others_are_not_believed() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    Session::open(&cluster.url()).unwrap().execute(COMMITTED);
    let pid_file = place.dir.join("pg/postmaster.pid");
    let real = fs::read_to_string(&pid_file).unwrap();
    let ours = std::process::id().to_string();
    let theirs = cluster.pid().to_string();
    cluster.stop().unwrap();

    // As if the system had given its process id to us.
    fs::write(&pid_file, real.replacen(&theirs, &ours, 1)).unwrap();
    fs::write(place.dir.join("socket/.s.PGSQL.5432.lock"), real.replacen(&theirs, &ours, 1)).unwrap();
    fs::write(place.dir.join("socket/.s.PGSQL.5432"), "").unwrap();
    // As if a start had been killed in the middle.
    fs::create_dir(place.dir.join("pg.new")).unwrap();
    fs::write(place.dir.join("pg.new/half"), "").unwrap();
    assert_kept(&place.start().unwrap());

    fs::remove_dir_all(place.dir.join("pg")).unwrap();
    let cluster = place.start().unwrap();
    assert!(!place.dir.join("pg/half").exists() && !place.dir.join("pg.new").exists());
    Session::open(&cluster.url()).unwrap();
}

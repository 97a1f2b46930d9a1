//! As whom the server runs, and who may connect.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use coffer_embedded_postgres::{Cluster, Error};

use crate::rig::{Place, Session, backends_are_required, require, we_are_root};

/// As which `id` knows a user.
fn id(name: &str) -> Option<u32> {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().ok()
}

/// The real user id of a process, from the outside.
fn runs_as(cluster: &Cluster) -> u32 {
    fs::metadata(format!("/proc/{}", cluster.pid())).unwrap().uid()
}

#[test]
fn in_an_open_directory_it_runs_as_a_user() {
    if !require() {
        return;
    }
    let place = Place::open();
    let expected = if we_are_root() {
        id("postgres").or_else(|| id("nobody")).unwrap()
    } else {
        rustix::process::geteuid().as_raw()
    };
    for _ in 0..2 {
        let cluster = place.start().unwrap();
        assert_eq!(runs_as(&cluster), expected);
        assert_eq!(fs::metadata(place.dir.join("pg")).unwrap().uid(), expected);
        Session::open(&cluster.url()).unwrap();
    }
}

#[test]
fn in_a_directory_of_ours_alone_it_runs_too() {
    if !require() {
        return;
    }
    let place = Place::private();
    let ours = rustix::process::geteuid().as_raw();
    for round in 0..2 {
        let cluster = match place.start() {
            Err(error @ Error::NoUser { .. }) if !backends_are_required() => {
                eprintln!("ignored: {error}");
                return;
            }
            cluster => cluster.unwrap(),
        };
        // Even where a user could now enter, the data stay with those who made them.
        fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(fs::metadata(place.dir.join("pg")).unwrap().uid(), ours);
        assert_eq!(runs_as(&cluster), ours);
        let of_root_outside = fs::read_to_string(format!("/proc/{}/uid_map", cluster.pid())).unwrap();
        let map: Vec<&str> = of_root_outside.split_whitespace().collect();
        assert_eq!(map == ["65534", "0", "1"], we_are_root(), "{map:?}");
        let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid())).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "no capabilities: {status}");

        let session = Session::open(&cluster.url()).unwrap();
        session.execute(&format!("CREATE TABLE round_{round} (n int)"));
        cluster.create_database(&format!("of_{round}"), None).unwrap();
        cluster.stop().unwrap();
    }
}

#[test]
fn data_of_a_user_who_cannot_reach_them_are_refused() {
    if !require() {
        return;
    }
    if !we_are_root() {
        eprintln!("ignored: only root has the choice");
        return;
    }
    let place = Place::private();
    let nobody = id("nobody").unwrap();
    fs::create_dir_all(place.dir.join("pg")).unwrap();
    chown(place.dir.join("pg"), Some(nobody), None).unwrap();
    let error = place.start().unwrap_err();
    assert!(matches!(error, Error::NoUser { .. }), "{error}");
    assert!(error.to_string().contains(&format!("as the user with id {nobody}: ")), "{error}");
}

#[test]
fn another_user_cannot_connect() {
    if !require() {
        return;
    }
    if !we_are_root() {
        eprintln!("ignored: only root can be another user");
        return;
    }
    for place in [Place::open(), Place::private()] {
        // Its own parent is now open, its socket is not.
        fs::create_dir_all(&place.dir).unwrap();
        let cluster = match place.start() {
            Err(error @ Error::NoUser { .. }) if !backends_are_required() => {
                eprintln!("ignored: {error}");
                continue;
            }
            cluster => cluster.unwrap(),
        };
        fs::set_permissions(place.dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o755)).unwrap();
        let bin = fs::read_link(format!("/proc/{}/exe", cluster.pid())).unwrap().with_file_name("psql");
        let connect = |uid: u32| {
            let url = cluster.url();
            Command::new(&bin).args(["-Xw", "-c", "SELECT 1", &url]).uid(uid).output().unwrap()
        };
        assert!(connect(0).status.success());
        let refused = connect(id("nobody").unwrap());
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && message.contains("Permission denied"), "{message}");
        assert_eq!(cluster.stop().unwrap(), coffer_embedded_postgres::Shutdown::Clean);
    }
}

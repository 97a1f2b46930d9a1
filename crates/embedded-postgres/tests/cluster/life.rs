//! Starting, using and stopping.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use coffer_embedded_postgres::{Cluster, Options, Shutdown};
use rustix::process::Pid;

use crate::rig::{Place, Session, require};

#[test]
fn data_are_kept_over_a_restart() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    session.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1), (2), (3)");
    // It is connected, and does not keep the server.
    assert_eq!(cluster.stop().unwrap(), Shutdown::Clean);
    assert!(!place.dir.join("socket/.s.PGSQL.5432").exists());

    let cluster = place.start().unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    assert_eq!(session.value("SELECT count(*) FROM kept"), "3");
    assert!(cluster.is_running().unwrap());
}

#[test]
fn a_new_cluster_is_as_documented() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = Cluster::start(&place.dir, Options { max_connections: 17, ..Options::default() }).unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    assert_eq!(session.value("SELECT current_database() || current_user"), "coffercoffer");
    assert_eq!(session.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"), "true");
    let of_database = "FROM pg_database WHERE datname = 'coffer'";
    assert_eq!(session.value(&format!("SELECT datcollate || datctype {of_database}")), "CC");
    for (name, value) in [
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
        ("listen_addresses", ""),
        ("max_connections", "17"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("TimeZone", "UTC"),
    ] {
        assert_eq!(session.setting(name), value, "{name}");
    }
    let leader = rustix::process::getpgid(Pid::from_raw(cluster.pid().try_into().unwrap())).unwrap();
    assert_eq!(leader.as_raw_nonzero().get().unsigned_abs(), cluster.pid(), "its process group");
}

#[test]
fn a_disposable_cluster_only_does_not_sync() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    for (name, value) in [("fsync", "off"), ("full_page_writes", "off"), ("synchronous_commit", "on")] {
        assert_eq!(session.setting(name), value, "{name}");
    }
}

#[test]
fn settings_win_but_not_over_where_it_listens() {
    if !require() {
        return;
    }
    let place = Place::open();
    let settings = [("work_mem", "5MB"), ("synchronous_commit", "local"), ("listen_addresses", "127.0.0.1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let cluster = Cluster::start(&place.dir, Options { settings, ..Options::disposable() }).unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    for (name, value) in
        [("work_mem", "5MB"), ("synchronous_commit", "local"), ("fsync", "off"), ("listen_addresses", "")]
    {
        assert_eq!(session.setting(name), value, "{name}");
    }
}

#[test]
fn a_database_is_cloned_from_a_template_and_dropped_while_in_use() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    cluster.create_database("template_of_test", None).unwrap();
    let template = Session::open(&cluster.url_for("template_of_test")).unwrap();
    template.execute("CREATE TABLE seeds (n int); INSERT INTO seeds SELECT generate_series(1, 1000)");
    drop(template);

    cluster.create_database("first", Some("template_of_test")).unwrap();
    cluster.create_database("second", Some("template_of_test")).unwrap();
    let first = Session::open(&cluster.url_for("first")).unwrap();
    let second = Session::open(&cluster.url_for("second")).unwrap();
    first.execute("DELETE FROM seeds WHERE n > 10");
    assert_eq!(first.value("SELECT count(*) FROM seeds"), "10");
    assert_eq!(second.value("SELECT count(*) FROM seeds"), "1000");

    cluster.drop_database("first").unwrap();
    cluster.drop_database("first").unwrap();
    assert_eq!(second.value("SELECT count(*) FROM pg_database WHERE datname = 'first'"), "0");
    assert!(Session::open(&cluster.url_for("first")).is_err());
}

#[test]
fn a_path_too_long_for_a_socket_has_it_elsewhere() {
    if !require() {
        return;
    }
    let mut place = Place::open();
    place.dir.push("long".repeat(30));
    let cluster = place.start().unwrap();
    let session = Session::open(&cluster.url()).unwrap();
    let socket = session.setting("unix_socket_directories");
    assert!(socket.starts_with(r#""/tmp/coffer-"#), "{socket}");
    let socket = socket.trim_matches('"').to_owned();
    cluster.create_database("another", None).unwrap();
    cluster.stop().unwrap();
    assert!(!fs::exists(&socket).unwrap(), "{socket} is removed");
}

#[test]
fn any_path_will_do() {
    if !require() {
        return;
    }
    for name in [b"with a blank".as_slice(), b"a,comma", b"\"quoted\" 100%?&#@:", b"not \xff UTF-8", b"'$x"] {
        let mut place = Place::open();
        place.dir.push(OsStr::from_bytes(name));
        let cluster = place.start().unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let session = Session::open(&cluster.url()).unwrap();
        assert_eq!(session.value("1"), "1");
        cluster.create_database("another", None).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    }
}

#[test]
fn the_thread_that_starts_it_may_end() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = std::thread::scope(|scope| scope.spawn(|| place.start().unwrap()).join().unwrap());
    let session = Session::open(&cluster.url()).unwrap();
    // Had the server been told to end, it would not take the next connection.
    assert_eq!(session.value("1"), "1");
    Session::open(&cluster.url()).unwrap();
    assert_eq!(cluster.stop().unwrap(), Shutdown::Clean);
}

#[test]
fn dropping_it_stops_it() {
    if !require() {
        return;
    }
    let place = Place::open();
    let cluster = place.start().unwrap();
    let pid = cluster.pid();
    drop(cluster);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    assert!(!place.dir.join("pg/postmaster.pid").exists());
}

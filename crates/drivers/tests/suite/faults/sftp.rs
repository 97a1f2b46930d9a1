//! Servers of SFTP that are not who they should be, do not answer, or have more in their folders than files.

use super::{Fault, Proxy, assert_kind, impatient, open_sftp};
use crate::{
    servers,
    support::{all_keys, fresh_key, is_missing, key, kind, noise, read, write},
};
use coffer_domain::{
    driver::{ErrorKind, PieceSize, WriteOptions},
    id::UploadId,
    path::Key,
};
use coffer_drivers::sftp::{self, HostKey, Login};
use coffer_test_servers::{Kind, Server, openssh_with_subsystem};
use futures_util::{FutureExt as _, StreamExt as _, future::join_all};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const MIB: usize = 1024 * 1024;

fn config(server: &Server) -> sftp::Config {
    servers::sftp_config(server, server.address(), &server.place())
}

/// Nobody logs in to a server whose key is another: it does not even hear who would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_key_is_told_nothing() {
    let (Some(server), Some(other)) = (Kind::OpenSsh.start(), Kind::OpenSsh.shared()) else { return };
    let good = config(&server);
    let pinned: HostKey = other.ssh().host_keys[0].parse().unwrap();
    let failure = open_sftp(sftp::Config { host_key: pinned, ..good.clone() }).await.err().unwrap();
    assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
    let words = failure.source.as_ref().unwrap().to_string();
    for host_key in server.ssh().host_keys {
        assert!(words.contains(&host_key), "{words} names {host_key}");
    }
    let ends =
        |log: &str| log.matches("Connection closed by").count() + log.matches("Connection reset by").count();
    while ends(&server.log()) < 2 {
        tokio::task::yield_now().await;
    }
    let log = server.log();
    assert!(!log.contains(&good.username) && !log.contains("Accepted"), "{log}");
    // And with the right one it hears it.
    open_sftp(good.clone()).await.unwrap();
    assert!(server.log().contains(&format!("Accepted publickey for {}", good.username)), "{}", server.log());
}

/// A server has several keys, and whoever pins one does not say of which kind it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_of_a_servers_keys_will_do() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let host_keys = server.ssh().host_keys;
    assert_eq!(host_keys.len(), 2);
    for host_key in host_keys {
        let driver =
            open_sftp(sftp::Config { host_key: host_key.parse().unwrap(), ..config(&server) }).await.unwrap();
        let (key, content) = (fresh_key(), noise(1000, 1));
        write(&*driver, &key, &content).await.unwrap();
        assert_eq!(read(&*driver, &key).await.unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_that_is_refused_is_denied() {
    if let Some(server) = Kind::RcloneSftp.shared() {
        let login = Login::Password(coffer_domain::secret::Secret::new("swordfish"));
        let failure = open_sftp(sftp::Config { login, ..config(&server) }).await.err().unwrap();
        assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
    }
    if let Some(server) = Kind::OpenSsh.shared() {
        let good = config(&server);
        let Login::Key(text) = good.login.clone() else { panic!("OpenSSH is entered with a key") };
        for login in [
            Login::Key(coffer_domain::secret::Secret::new("no key at all")),
            Login::Password(coffer_domain::secret::Secret::new("swordfish")),
            Login::KeyFile("/nowhere/key".into()),
        ] {
            let failure = open_sftp(sftp::Config { login, ..good.clone() }).await.err().unwrap();
            assert_eq!(failure.kind, ErrorKind::Denied, "{failure:?}");
            assert!(!format!("{failure:?}").contains("swordfish"));
        }
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("key");
        fs::write(&file, text.expose()).unwrap();
        open_sftp(sftp::Config { login: Login::KeyFile(file), ..good }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_not_there_is_no_empty_volume() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let place = server.place();
    for path in ["absent", "/absent", "absent/absent"] {
        let config = sftp::Config { path: path.to_owned(), ..config(&server) };
        assert_kind(open_sftp(config).await, ErrorKind::Unavailable, path);
    }
    let config = servers::sftp_config(&server, server.address(), &place);
    let driver = open_sftp(config).await.unwrap();
    fs::rename(server.directory(&place), server.directory(&format!("{place}-away"))).unwrap();
    assert_kind(driver.list("", None, 1).await, ErrorKind::Unavailable, "a listing");
    assert_kind(driver.stat(&fresh_key()).await, ErrorKind::Unavailable, "a look");
}

/// The named folder itself may be a symlink, and have an absolute name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_where_its_path_leads() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let (place, link) = (server.place(), format!("{}-link", server.place()));
    symlink(server.directory(&place), server.directory(&link)).unwrap();
    for path in [place.clone(), link.clone(), server.directory(&link).display().to_string()] {
        let driver = open_sftp(sftp::Config { path, ..config(&server) }).await.unwrap();
        let (key, content) = (fresh_key(), noise(10, 1));
        write(&*driver, &key, &content).await.unwrap();
        assert_eq!(fs::read(server.directory(&place).join(key.as_str())).unwrap(), content);
    }
}

/// What is no regular file is nobody's object, wherever it leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn symlinks_lead_nowhere() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let place = server.place();
    let driver = open_sftp(servers::sftp_config(&server, server.address(), &place)).await.unwrap();
    let good = key("good/object");
    write(&*driver, &good, &noise(10, 1)).await.unwrap();
    let directory = server.directory(&place);
    symlink("/", directory.join("root")).unwrap();
    symlink("/", directory.join("good/root")).unwrap();
    symlink("/etc/passwd", directory.join("file")).unwrap();
    symlink("..", directory.join("loop")).unwrap();
    symlink("nowhere", directory.join("dangling")).unwrap();
    assert_eq!(all_keys(&*driver, "", 100).await, ["good/object"]);
    assert_eq!(all_keys(&*driver, "root/", 100).await, [""; 0]);
    assert_eq!(all_keys(&*driver, "root/etc/", 100).await, [""; 0]);
    for name in ["file", "dangling", "root", "root/etc/passwd", "good/root/etc/passwd", "loop/x"] {
        let name = key(name);
        assert_eq!(driver.stat(&name).await.unwrap(), None, "{name}");
        let found = driver.read(&name, 0..10, PieceSize::default()).await;
        assert_eq!(kind(found), Some(ErrorKind::NotFound), "{name}");
        driver.delete(&name).await.unwrap();
    }
    // Nothing is written through one either.
    let outside = tempfile::TempDir::new().unwrap();
    fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    symlink(outside.path(), directory.join("out")).unwrap();
    let stored = driver.store(UploadId::new(), &key("out/object"), vec![noise(10, 2)]).await;
    assert!(stored.is_err());
    assert!(driver.put(&key("out/small"), noise(10, 2)).await.is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(all_keys(&*driver, ".coffer/", 100).await, [""; 0]);
    assert!(fs::symlink_metadata(directory.join("root")).unwrap().is_symlink(), "they stay");
}

/// A server that was stopped between the two halves of a rename leaves both names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_one_file_become_one() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let place = server.place();
    let driver = open_sftp(servers::sftp_config(&server, server.address(), &place)).await.unwrap();
    let options = WriteOptions { is_resumable: true, ..WriteOptions::default() };
    for is_same in [true, false] {
        let (upload, key, content) = (UploadId::new(), fresh_key(), noise(1000, 1));
        let mut writer = driver.begin(upload, &key, options).await.unwrap();
        writer.write(vec![content.clone()].into()).await.unwrap();
        writer.checkpoint().await.unwrap();
        drop(writer);
        let directory = server.directory(&place);
        let (staged, target) =
            (directory.join(format!(".coffer/staging/{upload}")), directory.join(key.as_str()));
        // It makes the folder.
        let beside = Key::parse(format!("{key}.beside")).unwrap();
        driver.store(UploadId::new(), &beside, vec![noise(1, 1)]).await.unwrap();
        if is_same {
            fs::hard_link(&staged, &target).unwrap();
        } else {
            fs::copy(&staged, &target).unwrap();
            let changed = fs::metadata(&staged).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&target).unwrap().set_modified(changed).unwrap();
        }
        let resumed = driver.resume(upload, &key, 1000, options).await.unwrap();
        assert_eq!(driver.stat(&key).await.unwrap().is_some(), !is_same, "only our own name is taken back");
        resumed.abort().await.unwrap();
    }
}

/// An upload to a server that falls silent ends in time, everything else goes on meanwhile on this one thread, and the session in which it
/// was is not used again.
#[tokio::test]
async fn a_server_that_falls_silent_stops_nobody_else() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let proxy = Proxy::start(server.address()).await;
    let place = server.place();
    let config = servers::sftp_config(&server, proxy.address(), &place);
    let driver = open_sftp(sftp::Config { wire: impatient(), ..config }).await.unwrap();
    let (there, content, other) = (fresh_key(), noise(3 * MIB, 1), noise(4 * MIB, 2));
    driver.store(UploadId::new(), &there, vec![content.clone()]).await.unwrap();
    let longest = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&longest);
    let ticks = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let since = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            seen.fetch_max(since.elapsed().as_millis() as u64, Ordering::Relaxed);
        }
    }));
    for at in [30_000, 100_000, 700_000, 1_500_000] {
        proxy.plan([Fault::Stall(at)]);
        let cuts = proxy.cuts();
        let mut writer = driver.begin(UploadId::new(), &fresh_key(), WriteOptions::default()).await.unwrap();
        let written = writer.write(vec![other.clone()].into()).await;
        assert_kind(written, ErrorKind::Timeout, "an upload");
        assert_eq!(proxy.cuts(), cuts + 1);
        drop(writer);
        // The silent connection is still there; nobody asks it anything.
        assert!(read(&*driver, &there).await.unwrap() == content);
        assert_eq!(driver.stat(&there).await.unwrap().unwrap().size, content.len() as u64);
    }
    drop(ticks);
    let longest = longest.load(Ordering::Relaxed);
    // libssh2 waits for five seconds where it waits on a thread; a busy machine holds it for some hundred milliseconds.
    assert!(longest < 1_500, "the thread was held for {longest} ms");
}

/// What is given up in the middle never answers another's question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_is_given_up_answers_nobody_else() {
    for server in [Kind::OpenSsh, Kind::RcloneSftp].map(Kind::shared).into_iter().flatten() {
        let driver = open_sftp(sftp::Config { sessions: 3, ..config(&server) }).await.unwrap();
        let objects: Vec<(Key, _)> = (1..=6).map(|n| (fresh_key(), noise(n * 50_000, n as u64))).collect();
        for (key, content) in &objects {
            driver.store(UploadId::new(), key, vec![content.clone()]).await.unwrap();
        }
        let mut given_up = 0;
        for n in 0..60_u64 {
            let (key, _) = &objects[n as usize % 5];
            let limit = Duration::from_micros(37 * (n % 20));
            let looked = tokio::time::timeout(limit, driver.stat(key)).await;
            let listed = tokio::time::timeout(limit, driver.list("", None, 10)).await;
            given_up += u32::from(looked.is_err()) + u32::from(listed.is_err());
            // A reader that loses interest before, at and after its first piece.
            let mut pieces = driver.read(key, 0..u64::MAX, PieceSize::new(32 * 1024)).await.unwrap();
            for _ in 0..n % 3 {
                pieces.next().await.unwrap().unwrap();
            }
            assert!(pieces.next().now_or_never().is_none_or(|piece| piece.is_none_or(|piece| piece.is_ok())));
            drop(pieces);
            let (key, content) = &objects[5 - n as usize % 3];
            assert_eq!(driver.stat(key).await.unwrap().unwrap().size, content.len() as u64);
            assert!(read(&*driver, key).await.unwrap() == *content);
        }
        assert!(given_up > 10, "{given_up} were given up");
    }
}

/// Streams whose peers are slow keep no session from others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_streams_share_few_sessions() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let driver = open_sftp(sftp::Config { sessions: 2, ..config(&server) }).await.unwrap();
    let (there, content) = (fresh_key(), noise(5 * MIB, 1));
    driver.store(UploadId::new(), &there, vec![content.clone()]).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut pieces = driver.read(&there, 0..u64::MAX, PieceSize::new(64 * 1024)).await.unwrap();
        let first = pieces.next().await.unwrap().unwrap();
        readers.push((pieces, first.to_vec()));
    }
    let mut writers = Vec::new();
    for n in 0..8 {
        let key = fresh_key();
        let mut writer = driver.begin(UploadId::new(), &key, WriteOptions::default()).await.unwrap();
        writer.write(vec![noise(MIB, n)].into()).await.unwrap();
        writers.push((key, n, writer));
    }
    let finished = join_all(writers.into_iter().map(|(key, n, mut writer)| {
        let driver = &driver;
        async move {
            writer.write(vec![noise(MIB, n + 100)].into()).await.unwrap();
            assert_eq!(writer.finish().await.unwrap().size, 2 * MIB as u64);
            assert!(read(&**driver, &key).await.unwrap() == [noise(MIB, n), noise(MIB, n + 100)].concat());
        }
    }));
    finished.await;
    for (mut pieces, mut found) in readers {
        while let Some(piece) = pieces.next().await {
            found.extend(piece.unwrap());
        }
        assert!(found == content);
    }
}

/// A small disk where a volume is, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// OpenSSH says "failure" of a full disk, as of much else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_known() {
    let Some(server) = Kind::OpenSsh.shared() else { return };
    let place = server.place();
    let at = server.directory(&place);
    if let Err(errno) =
        mount("tmpfs", &at, "tmpfs", MountFlags::NODEV | MountFlags::NOEXEC, c"size=4m,mode=777")
    {
        return is_missing(&format!("the right to mount a tmpfs ({errno})"));
    }
    let _disk = SmallDisk(at);
    let driver = open_sftp(servers::sftp_config(&server, server.address(), &place)).await.unwrap();
    let (kept, content) = (fresh_key(), noise(100_000, 1));
    write(&*driver, &kept, &content).await.unwrap();
    for size in [5 * MIB, 20 * MIB] {
        let stored = driver.store(UploadId::new(), &fresh_key(), vec![noise(size, 2)]).await;
        assert_kind(stored, ErrorKind::Full, "an object that does not fit");
        assert_eq!(all_keys(&*driver, ".coffer/", 10).await, [""; 0], "what was written of it is gone");
    }
    write(&*driver, &fresh_key(), &noise(2 * MIB, 3)).await.unwrap();
    assert_eq!(read(&*driver, &kept).await.unwrap(), content);
}

/// A server without the extension cannot say that bytes are on its disk, and so neither do we.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sync_nothing_is_promised_to_be_durable() {
    for (server, promises) in [
        (Kind::OpenSsh.shared(), true),
        (Kind::RcloneSftp.shared(), false),
        (openssh_with_subsystem("internal-sftp -P fsync").map(Arc::new), false),
    ] {
        let Some(server) = server else { continue };
        let place = server.place();
        // The last one has no folder of its own to begin in.
        let path = match server.ssh().key {
            Some(_) => server.directory(&place).display().to_string(),
            None => place.clone(),
        };
        let driver = open_sftp(sftp::Config { path, ..config(&server) }).await.unwrap();
        assert_eq!(driver.capabilities().durable_ack, promises);
        let (key, content) = (fresh_key(), noise(100_000, 1));
        write(&*driver, &key, &content).await.unwrap();
        assert_eq!(read(&*driver, &key).await.unwrap(), content);
    }
}

//! OpenSSH, which serves SFTP.

use crate::{Server, Ssh, missing};
use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

/// Who serves when root asks: root's server would need a user and a folder of its own on the machine.
const USER: &str = "www-data";
/// Two keys, of which a client chooses one. rclone has the first.
pub(crate) const HOST_KEYS: [(&str, &str); 2] = [("host_ed25519", "ed25519"), ("host_ecdsa", "ecdsa")];
const USER_KEY: &str = "user_key";

pub(crate) fn sftp() -> Option<Server> {
    serve(|root| format!("internal-sftp -d {}", root.display()))
}

/// The same with another program in place of its own server of SFTP. Only the program's answers are not OpenSSH's.
///
/// # Panics
/// If it does not start.
pub fn with_subsystem(command: &str) -> Option<Server> {
    serve(|_| command.to_owned())
}

fn serve(subsystem: impl Fn(&Path) -> String) -> Option<Server> {
    let program = missing::find("sshd")?;
    let maker = missing::find("ssh-keygen")?;
    Some(Server::start(|address, root, scratch| {
        let user = user();
        for (name, kind) in HOST_KEYS.into_iter().chain([(USER_KEY, "ed25519")]) {
            make_key(&maker, scratch, name, kind);
            own(&scratch.join(name), user.as_ref());
        }
        let settings = scratch.join("sshd.conf");
        let text = config(&address.ip().to_string(), address.port(), scratch, &subsystem(root));
        fs::write(&settings, text).expect("settings can be written");
        let mut command = Command::new(&program);
        command.arg("-f").arg(settings).args(["-D", "-e"]);
        // What it was unpacked with.
        if let Some(libraries) = program.parent().map(|bin| bin.join("../lib")).filter(|lib| lib.is_dir()) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if let Some(Ids { user, group }) = user {
            command.uid(user).gid(group);
        }
        command
    }))
}

/// How one logs in to a server of SFTP, and what it is known by.
pub(crate) fn ssh(scratch: &Path) -> Ssh {
    let read = |name: &str| fs::read_to_string(scratch.join(name)).ok();
    let names = HOST_KEYS.iter().map(|(name, _)| *name);
    let host_keys = names.filter(|name| scratch.join(name).is_file()).map(|name| sum(scratch, name));
    let key = read(USER_KEY);
    let username = match (&key, user()) {
        (None, _) => crate::USER.to_owned(),
        (Some(_), Some(_)) => USER.to_owned(),
        (Some(_), None) => text(Command::new("id").arg("-un")),
    };
    Ssh { username, key, host_keys: host_keys.collect() }
}

/// Makes a pair of keys, `name` and `name.pub`.
pub(crate) fn make_key(maker: &Path, scratch: &Path, name: &str, kind: &str) {
    if scratch.join(name).is_file() {
        return;
    }
    let made = Command::new(maker)
        .args(["-q", "-N", "", "-C", "test", "-t", kind, "-f"])
        .arg(scratch.join(name))
        .status()
        .expect("a program that was found can be run");
    assert!(made.success(), "ssh-keygen makes no {kind} key");
}

fn sum(scratch: &Path, name: &str) -> String {
    let shown = text(Command::new("ssh-keygen").arg("-lf").arg(scratch.join(format!("{name}.pub"))));
    let sum = shown.split_whitespace().find(|word| word.starts_with("SHA256:"));
    sum.expect("ssh-keygen shows the sum of a key").to_owned()
}

fn text(command: &mut Command) -> String {
    let output = command.output().expect("a usual program can be run");
    String::from_utf8(output.stdout).expect("it speaks UTF-8").trim().to_owned()
}

#[derive(Clone, Copy)]
struct Ids {
    user: u32,
    group: u32,
}

/// Whom the server runs as; `None` for whoever runs the test.
fn user() -> Option<Ids> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("a system has users");
    let line = users.lines().find(|line| line.split(':').next() == Some(USER));
    let mut fields = line.expect("Debian has the user").split(':').skip(2);
    let mut id = || fields.next().and_then(|id| id.parse().ok()).expect("a user has ids");
    Some(Ids { user: id(), group: id() })
}

/// OpenSSH wants a key to be its user's, and nobody else's to read.
fn own(key: &Path, user: Option<&Ids>) {
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("permissions can be set");
    if let Some(Ids { user, group }) = user {
        chown(key, Some(*user), Some(*group)).expect("root may give files away");
    }
}

fn config(address: &str, port: u16, scratch: &Path, subsystem: &str) -> String {
    let scratch = scratch.display();
    let host_keys: String = HOST_KEYS.map(|(name, _)| format!("HostKey {scratch}/{name}\n")).concat();
    format!(
        "Port {port}\nListenAddress {address}\n{host_keys}AuthorizedKeysFile {scratch}/{USER_KEY}.pub\nStrictModes no\n\
         UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nUseDNS no\n\
         MaxStartups 1000\nLogLevel VERBOSE\nSubsystem sftp {subsystem}\n"
    )
}

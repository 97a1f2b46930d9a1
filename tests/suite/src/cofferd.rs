//! A real `cofferd` process per test.

use crate::TestDatabase;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A service on a database and a data directory of its own. Killed when dropped.
pub struct Cofferd {
    /// Its database.
    pub database: TestDatabase,
    directory: TempDir,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    crash_at: Option<String>,
    process: Option<Running>,
}

struct Running {
    child: Child,
    grpc_addr: String,
    http_addr: String,
}

/// Whom a token names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Token {
    user: Option<String>,
    organisation: Option<String>,
    app: Option<String>,
    roles: Vec<String>,
    projects: Vec<String>,
    ttl: Option<String>,
}

impl Token {
    /// A user of an organisation.
    pub fn user(user: &str, organisation: &str) -> Self {
        Self { user: Some(user.to_owned()), organisation: Some(organisation.to_owned()), ..Self::default() }
    }

    /// An app of an organisation, for itself.
    pub fn app(app: &str, organisation: &str) -> Self {
        Self { app: Some(app.to_owned()), organisation: Some(organisation.to_owned()), ..Self::default() }
    }

    /// The same through an app.
    pub fn through(mut self, app: &str) -> Self {
        self.app = Some(app.to_owned());
        self
    }

    /// The same with a role.
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.to_owned());
        self
    }

    /// The same in a project.
    pub fn project(mut self, project: &str) -> Self {
        self.projects.push(project.to_owned());
        self
    }

    /// The same for this long, for example `2s`.
    pub fn ttl(mut self, ttl: &str) -> Self {
        self.ttl = Some(ttl.to_owned());
        self
    }
}

impl Cofferd {
    /// Starts a service with the settings tests want: repairs at once, a short stall timeout.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further settings.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_in(settings, &[]).await
    }

    /// The same with environment variables.
    pub async fn start_in(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let database = TestDatabase::create().await;
        let directory =
            tempfile::Builder::new().prefix("coffer-test-").tempdir().expect("a temporary directory");
        let mut all = vec![
            ("database.url".to_owned(), database.url().await),
            ("reconcile.interval".to_owned(), "1s".to_owned()),
            ("local_paths.allowed_roots".to_owned(), directory.path().join("disks").display().to_string()),
            ("secrets.keys_file".to_owned(), write_keys(directory.path()).display().to_string()),
        ];
        fs::create_dir(directory.path().join("disks")).expect("the directory is new");
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        all.retain(|(key, _)| !settings.iter().any(|(given, _)| given == key));
        // An empty value leaves a setting out.
        all.extend(owned(settings).into_iter().filter(|(_, value)| !value.is_empty()));
        let mut me = Self {
            database,
            directory,
            settings: all,
            environment: owned(environment),
            crash_at: None,
            process: None,
        };
        me.launch().await;
        me
    }

    /// From its next launch on the process kills itself when it passes a step of the commit protocol, `name:passage`; `None`: not any more.
    pub fn crash_at(&mut self, step: Option<String>) {
        self.crash_at = step;
    }

    /// From its next launch on a setting has this value; an empty one leaves it out.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(given, _)| given != key);
        if !value.is_empty() {
            self.settings.push((key.to_owned(), value.to_owned()));
        }
    }

    /// Whether the process has ended by itself.
    pub fn is_dead(&mut self) -> bool {
        self.process
            .as_mut()
            .is_none_or(|running| running.child.try_wait().expect("the child can be waited for").is_some())
    }

    /// Starts the process again after [`Cofferd::kill`] or [`Cofferd::terminate`].
    ///
    /// # Panics
    /// If it does not start, unless it was meant to [crash](Cofferd::crash_at).
    pub async fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let state = self.data_dir().join("cofferd.json");
        // What a killed process has left must not be taken for the new one's.
        let _ = fs::remove_file(&state);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the log can be written");
        let mut command = match &self.crash_at {
            Some(step) => {
                let mut command = command("cofferd-crashing");
                command.env("CRASH_AT", step);
                command
            }
            None => command("cofferd"),
        };
        command.arg("serve").arg("--data-dir").arg(self.data_dir()).args([
            "--grpc-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
        ]);
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        let mut child = command.spawn().expect("cofferd can be started");
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                if self.crash_at.is_some() {
                    return;
                }
                panic!("cofferd ended with {status}:\n{}", self.log());
            }
            if let Some(state) =
                fs::read(&state).ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok())
            {
                let text = |key: &str| state[key].as_str().expect("an address").to_owned();
                self.process =
                    Some(Running { grpc_addr: text("grpc_addr"), http_addr: text("http_addr"), child });
                return;
            }
            assert!(since.elapsed() < START_TIMEOUT, "cofferd did not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.process.take() {
            running.child.kill().expect("the child can be killed");
            running.child.wait().expect("the child can be waited for");
        }
    }

    /// Asks the process to end and waits for it.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.end().await
    }

    /// Asks the process to end. A second time would end it at once.
    pub fn ask_to_end(&self) {
        let pid = rustix::process::Pid::from_child(&self.running().child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the child can be signalled");
    }

    /// Waits for the process to end.
    pub async fn end(&mut self) -> ExitStatus {
        let mut running = self.process.take().expect("it runs");
        let waited = tokio::task::spawn_blocking(move || running.child.wait());
        waited.await.expect("no panic").expect("the child can be waited for")
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// `host:port` of the gRPC listener.
    pub fn grpc_addr(&self) -> &str {
        &self.running().grpc_addr
    }

    /// `host:port` of the HTTP listener.
    pub fn http_addr(&self) -> &str {
        &self.running().http_addr
    }

    /// The service's data directory.
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// A directory below which local paths may be approved.
    pub fn disks(&self) -> PathBuf {
        self.data_dir().join("disks")
    }

    /// Where the default volume's objects are.
    pub fn main_volume(&self) -> PathBuf {
        self.data_dir().join("volumes/main")
    }

    /// All that the process has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A development token.
    pub fn token(&self, token: &Token) -> String {
        let mut command = command("cofferd");
        command.arg("token").arg("--data-dir").arg(self.data_dir());
        let mut option = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        };
        option("--user", &token.user);
        option("--org", &token.organisation);
        option("--app", &token.app);
        option("--ttl", &token.ttl);
        token.roles.iter().for_each(|role| option("--role", &Some(role.clone())));
        token.projects.iter().for_each(|project| option("--project", &Some(project.clone())));
        let output = command.output().expect("cofferd can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// What another verb says, with the settings of this service.
    pub async fn tool(&self, verb: &[&str]) -> Output {
        let mut command = command("cofferd");
        command.args(verb).arg("--data-dir").arg(self.data_dir());
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let ran = tokio::task::spawn_blocking(move || command.output()).await;
        ran.expect("no panic").expect("cofferd can be started")
    }

    /// Every object of the default volume, by key.
    pub fn objects(&self) -> Vec<String> {
        files_below(&self.main_volume()).into_iter().filter(|key| !key.starts_with(".coffer/")).collect()
    }

    fn running(&self) -> &Running {
        self.process.as_ref().expect("it runs")
    }

    fn log_file(&self) -> PathBuf {
        self.data_dir().join("cofferd.log")
    }
}

impl Drop for Cofferd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the last of cofferd's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// A file with a key named `test`.
fn write_keys(directory: &Path) -> PathBuf {
    let path = directory.join("keys.json");
    let content = r#"{"current":"test","keys":{"test":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#;
    fs::write(&path, content).expect("the directory is new");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    path
}

/// Relative paths of all files below a directory, sorted.
pub fn files_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            } else if let Ok(relative) = entry.path().strip_prefix(root) {
                found.push(relative.display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// A command of this workspace, without what its settings or ours were in the environment of the run.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    for (variable, _) in std::env::vars_os() {
        let is_setting = variable
            .to_str()
            .is_some_and(|name| name.starts_with("COFFER_") && name != "COFFER_POSTGRES_BIN");
        if is_setting || variable == "DATABASE_URL" {
            command.env_remove(variable);
        }
    }
    command
}

/// A binary of this workspace, built once per run.
fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    static CRASHING_BUILT: OnceLock<()> = OnceLock::new();
    let (built, arguments): (_, &[&str]) = match name {
        "cofferd-crashing" => (
            &CRASHING_BUILT,
            &["-p", "coffer-server", "--features", "crash-points", "--bin", "cofferd-crashing"],
        ),
        _ => (&BUILT, &["-p", "coffer-server", "-p", "coffer-client"]),
    };
    built.get_or_init(|| {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet"]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells a test of its package, some dependencies build themselves anew for.
        for (variable, _) in std::env::vars_os() {
            let is_of_package =
                |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if variable.to_str().is_some_and(is_of_package) {
                build.env_remove(variable);
            }
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the binaries build");
    });
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    target_directory().join(profile).join(name)
}

/// The workspace's `target`.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from)
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

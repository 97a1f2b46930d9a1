//! A server of FTP with its files in memory, which is as it should be but for what a test wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// What becomes of a command.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// What should.
    Usual,
    /// It is answered with these words, and nothing is done.
    Say(&'static str),
    /// It is never answered.
    Hang,
    /// It is answered with this, again and again.
    Flood(&'static str),
    /// A transfer that is said to be over before anything of it was taken.
    Early,
    /// Of an upload so many bytes are kept; all is said to be well.
    Keep(usize),
    /// The address that is named for data connections, with the right port.
    At([u8; 4]),
}

type Script = dyn Fn(&str) -> Act + Send + Sync;

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
    /// Lines that every listing ends with.
    more: String,
}

/// What its connections share.
struct Shared {
    disk: Mutex<Disk>,
    asked: Mutex<Vec<String>>,
    said: AtomicUsize,
    sessions: AtomicUsize,
    script: Box<Script>,
}

/// A server on loopback; it ends when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _accepts: AbortOnDropHandle<()>,
}

impl Server {
    /// `script` says what becomes of each command; the greeting is one with the name `greeting`, the end of an upload one with `226`.
    pub(super) async fn start(script: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            disk: Mutex::default(),
            asked: Mutex::default(),
            said: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            script: Box::new(script),
        });
        let for_all = Arc::clone(&shared);
        let accepts = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&for_all);
                shared.sessions.fetch_add(1, Ordering::SeqCst);
                sessions.spawn(async move {
                    let (from, to) = stream.into_split();
                    let mut session = Session { shared, to, listener: None, restart: 0, from_name: None };
                    let mut lines = BufReader::new(from).lines();
                    if session.act("greeting").await.is_none() {
                        return;
                    }
                    while let Ok(Some(line)) = lines.next_line().await {
                        if session.act(&line).await.is_none() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, shared, _accepts: AbortOnDropHandle::new(accepts) }
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many have connected.
    pub(super) fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::SeqCst)
    }

    /// How many bytes it has poured out.
    pub(super) fn said(&self) -> usize {
        self.shared.said.load(Ordering::SeqCst)
    }

    /// The files that are not the service's own.
    pub(super) fn published(&self) -> Vec<String> {
        let disk = self.shared.disk.lock().unwrap();
        disk.files.keys().filter(|name| !name.contains("/.coffer/")).cloned().collect()
    }

    /// Lets every listing end with these lines.
    pub(super) fn list_also(&self, lines: &str) {
        lines.clone_into(&mut self.shared.disk.lock().unwrap().more);
    }

    /// Puts a file there.
    pub(super) fn put(&self, path: &str, content: &[u8]) {
        self.shared.disk.lock().unwrap().files.insert(path.to_owned(), content.to_vec());
    }
}

struct Session {
    shared: Arc<Shared>,
    to: OwnedWriteHalf,
    listener: Option<TcpListener>,
    restart: usize,
    from_name: Option<String>,
}

impl Session {
    async fn say(&mut self, text: &str) -> Option<()> {
        self.to.write_all(format!("{text}\r\n").as_bytes()).await.ok()
    }

    /// `None` when the connection is over.
    async fn act(&mut self, line: &str) -> Option<()> {
        self.shared.asked.lock().unwrap().push(line.to_owned());
        let act = (self.shared.script)(line);
        match act {
            Act::Say(text) => return self.say(text).await,
            Act::Hang => std::future::pending().await,
            Act::Flood(text) => loop {
                self.to.write_all(text.as_bytes()).await.ok()?;
                self.shared.said.fetch_add(text.len(), Ordering::SeqCst);
            },
            Act::Usual | Act::Early | Act::Keep(_) | Act::At(_) => {}
        }
        let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "greeting" => self.say("220 ready").await,
            "USER" => self.say("331 who else").await,
            "PASS" => self.say("230 come in").await,
            "FEAT" => {
                self.say(
                    "211-these\r\n MLST type*;size*;modify*;\r\n EPSV\r\n SIZE\r\n REST STREAM\r\n211 end",
                )
                .await
            }
            "PWD" => self.say("257 \"/\" is where you are").await,
            "EPSV" => {
                let port = self.listen().await;
                self.say(&format!("229 there (|||{port}|)")).await
            }
            "PASV" => {
                let port = self.listen().await;
                let [a, b, c, d] = if let Act::At(address) = act { address } else { [127, 0, 0, 1] };
                self.say(&format!("227 there ({a},{b},{c},{d},{},{})", port >> 8, port & 255)).await
            }
            "REST" => {
                self.restart = name.parse().unwrap();
                self.say("350 from there").await
            }
            "STOR" | "APPE" => self.take(verb, name, &act).await,
            "RETR" => {
                let content = self.shared.disk.lock().unwrap().files.get(name).cloned();
                let start = std::mem::take(&mut self.restart);
                match content {
                    Some(content) => self.give(&content[start.min(content.len())..]).await,
                    None => self.say("550 no").await,
                }
            }
            "MLSD" => {
                let Some(listing) = self.listing(name) else { return self.say("550 no").await };
                self.give(listing.as_bytes()).await
            }
            _ => {
                let answer = self.at_once(verb, name);
                self.say(&answer).await
            }
        }
    }

    fn at_once(&mut self, verb: &str, name: &str) -> String {
        let mut disk = self.shared.disk.lock().unwrap();
        let is_folder = name == "/" || disk.folders.contains(name);
        match (verb, disk.files.get(name).map(Vec::len)) {
            ("SIZE", Some(size)) => format!("213 {size}"),
            ("MLST", Some(size)) => {
                format!("250-this\r\n type=file;size={size};modify=20261122190746; {name}\r\n250 end")
            }
            ("RNFR", Some(_)) => {
                self.from_name = Some(name.to_owned());
                "350 to what".to_owned()
            }
            ("RNTO", None) => {
                let content = self.from_name.take().and_then(|from| disk.files.remove(&from));
                disk.files.insert(name.to_owned(), content.unwrap());
                "250 done".to_owned()
            }
            ("DELE", Some(_)) => {
                disk.files.remove(name);
                "250 done".to_owned()
            }
            ("MKD", None) if !is_folder => {
                disk.folders.insert(name.to_owned());
                "257 done".to_owned()
            }
            ("RMD", None) if is_folder => {
                disk.folders.remove(name);
                "250 done".to_owned()
            }
            ("CWD", None) if is_folder => "250 you are there".to_owned(),
            ("NOOP" | "TYPE" | "OPTS", _) => "200 well".to_owned(),
            _ => "550 no".to_owned(),
        }
    }

    fn listing(&self, folder: &str) -> Option<String> {
        let disk = self.shared.disk.lock().unwrap();
        let below = if folder == "/" { "/".to_owned() } else { format!("{folder}/") };
        let files = disk.files.iter().filter_map(|(name, content)| {
            let own = name.strip_prefix(&below).filter(|own| !own.contains('/'))?;
            Some(format!("type=file;size={};modify=20261122190746; {own}\r\n", content.len()))
        });
        let folders = disk.folders.iter().filter_map(|name| {
            let own = name.strip_prefix(&below).filter(|own| !own.contains('/'))?;
            Some(format!("type=dir; {own}\r\n"))
        });
        let listing: String = files.chain(folders).chain([disk.more.clone()]).collect();
        (folder == "/" || disk.folders.contains(folder) || !listing.is_empty()).then_some(listing)
    }

    async fn listen(&mut self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.listener = Some(listener);
        port
    }

    async fn data(&mut self) -> Option<TcpStream> {
        Some(self.listener.take()?.accept().await.ok()?.0)
    }

    async fn take(&mut self, verb: &str, name: &str, act: &Act) -> Option<()> {
        self.say("150 go on").await?;
        let mut data = self.data().await?;
        if matches!(act, Act::Early) {
            self.say("226 it is all here").await?;
        }
        let mut content = Vec::new();
        data.read_to_end(&mut content).await.ok()?;
        match act {
            Act::Early => return Some(()),
            Act::Keep(bytes) => content.truncate(*bytes),
            _ => {}
        }
        let start = std::mem::take(&mut self.restart);
        {
            let mut disk = self.shared.disk.lock().unwrap();
            let file = disk.files.entry(name.to_owned()).or_default();
            match (verb, start) {
                ("STOR", 0) => *file = content,
                ("STOR", start) => {
                    file.resize(file.len().max(start + content.len()), 0);
                    file[start..start + content.len()].copy_from_slice(&content);
                }
                _ => file.extend(content),
            }
        }
        match (self.shared.script)(&format!("226 {name}")) {
            Act::Hang => std::future::pending().await,
            Act::Say(text) => self.say(text).await,
            _ => self.say("226 it is all here").await,
        }
    }

    async fn give(&mut self, content: &[u8]) -> Option<()> {
        self.say("150 here it comes").await?;
        let mut data = self.data().await?;
        let answer = match data.write_all(content).await {
            Ok(()) => "226 that was it",
            Err(_) => "426 you left",
        };
        drop(data);
        self.say(answer).await
    }
}

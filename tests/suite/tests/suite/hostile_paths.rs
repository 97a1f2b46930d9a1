//! Paths that are meant to lead elsewhere, by the thousand: nothing is stored, found or removed outside a volume.

use super::{
    crash::settle_at,
    quotas::nothing_drifts,
    strategies::{move_to, objects, on, purge},
    volumes::volume_with,
};
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    cofferd::files_below,
    dice::{Dice, number_of_run},
    grpc::Clients,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};
use tonic::{Code, Status};

/// Paths on each of the two volumes in the run of the suite; `COFFER_PATHS` asks for more.
const PATHS: u64 = 400;
/// Names below a volume that lead out of it, by links that somebody has put there.
const LINKS: [&str; 3] = ["out", "up", "canary"];
/// What paths are made of, beside names that are planted: ways up however they are written, what the service keeps for itself, what other
/// programs cut off, fold together or take for something else.
const SEGMENTS: [&str; 34] = [
    "..",
    ".",
    "...",
    ". .",
    "..;",
    "..%00",
    "%2e%2e",
    "%2E%2e",
    "%252e%252e",
    "..%2f",
    "..\\",
    "\\..",
    "\u{ff0e}\u{ff0e}",
    "\u{2024}\u{2024}",
    "\u{2025}",
    "..\u{200d}",
    "\u{feff}..",
    "\u{202e}..",
    "..\0",
    "\0",
    "\n",
    "\u{7f}",
    "",
    " ",
    "~",
    "$HOME",
    "C:",
    "CON",
    ".coffer",
    ".COFFER",
    "volume.json",
    "staging",
    "versions",
    "e\u{301}",
];
const SEPARATORS: [&str; 7] = ["/", "/", "/", "//", "\\", "\u{2215}", "%2f"];
const CANARY: &[u8] = b"not ours";

/// What must stay as it is, beside the volumes.
struct Outside {
    place: PathBuf,
    before: Vec<(PathBuf, [i64; 4], u64)>,
}

impl Outside {
    fn new(cofferd: &Cofferd) -> Self {
        let place = cofferd.disks().join("outside");
        fs::create_dir(&place).unwrap();
        for name in ["canary", "object", "file"] {
            fs::write(place.join(name), CANARY).unwrap();
        }
        let before = Self::look(&place);
        Self { place, before }
    }

    /// Names, and times of change: of the directory, which changes with every name, and of what is in it.
    fn look(place: &Path) -> Vec<(PathBuf, [i64; 4], u64)> {
        let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.chain([place.to_owned()]).collect();
        paths.sort();
        let look = |path: PathBuf| {
            let meta = fs::symlink_metadata(&path).unwrap();
            (path, [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()], meta.nlink())
        };
        paths.into_iter().map(look).collect()
    }

    fn assert_untouched(&self) {
        assert_eq!(Self::look(&self.place), self.before);
        assert!(
            files_below(&self.place).iter().all(|name| fs::read(self.place.join(name)).unwrap() == CANARY)
        );
    }

    /// Where the links below a volume lead.
    fn targets(&self) -> [(&str, PathBuf); 3] {
        let [out, up, canary] = LINKS;
        [(out, self.place.clone()), (up, "../..".into()), (canary, self.place.join("canary"))]
    }

    fn link_from(&self, volume: &Path) {
        for (name, target) in self.targets() {
            symlink(target, volume.join(name)).unwrap();
        }
    }

    /// Nobody has touched them.
    fn unlink_from(&self, volume: &Path) {
        for (name, target) in self.targets() {
            assert_eq!(fs::read_link(volume.join(name)).unwrap(), target);
            fs::remove_file(volume.join(name)).unwrap();
        }
    }

    /// A path that somebody might send who wants to come here.
    fn path(&self, dice: &mut Dice) -> String {
        let mut path = match dice.below(8) {
            0 => "/".to_owned(),
            1 => format!("{}/", self.place.display()),
            2 => "../".repeat(1 + dice.below(8) as usize),
            _ => String::new(),
        };
        let names = [&SEGMENTS[..], &LINKS, &["outside", "object", "file", "a", "b"]].concat();
        for n in 0..1 + dice.below(5) {
            if n > 0 {
                path.push_str(SEPARATORS[dice.below(SEPARATORS.len() as u64) as usize]);
            }
            // Half of the segments are harmless, or hardly a path would get past the first look.
            let name = match dice.below(2) {
                0 => names[dice.below(names.len() as u64) as usize],
                _ => names[names.len() - 1 - dice.below(8) as usize],
            };
            path.push_str(name);
        }
        path
    }
}

/// Whether a path was refused for what it is, or for what is there.
fn is_refused(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::AlreadyExists | Code::NotFound)
}

async fn read_at(clients: &Clients, volume: &str, path: &str) -> Result<Vec<u8>, Status> {
    let path = v1::PathReference { volume: volume.to_owned(), path: path.to_owned() };
    let file = Some(v1::FileReference { by: Some(v1::file_reference::By::Path(path)) });
    Ok(clients.read(v1::ReadFileRequest { file, ..Default::default() }).await?.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_out_of_its_volume() {
    let cofferd = Cofferd::start().await;
    let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let place = cofferd.disks().join("paths");
    volume_with(&operator, "paths", &place, |volume| volume.set_auto_path_strategy(v1::PathStrategy::None))
        .await;
    let outside = Outside::new(&cofferd);
    for place in [&place, &cofferd.main_volume()] {
        outside.link_from(place);
    }
    let mut dice = Dice::of_run(0x5EED);

    let each = number_of_run("COFFER_PATHS", PATHS) as usize;
    // Where keys are made by the service, and where they are the paths.
    for volume in ["main", "paths"] {
        let mut stored = BTreeMap::new();
        for path in (0..each).map(|_| outside.path(&mut dice)) {
            match read_at(&ann, volume, &path).await {
                Ok(content) => assert!(content.starts_with(b"sent to "), "{path:?}"),
                Err(status) => assert!(is_refused(&status), "{path:?}: {status:?}"),
            }
            let content = format!("sent to {path}");
            match ann.upload(on(volume, &path), content.as_bytes()).await {
                Ok(file) => {
                    assert_eq!(read_at(&ann, volume, &path).await.unwrap(), content.as_bytes());
                    // The same text in NFC.
                    stored.insert(file.path.replace("e\u{301}", "\u{e9}"), file.id);
                }
                Err(status) => assert!(is_refused(&status), "{path:?}: {status:?}"),
            }
        }
        println!("{volume}: {each} paths, {} of them stored", stored.len());
        assert!((each / 40..each / 2).contains(&stored.len()), "a part of them is harmless");
        outside.assert_untouched();
        if volume == "paths" {
            let mut found = objects(&place);
            found.retain(|path| !LINKS.contains(&path.as_str()));
            assert_eq!(found, stored.keys().cloned().collect::<Vec<_>>());
        }
        // Elsewhere, and away.
        let moves: Vec<(&String, String)> = stored.values().map(|id| (id, outside.path(&mut dice))).collect();
        for (id, path) in moves {
            if let Err(status) = move_to(&ann, id, &path).await {
                assert!(is_refused(&status), "{path:?}: {status:?}");
            }
            purge(&ann, id).await;
        }
        outside.assert_untouched();
    }
    for place in [&place, &cofferd.main_volume()] {
        outside.unlink_from(place);
    }
    settle_at(&cofferd, &place).await;
    assert_eq!(files_below(&place), [".coffer/volume.json"]);
    let names = |place: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&cofferd.disks()), ["outside", "paths"]);
    outside.assert_untouched();
    nothing_drifts(&cofferd).await;
}

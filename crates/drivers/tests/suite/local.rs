//! What is the local driver's alone.

mod confinement;
mod copy;
mod faults;
mod jobs;
mod leftovers;
mod listing;
mod order;
mod reading;
mod resume;
mod root;
mod space;
mod strace;

use coffer_drivers::local::{Config, Local, Staging};
use std::path::Path;

async fn open(root: &Path) -> Local {
    open_with(root, Staging::Unnamed).await
}

async fn open_with(root: &Path, staging: Staging) -> Local {
    Local::open(Config { root: root.to_owned(), staging, ..Config::default() }).await.unwrap()
}

/// Every regular file below `root`, as paths relative to it, sorted.
fn files(root: &Path) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

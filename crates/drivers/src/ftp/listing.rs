//! Keys in byte order, folder by folder.

use super::{client::Client, folders::Entry, lines::Is};
use crate::remote::{Failure, Wanted};
use coffer_domain::{
    driver::{Listed, Stat},
    path::Key,
};

/// Objects of a volume, in the order of their keys.
///
/// Names are sorted within a folder, where a folder counts as its name with the slash: so what is below comes where its keys do.
pub(super) async fn list(
    client: &Client,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<Listed>, Failure> {
    let Some(wanted) = Wanted::new(prefix, after) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut left = vec![Entry { name: client.below(wanted.folder()), is: Is::Folder }];
    while let Some(Entry { name, is }) = left.pop() {
        let Some(own) = client.inside(&name) else { continue };
        match is {
            // Names that no key has are not ours.
            Is::File { size, changed_at } => {
                if let Ok(key) = Key::parse(own)
                    && wanted.has(&key)
                    && let Some(stat) = stat(client, &name, size, changed_at).await?
                {
                    found.push(Listed { key, stat });
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            Is::Folder if wanted.may_have_below(own) => match client.folder(&name).await? {
                Some(mut entries) => {
                    entries.sort_by(|a, b| b.name.cmp(&a.name));
                    left.extend(entries);
                }
                // One that is gone meanwhile, or never was, is empty; but not one that may not be looked into.
                None => client.expect_absent(&name).await?,
            },
            Is::Folder | Is::Nothing => {}
        }
    }
    Ok(found)
}

/// What a look tells; `None` if it is gone meanwhile.
async fn stat(
    client: &Client,
    name: &str,
    size: u64,
    changed_at: Option<coffer_domain::time::Timestamp>,
) -> Result<Option<Stat>, Failure> {
    match changed_at {
        Some(changed_at) => Ok(Some(Stat { size, changed_at })),
        None => client.stat(name).await,
    }
}

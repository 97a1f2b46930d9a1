//! Keys in byte order, folder by folder.

use super::{client::Client, dav::Entry};
use crate::remote::{Failure, Wanted};
use coffer_domain::{driver::Listed, path::Key};

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
    let mut left = vec![Entry { name: client.below(wanted.folder()), stat: None }];
    while let Some(Entry { name, stat }) = left.pop() {
        let Some(own) = client.inside(&name) else { continue };
        if let Some(stat) = stat {
            // Names that no key has are not ours.
            let Ok(key) = Key::parse(own) else { continue };
            if wanted.has(&key) {
                found.push(Listed { key, stat });
                if found.len() == limit {
                    return Ok(found);
                }
            }
            continue;
        }
        if !wanted.may_have_below(own) {
            continue;
        }
        let Some(mut entries) = client.folder(&name).await? else {
            // One that is gone meanwhile, or never was, is empty; but not the one that everything is in.
            client.expect_folder().await?;
            continue;
        };
        entries.sort_by(|a, b| b.name.cmp(&a.name));
        left.extend(entries);
    }
    Ok(found)
}

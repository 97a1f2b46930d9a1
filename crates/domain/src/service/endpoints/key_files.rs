//! Private keys that stand in files of the host.

use std::path::{Path, PathBuf};
use tokio::fs;

/// The file that a path names, absolute or from `folder`, by its real path; `None` where it is no file, or no file below the folder when all links
/// are followed.
pub(super) async fn find(folder: &Path, path: &str) -> Option<PathBuf> {
    let real = fs::canonicalize(folder.join(path)).await.ok()?;
    let folder = fs::canonicalize(folder).await.ok()?;
    let is_file = fs::metadata(&real).await.ok()?.is_file();
    (is_file && real.starts_with(folder)).then_some(real)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn only_files_below_the_folder_are_found() {
        let top = std::env::temp_dir().join(format!("coffer-{}", uuid::Uuid::now_v7()));
        let (folder, link) = (top.join("keys"), top.join("link"));
        std::fs::create_dir_all(folder.join("clinic")).unwrap();
        std::fs::create_dir(top.join("keys-of-others")).unwrap();
        for file in ["keys/clinic/id", "keys-of-others/id", "secret"] {
            std::fs::write(top.join(file), "key").unwrap();
        }
        symlink("clinic/id", folder.join("inside")).unwrap();
        symlink("../secret", folder.join("outside")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("keys", &link).unwrap();
        let real = std::fs::canonicalize(&folder).unwrap().join("clinic/id");
        let absolute = folder.join("clinic/id").display().to_string();
        for (folder, path) in
            [(&folder, "clinic/id"), (&folder, absolute.as_str()), (&folder, "inside"), (&link, "clinic/id")]
        {
            assert_eq!(find(folder, path).await.as_ref(), Some(&real), "{path}");
        }
        let beside = top.join("keys-of-others/id").display().to_string();
        for path in ["", "clinic", "absent", "outside", "up/secret", "../secret", "/etc/passwd", &beside] {
            assert_eq!(find(&folder, path).await, None, "{path}");
        }
        assert_eq!(find(&top.join("absent"), &absolute).await, None);
        std::fs::remove_dir_all(&top).unwrap();
    }
}

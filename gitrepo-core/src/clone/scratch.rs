//! The hidden directory in which a clone is built, beside the place where it will appear.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::error::chain;
use crate::store::StoreError;
use crate::store::durable::random_name;
use crate::store::lock::Lock;
use crate::store::lock::try_lock_existing;
use crate::store::remove_tree;

/// `.<name>.gitrepo-<random>` beside `<name>`: on the same filesystem, so that a rename finishes the clone. It is locked
/// while its clone lives and deleted when this is dropped; one that nobody holds was left by a killed clone.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: Lock,
}

impl Scratch {
    pub(super) fn beside(destination: &Path) -> Result<Self, StoreError> {
        let prefix = prefix(destination);
        remove_abandoned(destination, &prefix);
        loop {
            let mut name = prefix.clone();
            name.push(random_name()?);
            let path = destination.with_file_name(name);
            DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
            // `None` when another clone to the same place took it for abandoned, in between.
            if let Some(lock) = try_lock_existing(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %chain(&error), "a hidden directory is left behind");
        }
    }
}

fn prefix(destination: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(destination.file_name().unwrap_or_default());
    prefix.push(".gitrepo-");
    prefix
}

/// Best effort: what cannot be listed or deleted is no reason not to clone.
fn remove_abandoned(destination: &Path, prefix: &OsString) {
    let Some(Ok(entries)) = destination.parent().map(std::fs::read_dir) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().as_bytes().starts_with(prefix.as_bytes());
        if ours && let Ok(Some(_abandoned)) = try_lock_existing(&entry.path()) {
            remove_tree(&entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let destination = place.path().join("site");
        let held = Scratch::beside(&destination).unwrap();
        let abandoned = place.path().join(".site.gitrepo-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join("file"), "half").unwrap();
        let other = place.path().join(".other.gitrepo-abandoned");
        std::fs::create_dir(&other).unwrap();

        let next = Scratch::beside(&destination).unwrap();

        assert!(held.path().exists() && next.path().exists() && other.exists());
        assert!(!abandoned.exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}

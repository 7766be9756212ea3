//! Checks that a store is still where it was.
//!
//! If a filesystem is unmounted, or not mounted after a boot, its mount point is an empty directory, like one where a
//! store is to be created. A process that has a store open identifies it by the device and inode of its root. For later
//! processes, a file outside the store records that it was on a filesystem of its own: then no new store is created in
//! its place.

use std::fs;
use std::fs::Metadata;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::mount::directory::is_absence;

use super::Store;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::layout;

const PROBE_FILE: &str = "probe";

/// Why a store is missing that was there before.
pub(super) const REPLACED: &str = "another directory is in its place";

/// Size limit of the file that records where a store was: longer than any path.
const MEMORY_LIMIT: u64 = 8192;

/// Identifies a directory, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::of_found(&fs::symlink_metadata(path)?))
    }

    pub(super) fn of_found(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

impl Store {
    /// Checks that the store is still where it was opened.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if it is gone or replaced; another error if its filesystem fails to answer.
    pub fn check(&self) -> Result<(), StoreError> {
        match Identity::of(self.root()) {
            Ok(identity) if identity == self.layout.identity => Ok(()),
            Ok(_) => Err(missing(self.root(), REPLACED)),
            Err(error) if is_absence(&error) => Err(missing(self.root(), "there is no such directory")),
            Err(error) => Err(StoreError::io("examine", self.root())(error)),
        }
    }

    /// Checks that the store is writable: makes directories of its layout that are missing, and writes a small file in
    /// place, so that a full disk is not an error. May block as long as the filesystem does.
    ///
    /// # Errors
    ///
    /// As [`Store::check`], and any write error.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.check()?;
        self.layout.complete()?;
        let path = self.root().join(PROBE_FILE);
        let write = || {
            let mut file = durable::open_in_place(&path)?;
            file.write_all(b"ok\n").and_then(|()| file.sync_data())
        };
        match write().map_err(StoreError::io("write", &path)) {
            Err(error) if error.is_full() => Ok(()),
            result => result,
        }
    }

    /// Checks that there is a store at `root`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if there is none.
    pub fn is_at(root: &Path) -> Result<(), StoreError> {
        match layout::is_there(root) {
            Ok(true) => Ok(()),
            Ok(false) => Err(missing(root, "there is no store")),
            Err(error) => Err(error),
        }
    }

    /// Like [`Store::open`], but creates no store if `memory`, a file outside the store, records that an earlier store
    /// at `root` was on a filesystem of its own. Keeps that file up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if that store is gone; otherwise as [`Store::open`].
    pub fn open_remembered(root: &Path, memory: &Path) -> Result<Self, StoreError> {
        let line = format!("{}\n", root.display());
        let remembered = optional(durable::read(memory, MEMORY_LIMIT))?.is_some_and(|text| text == line.as_bytes());
        // An empty separate filesystem is a new disk, not the mount point of a missing one.
        let is_bare = || fs::metadata(root).map_or(true, |found| !is_elsewhere(found.dev(), memory));
        if remembered && !layout::is_there(root)? && is_bare() {
            let reason = format!(
                "it had a filesystem of its own, which is not mounted now (to create a new store here, delete the \
                 file {:?} beside the driver's socket)",
                memory.file_name().unwrap_or_default()
            );
            return Err(missing(root, &reason));
        }
        let store = Self::open(root)?;
        let changed = match (store.has_own_filesystem(memory), remembered) {
            (true, false) => durable::replace(memory, line.as_bytes(), Durability::Durable),
            (false, true) => fs::remove_file(memory).map_err(StoreError::io("delete", memory)),
            _ => Ok(()),
        };
        if let Err(error) = changed {
            // The store itself is present.
            tracing::warn!(error = %crate::error::chain(&error), "cannot record where the store is");
        }
        Ok(store)
    }

    fn has_own_filesystem(&self, memory: &Path) -> bool {
        is_elsewhere(self.layout.identity.device, memory)
    }
}

/// Whether `device` is another filesystem than that of `memory`.
fn is_elsewhere(device: u64, memory: &Path) -> bool {
    let parent = memory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::metadata(parent).is_ok_and(|metadata| metadata.dev() != device)
}

pub(super) fn missing(root: &Path, reason: &str) -> StoreError {
    StoreError::Missing { path: PathBuf::from(root), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use nix::mount::MntFlags;
    use nix::mount::MsFlags;
    use nix::mount::mount;
    use nix::mount::umount2;

    use super::*;
    use crate::error::Kind;
    use crate::store::fixture::on_small_filesystem;
    use crate::store::fixture::store;

    #[test]
    fn a_removed_or_replaced_store_is_missing_until_it_is_back() {
        let (place, store) = store();
        let away = place.path().join("away");
        store.probe().unwrap();
        fs::rename(store.root(), &away).unwrap();
        for _ in 0..2 {
            let error = store.probe().unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.to_string().contains("check its mount, then retry"), "{error}");
            // As if the store had disappeared just after the check.
            assert_eq!(store.layout.complete().unwrap_err().kind(), Kind::Unavailable);
            assert!(fs::read_dir(store.root()).map_or(true, |mut made| made.next().is_none()), "nothing is made there");
            assert!(matches!(Store::is_at(store.root()), Err(StoreError::Missing { .. })));
            fs::create_dir_all(store.root()).unwrap();
        }
        fs::remove_dir(store.root()).unwrap();
        fs::rename(&away, store.root()).unwrap();
        store.probe().unwrap();
        Store::is_at(store.root()).unwrap();
    }

    #[test]
    fn no_store_is_created_on_the_mount_point_of_an_unmounted_one() {
        on_small_filesystem("size=1m", |place| {
            let (root, memory) = (place.join("store"), place.join("memory"));
            Store::open_remembered(&root, &memory).unwrap();
            assert!(!memory.exists(), "on the same filesystem");
            crate::store::trash::remove_tree(&root).unwrap();
            fs::create_dir(&root).unwrap();
            let none = None::<&str>;
            mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700")).unwrap();
            for _ in 0..2 {
                Store::open_remembered(&root, &memory).unwrap();
                assert!(memory.exists());
            }
            let kept = place.join("kept");
            fs::create_dir(&kept).unwrap();
            mount(Some(&root), &kept, none, MsFlags::MS_BIND, none).unwrap();
            umount2(&root, MntFlags::MNT_DETACH).unwrap();
            let error = Store::open_remembered(&root, &memory).unwrap_err();
            assert!(matches!(error, StoreError::Missing { .. }), "{error}");
            assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "nothing is made there");
            mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=700")).unwrap();
            Store::open_remembered(&root, &memory).expect("a new disk");
            umount2(&root, MntFlags::MNT_DETACH).unwrap();
            mount(Some(&kept), &root, none, MsFlags::MS_BIND, none).unwrap();
            Store::open_remembered(&root, &memory).unwrap();
            // Another directory is another store, and an admin may give up a store and replace it.
            Store::open_remembered(&place.join("other"), &memory).unwrap();
            umount2(&root, MntFlags::MNT_DETACH).unwrap();
            fs::remove_file(&memory).unwrap();
            Store::open_remembered(&root, &memory).unwrap();
        });
    }
}

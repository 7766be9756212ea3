//! A file system in memory.

use std::path::Path;
use std::path::PathBuf;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use tempfile::TempDir;

use crate::namespace;
use crate::require;

/// A tmpfs, mounted in the thread's private mount namespace until dropped. The kernel mounts images in it only through
/// loop devices.
pub struct Tmpfs {
    root: PathBuf,
    _place: TempDir,
}

impl Tmpfs {
    /// Mounts one in a [private mount namespace][namespace::private_mounts]; `None` without root.
    pub fn if_possible() -> Option<Self> {
        if !require::root("to mount") {
            return None;
        }
        namespace::private_mounts();
        let place = TempDir::new().unwrap();
        let root = place.path().canonicalize().unwrap();
        nix::mount::mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        Some(Self { root, _place: place })
    }

    /// The mount point, an empty directory at first.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left mounts or open files below.
        let _ = nix::mount::umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

//! The directories of a writable layer.
//!
//! ```text
//! upper/    what was changed; its owner and mode are those of the volume's root
//! work/     the kernel's own; made last, so a layer that has it is complete
//! full      whether the layer has exceeded its limit and is read-only since
//! ```

use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

use crate::snapshot::VolumeRoot;

use super::durable;
use super::error::StoreError;
use super::error::optional;

const UPPER: &str = "upper";
const WORK: &str = "work";
const FULL: &str = "full";

/// The place of a layer, which may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    directory: PathBuf,
}

impl Layer {
    pub(super) fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the directory of what was changed.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.join(UPPER)
    }

    /// Returns the directory for the kernel's own use.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join(WORK)
    }

    /// Whether the layer was made. Nothing is written to one that is not complete.
    pub(crate) fn is_complete(&self) -> Result<bool, StoreError> {
        let work = self.work();
        Ok(optional(fs::symlink_metadata(&work).map_err(StoreError::io("examine", &work)))?.is_some())
    }

    /// Makes the layer, with this root. Completes one that a dead process has begun.
    pub(crate) fn make(&self, root: VolumeRoot) -> Result<(), StoreError> {
        let (upper, work) = (self.upper(), self.work());
        make_directory(&upper)?;
        chown(&upper, Some(root.owner.uid), Some(root.owner.gid)).map_err(StoreError::io("give away", &upper))?;
        // After the owner, whose change may clear bits.
        fs::set_permissions(&upper, fs::Permissions::from_mode(root.mode))
            .map_err(StoreError::io("set the permissions of", &upper))?;
        make_directory(&work)
    }

    /// Whether the layer has exceeded its limit and is read-only since.
    pub(crate) fn is_full(&self) -> bool {
        self.directory.join(FULL).symlink_metadata().is_ok()
    }

    /// Notes durably that the layer is read-only until it is deleted.
    pub(crate) fn mark_full(&self) -> Result<(), StoreError> {
        let mark = self.directory.join(FULL);
        durable::open_in_place(&mark).map_err(StoreError::io("make", &mark))?;
        durable::sync_directory(&self.directory)
    }
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(StoreError::io("make", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::snapshot::Owner;

    #[test]
    fn a_layer_is_complete_once_its_root_has_its_owner_and_mode() {
        let place = tempfile::tempdir().unwrap();
        let layer = Layer::in_directory(place.path());
        let user = nix::unistd::geteuid().as_raw();
        let group = nix::unistd::getegid().as_raw();
        assert!(!layer.is_complete().unwrap() && !layer.is_full());
        // As a process leaves it that is killed in between.
        make_directory(&layer.upper()).unwrap();
        assert!(!layer.is_complete().unwrap());
        layer.make(VolumeRoot { owner: Owner { uid: user, gid: group }, mode: 0o2775 }).unwrap();
        let found = fs::metadata(layer.upper()).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (user, group, 0o2775));
        assert!(layer.is_complete().unwrap() && !layer.is_full());
        layer.mark_full().unwrap();
        layer.mark_full().unwrap();
        assert!(layer.is_full());
    }
}

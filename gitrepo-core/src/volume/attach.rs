//! The last step of a publish and the first of an unpublish: the mount, the target directory and a private copy.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use super::PublishError;
use super::UnpublishError;
use super::VolumeRequest;
use super::Volumes;
use crate::mount::Bind;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Mounter;
use crate::snapshot;
use crate::snapshot::Owner;
use crate::snapshot::Watch;
use crate::store::Record;
use crate::store::SnapshotLease;
use crate::store::StoreError;
use crate::store::TargetSlot;

/// Mode of a target directory that we make, as the kubelet makes them.
const TARGET_MODE: u32 = 0o750;

/// The target directory before anything is attached to it.
pub(super) struct Target {
    /// It was there.
    pub(super) existed: bool,
}

impl Target {
    /// Looks at the target, which must be free: nothing mounted on it.
    pub(super) fn find(target: &Path, mounter: &dyn Mounter) -> Result<Self, PublishError> {
        let failed = |source| PublishError::TargetDirectory { target: target.to_owned(), source };
        let existed = match std::fs::symlink_metadata(target) {
            Ok(metadata) if metadata.is_dir() => true,
            Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        match mounted_on(target, mounter)? {
            None => Ok(Self { existed }),
            Some(mount) => Err(PublishError::TargetMounted {
                target: target.to_owned(),
                filesystem: mount.filesystem,
                root: mount.root.display().to_string(),
            }),
        }
    }
}

impl Volumes {
    /// Makes the target directory and the private copy, where they are missing, and mounts.
    pub(super) fn attach(
        &self,
        slot: &TargetSlot,
        record: &Record,
        request: &VolumeRequest,
        lease: &SnapshotLease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        let failed = |source| PublishError::TargetDirectory { target: record.target.clone(), source };
        match DirBuilder::new().mode(TARGET_MODE).create(&record.target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let shown = self.format.source(lease.path());
        let source = if record.copy { self.private_copy(slot, &shown, request, watch)? } else { shown };
        self.mounter.bind(&Bind { source, target: record.target.clone(), read_only: record.read_only })?;
        Ok(())
    }

    /// The volume's own plain copy: the one it has, or a new one, complete before it gets its name.
    fn private_copy(
        &self,
        slot: &TargetSlot,
        shown: &Path,
        request: &VolumeRequest,
        watch: &Watch,
    ) -> Result<PathBuf, PublishError> {
        let copy = slot.copy_dir();
        if copy.is_dir() {
            return Ok(copy);
        }
        let staging = self.store.staging()?;
        let made = staging.path().join("copy");
        std::fs::create_dir(&made).map_err(StoreError::io("make", &made))?;
        let owner = Owner { uid: request.spec.uid, gid: request.spec.uid };
        snapshot::copy(shown, &made, owner, &watch.cancel)?;
        Ok(slot.install_copy(&staging, &made)?)
    }

    /// Unmounts, removes the target directory if we made it, and forgets the record and the copy.
    pub(super) fn detach(&self, slot: &TargetSlot, record: &Record) -> Result<usize, UnpublishError> {
        let mounts = self.mounter.unmount(&record.target)?;
        slot.remove()?;
        if record.target_created
            && let Err(error) = std::fs::remove_dir(&record.target)
        {
            // Whoever put something there since keeps it; only a directory that is ours and empty goes.
            tracing::debug!(target = %record.target.display(), %error, "the target directory stays");
        }
        Ok(mounts)
    }

    /// Whether what the record says is mounted on its target, in this mount namespace.
    pub(super) fn is_attached(&self, record: &Record) -> Result<bool, MountError> {
        let source = match record.copy {
            true => self.store.copy_dir(record),
            false => self.format.source(&self.store.snapshot_path(&record.snapshot)),
        };
        self.mounter.shows(&Bind { source, target: record.target.clone(), read_only: record.read_only })
    }
}

/// The topmost mount on a target.
fn mounted_on(target: &Path, mounter: &dyn Mounter) -> Result<Option<MountPoint>, MountError> {
    Ok(mounter.list()?.into_iter().rev().find(|mount| mount.target == target))
}

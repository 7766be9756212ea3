//! The mount and the target directory: the last step of a publish, and the first of an unpublish.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::stat::mkdirat;
use nix::unistd::UnlinkatFlags;
use nix::unistd::unlinkat;

use super::PublishError;
use super::UnpublishError;
use super::VolumeRequest;
use super::Volumes;
use crate::cancel::Cancel;
use crate::error::Kind;
use crate::error::chain;
use crate::error::io_kind;
use crate::mount::Attachment;
use crate::mount::Mount;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Role;
use crate::mount::directory;
use crate::store::Deletion;
use crate::store::Layer;
use crate::store::Record;
use crate::store::Shows;
use crate::store::SnapshotLease;
use crate::store::StoreError;
use crate::store::TargetSlot;
use crate::store::VolumeSlot;
use crate::watch::Watch;

/// What a mount shows, for a message: an image, the layer of an overlay, or the part of a filesystem.
fn shown_part(mount: &MountPoint) -> PathBuf {
    match mount.image().map(Path::to_owned).or_else(|| mount.upper()) {
        Some(shown) if mount.root == Path::new("/") => shown,
        _ => mount.root.clone(),
    }
}

/// Mode of the target directories that we create, the same as the kubelet's.
const TARGET_MODE: Mode = Mode::S_IRWXU.union(Mode::S_IRGRP).union(Mode::S_IXGRP);

/// The target directory before anything is attached to it.
pub(super) struct Target {
    /// Whether the directory already existed.
    pub(super) existed: bool,
    /// Whether one of our mounts is left on it, although its record or a copy was lost. That mount is removed first.
    pub(super) remnant: bool,
}

/// The locks of a publish, held until the target is mounted.
pub(super) struct PublishLocks<'a> {
    /// The target's.
    pub(super) slot: &'a TargetSlot,
    /// The volume's, if its targets share a copy.
    pub(super) volume: Option<VolumeSlot>,
}

impl Volumes {
    /// Examines the target. Fails if something that is not ours is mounted on it.
    pub(super) fn find_target(&self, target: &Path, record: Option<&Record>) -> Result<Target, PublishError> {
        let failed = |source| PublishError::TargetDirectory { target: target.to_owned(), source };
        // This comes first: a symlink in the path would mislead every later step.
        drop(directory::open_parent(target, Role::Target)?);
        let existed = match std::fs::symlink_metadata(target) {
            Ok(metadata) if metadata.is_dir() => true,
            Ok(_) => return Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        // Nothing is mounted on a directory that does not exist.
        let mounted = if existed { self.mounted_on(target)? } else { None };
        match mounted {
            None => Ok(Target { existed, remnant: false }),
            Some(mount) if self.is_remnant(&mount, record)? => Ok(Target { existed, remnant: true }),
            Some(mount) => Err(PublishError::TargetMounted {
                target: target.to_owned(),
                root: shown_part(&mount).display().to_string(),
                filesystem: mount.filesystem,
            }),
        }
    }

    /// Creates the target directory and the copy if they are missing, and mounts. On failure nothing is mounted, and a
    /// directory that this call created is removed.
    pub(super) fn attach(
        &self,
        held: &PublishLocks<'_>,
        record: &Record,
        request: &VolumeRequest,
        lease: &SnapshotLease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        let made = make_directory(&record.target)?;
        let attached = self.mount(held, record, request, lease, watch);
        if attached.is_err() && made {
            // The failure that led here says more.
            remove_directory(&record.target).ok();
        }
        attached
    }

    fn mount(
        &self,
        held: &PublishLocks<'_>,
        record: &Record,
        request: &VolumeRequest,
        lease: &SnapshotLease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        // Of a copy or layer that is there: what a new one gets is set when it is made.
        self.projects.renew(&self.store.quota_mark(record));
        let attachment = match (&held.volume, record.shows) {
            (_, Shows::Layer | Shows::SharedLayer) => {
                return self.attach_layer(held, record, request, lease, watch);
            }
            (_, Shows::Snapshot) => lease.attachment()?,
            (Some(volume), _) => Attachment::Bind { source: self.shared_copy(volume, record, lease, request, watch)? },
            (None, _) => Attachment::Bind { source: self.private_copy(held.slot, lease, request, watch)? },
        };
        Ok(self.mounter.attach(&self.mount_of(attachment, record, false))?)
    }

    /// Unmounts the target and discards its record. With the last target of a volume, also discards the shared copy or
    /// layer.
    pub(super) fn detach(&self, slot: &TargetSlot, record: &Record, cancel: &Cancel) -> Result<usize, UnpublishError> {
        let mounts = if self.is_lost(record)? { 0 } else { self.mounter.unmount(&record.target)? };
        self.store.snapshot_was_used(&record.snapshot);
        if record.shows.is_shared() {
            self.detach_shared(slot, record, cancel)?;
        } else {
            self.projects.release(&self.store.quota_mark(record));
            forget(slot, record)?;
        }
        // A copy may have been made in the place of a layer.
        if record.shows.is_layer() || self.store.lower_path(&record.snapshot).exists() {
            self.release_lower(&record.snapshot.to_string());
        }
        Ok(mounts)
    }

    fn detach_shared(&self, slot: &TargetSlot, record: &Record, cancel: &Cancel) -> Result<(), UnpublishError> {
        let volume = self.store.volume(&record.volume_id, cancel)?;
        // The record is deleted first: if we die now, a sweep finds a copy without a record and removes it.
        forget(slot, record)?;
        self.release(&volume, &record.volume_id, &record.target)
    }

    /// Unmounts one of our mounts whose record was damaged and is lost.
    pub(super) fn detach_unrecorded(&self, slot: &TargetSlot, target: &Path) -> Result<usize, UnpublishError> {
        match self.mounted_on(target)? {
            Some(mount) if self.store.record_of_target(target)?.is_none() && self.is_remnant(&mount, None)? => {
                let mounts = self.mounter.unmount(target)?;
                slot.remove(Deletion::Later)?;
                Ok(mounts)
            }
            _ => Ok(0),
        }
    }

    /// Locks the volume of a target if its targets share a copy or a layer.
    pub(super) fn lock_if_shared(&self, record: &Record, cancel: &Cancel) -> Result<Option<VolumeSlot>, StoreError> {
        record.shows.is_shared().then(|| self.store.volume(&record.volume_id, cancel)).transpose()
    }

    /// Whether the recorded volume is mounted on its target, in this mount namespace.
    pub(super) fn is_attached(&self, record: &Record) -> Result<bool, MountError> {
        let is_full = self.is_full(record);
        // A layer is marked as full before its mounts become read-only.
        Ok(self.is_attached_as(record, is_full)? || (is_full && self.is_attached_as(record, false)?))
    }

    /// Whether the recorded volume is mounted on its target, read-only because its layer is full, or not.
    pub(super) fn is_attached_as(&self, record: &Record, is_full: bool) -> Result<bool, MountError> {
        self.mounter.shows(&self.mount_of(self.attachment(record), record, is_full))
    }

    /// Whether the recorded volume is gone from its target in this mount namespace. A volume that another mount covers
    /// is not gone.
    pub(super) fn is_lost(&self, record: &Record) -> Result<bool, MountError> {
        if self.is_attached(record)? {
            return Ok(false);
        }
        Ok(!self.is_among(&self.mounter.list()?, record))
    }

    /// Whether one of these mounts is the recorded volume on its target.
    pub(super) fn is_among(&self, mounts: &[MountPoint], record: &Record) -> bool {
        mounts.iter().any(|mount| mount.target == record.target && self.is_mount_of(mount, record))
    }

    /// Whether a mount is ours and may be removed: with a record, if it shows the recorded tree, deleted or not;
    /// without one, if it shows anything of this store.
    fn is_remnant(&self, mount: &MountPoint, record: Option<&Record>) -> Result<bool, MountError> {
        if let Some(record) = record {
            return Ok(self.is_mount_of(mount, record));
        }
        let Some(source) = self.store.shown_by(mount) else { return Ok(false) };
        let attachment = match mount.image() {
            Some(_) => Attachment::Image { metadata: source, devices: Vec::new() },
            // The other directories of an overlay do not count.
            None if mount.upper().is_some_and(|upper| upper.ends_with(source.file_name().unwrap_or_default())) => {
                Attachment::Overlay { lower: PathBuf::new(), upper: source, work: PathBuf::new() }
            }
            None => Attachment::Bind { source },
        };
        let is_frozen = matches!(attachment, Attachment::Overlay { .. }) && mount.is_frozen();
        let read_only = mount.is_read_only() || is_frozen;
        self.mounter.shows(&Mount { attachment, target: mount.target.clone(), read_only, label: None })
    }

    /// Whether a mount shows the tree that a record names, deleted or not.
    fn is_mount_of(&self, mount: &MountPoint, record: &Record) -> bool {
        match record.shows {
            Shows::Snapshot => self.store.is_mount_of_snapshot(mount, &record.snapshot),
            // A call that was making a copy of a layer may have died before the target showed what the record says.
            _ => [self.copy_of(record), self.layer_of(record).upper()]
                .iter()
                .any(|own| self.store.is_mount_of(mount, own)),
        }
    }

    /// Returns the directory, image or overlay that a recorded volume mounts.
    pub(super) fn attachment(&self, record: &Record) -> Attachment {
        match record.shows {
            Shows::Layer | Shows::SharedLayer => {
                let layer = self.layer_of(record);
                let lower = match self.store.snapshot_attachment(&record.snapshot) {
                    Attachment::Image { .. } => self.store.lower_path(&record.snapshot),
                    other => other.path().to_owned(),
                };
                overlay(&layer, lower)
            }
            Shows::SharedCopy | Shows::Copy => Attachment::Bind { source: self.copy_of(record) },
            Shows::Snapshot => self.store.snapshot_attachment(&record.snapshot),
        }
    }

    /// Returns the mount of a recorded volume. A layer that is full is read-only.
    pub(super) fn mount_of(&self, attachment: Attachment, record: &Record, is_full: bool) -> Mount {
        let read_only = record.shows.is_read_only() || is_full;
        let label = match attachment {
            // The files were labelled when they were made.
            Attachment::Bind { .. } => None,
            Attachment::Image { .. } | Attachment::Overlay { .. } => self.snapshots.gateway().policy().label().cloned(),
        };
        Mount { attachment, target: record.target.clone(), read_only, label }
    }

    /// Whether a mount on the target of a record is of this layer.
    pub(super) fn is_layer_on(&self, mount: &MountPoint, record: &Record, upper: &Path) -> bool {
        mount.target == record.target && mount.upper().is_some() && self.store.is_mount_of(mount, upper)
    }

    /// Returns the path of the copy that a recorded volume shows, if it shows one.
    pub(super) fn copy_of(&self, record: &Record) -> PathBuf {
        match record.shows.is_shared() {
            true => self.store.shared_tree(&record.volume_id),
            false => self.store.copy_dir(record),
        }
    }

    /// Returns the layer that a recorded volume shows, if it shows one.
    pub(super) fn layer_of(&self, record: &Record) -> Layer {
        match record.shows.is_shared() {
            true => self.store.shared_layer(&record.volume_id),
            false => self.store.layer(record),
        }
    }

    /// Whether a recorded volume shows a layer that has exceeded its limit, and is read-only until it is unpublished.
    pub fn is_full(&self, record: &Record) -> bool {
        record.shows.is_layer() && self.layer_of(record).is_full()
    }

    /// Returns the topmost mount on a target.
    fn mounted_on(&self, target: &Path) -> Result<Option<MountPoint>, MountError> {
        Ok(self.mounter.list()?.into_iter().rev().find(|mount| mount.target == target))
    }
}

/// Returns the overlay of a layer.
pub(super) fn overlay(layer: &Layer, lower: PathBuf) -> Attachment {
    Attachment::Overlay { lower, upper: layer.upper(), work: layer.work() }
}

/// Removes the target directory if we created it, then the record and the target's own copy. The record is deleted
/// last: after a crash, it says that the directory is ours.
fn forget(slot: &TargetSlot, record: &Record) -> Result<(), UnpublishError> {
    if record.target_created {
        remove_directory(&record.target)?;
    }
    Ok(slot.remove(Deletion::Later)?)
}

/// Creates the target directory. Returns whether it was missing. Follows no symlinks, like the mount itself.
fn make_directory(target: &Path) -> Result<bool, PublishError> {
    let (parent, name) = directory::open_parent(target, Role::Target)?;
    match mkdirat(&parent, name.as_c_str(), TARGET_MODE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(error) => Err(PublishError::TargetDirectory { target: target.to_owned(), source: error.into() }),
    }
}

/// Removes a target directory that we created, if it is empty and in no use. Only a filesystem that fails, and may
/// recover, is an error.
fn remove_directory(target: &Path) -> Result<(), StoreError> {
    let removed = directory::open_parent(target, Role::Target).and_then(|(parent, name)| {
        unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir).map_err(|error| MountError::Directory {
            path: target.to_owned(),
            role: Role::Target,
            source: error.into(),
        })
    });
    match removed {
        Err(MountError::Directory { source, .. }) if io_kind(&source) == Kind::Unavailable => {
            return Err(StoreError::io("delete the directory", target)(source));
        }
        Err(error) => tracing::debug!(error = %chain(&error), "cannot remove the target directory"),
        Ok(()) => {}
    }
    Ok(())
}

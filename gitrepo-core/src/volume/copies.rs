//! The plain copies that writable volumes show: one per target, or one for all targets of a volume on this node.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::PublishError;
use super::UnpublishError;
use super::VolumeRequest;
use super::Volumes;
use crate::cancel::Cancel;
use crate::error::chain;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::reserve::Reserve;
use crate::snapshot;
use crate::snapshot::CopyError;
use crate::snapshot::GroupAccess;
use crate::snapshot::LabelFailure;
use crate::snapshot::Ownership;
use crate::snapshot::VolumeRoot;
use crate::snapshot::Writers;
use crate::store::Deletion;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::store::Staging;
use crate::store::StoreError;
use crate::store::TargetSlot;
use crate::store::VolumeSlot;
use crate::watch::Watch;

/// A tree to copy.
pub(super) struct Source<'a> {
    /// Where its files are.
    pub(super) tree: &'a Path,
    /// The metadata of its snapshot.
    pub(super) meta: &'a SnapshotMeta,
}

/// A copy to make.
pub(super) struct Destination<'a> {
    /// Where: nothing is there yet.
    pub(super) made: &'a Path,
    /// The project whose quota limits it.
    pub(super) project: Option<u32>,
    /// Whom it is for.
    pub(super) writers: Ownership,
}

impl Volumes {
    /// Returns the target's own copy. Makes it if there is none, and installs it once it is complete.
    pub(super) fn private_copy(
        &self,
        slot: &TargetSlot,
        source: &SnapshotLease,
        request: &VolumeRequest,
        watch: &Watch,
    ) -> Result<PathBuf, PublishError> {
        let copy = slot.copy_dir();
        match copy.symlink_metadata() {
            Ok(_) => return Ok(copy),
            // Do not replace a copy that cannot be read: it holds the pod's data.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("examine", &copy)(error).into());
            }
            Err(_) => {}
        }
        self.in_staging(|staging| {
            let [made, mark] = ["copy", "quota"].map(|name| staging.path().join(name));
            self.copy_snapshot(source, &made, &mark, request, &watch.cancel)?;
            Ok(slot.install_copy(staging, &made, &mark)?)
        })
    }

    /// Returns the volume's shared copy. Makes it if there is none, and installs it once it is complete.
    pub(super) fn shared_copy(
        &self,
        volume: &VolumeSlot,
        record: &Record,
        source: &SnapshotLease,
        request: &VolumeRequest,
        watch: &Watch,
    ) -> Result<PathBuf, PublishError> {
        if self.has_shared(volume, record)? {
            return Ok(volume.tree());
        }
        self.in_staging(|staging| {
            let made = staging.path().join("shared");
            std::fs::create_dir(&made).map_err(StoreError::io("make", &made))?;
            let mark = VolumeSlot::layer_in(&made).quota_mark();
            self.copy_snapshot(source, &VolumeSlot::tree_in(&made), &mark, request, &watch.cancel)?;
            Ok(volume.install(staging, &made, &SharedCopy::of(record))?)
        })
    }

    /// Whether the volume has the shared copy or layer that the record refers to. Fails if it has another one.
    pub(super) fn has_shared(&self, volume: &VolumeSlot, record: &Record) -> Result<bool, PublishError> {
        match volume.shared_copy()? {
            Some(copy) if copy.is_of(record) => Ok(true),
            // A call that made the layer a copy died before it said so here.
            Some(copy) if copy.became(record) && volume.tree().exists() => {
                volume.describe(&SharedCopy::of(record))?;
                Ok(true)
            }
            Some(copy) => Err(shared_otherwise(record, &copy)),
            None => Ok(false),
        }
    }

    /// Makes a copy in a staging directory. What a failure leaves there is deleted once the target's lock is released.
    pub(super) fn in_staging<T>(
        &self,
        make: impl FnOnce(&Staging) -> Result<T, PublishError>,
    ) -> Result<T, PublishError> {
        let staging = self.store.staging()?;
        let made = make(&staging);
        if made.is_err()
            && let Err(error) = staging.into_trash()
        {
            tracing::warn!(error = %chain(&error), "cannot move an unfinished copy to the trash");
        }
        made
    }

    /// Returns the copy that other targets of the volume show, if any. Fails if it does not match the request.
    pub(super) fn pinned(&self, request: &VolumeRequest) -> Result<Option<SharedCopy>, PublishError> {
        let others = self.sharers_but(&request.volume_id, &request.target)?;
        let in_use = !others.is_empty() || self.is_shown_elsewhere(&request.volume_id, &request.target)?;
        let described = if in_use { self.store.shared_copy(&request.volume_id)? } else { None };
        let copy = match described {
            // The records know first that a layer has become a copy.
            Some(copy) => Some(others.iter().find(|other| copy.became(other)).map_or(copy, SharedCopy::of)),
            None => others.first().filter(|_| in_use).map(SharedCopy::of),
        };
        match copy {
            Some(copy) if copy.content != request.content() => Err(PublishError::SharedOtherwise {
                volume_id: request.volume_id.clone(),
                differences: differences(&copy, &SharedCopy { content: request.content(), ..copy.clone() }),
            }),
            copy => Ok(copy),
        }
    }

    /// Discards the shared copy of a volume, unless a target other than this one shows it.
    pub(super) fn release<E>(&self, volume: &VolumeSlot, volume_id: &str, target: &Path) -> Result<(), E>
    where
        E: From<StoreError> + From<MountError>,
    {
        if self.sharers_but(volume_id, target)?.is_empty() && !self.is_shown_elsewhere(volume_id, target)? {
            self.projects.release(&volume.layer().quota_mark());
            volume.discard(Deletion::Later)?;
        }
        Ok(())
    }

    /// Like [`Volumes::release`], for a target whose record is lost.
    pub(super) fn release_abandoned(
        &self,
        volume_id: &str,
        target: &Path,
        cancel: &Cancel,
    ) -> Result<(), UnpublishError> {
        if !self.store.has_shared_copy(volume_id) || !self.sharers_but(volume_id, target)?.is_empty() {
            return Ok(());
        }
        let volume = self.store.volume(volume_id, cancel)?;
        self.release(&volume, volume_id, target)
    }

    pub(super) fn sharers_but(&self, volume_id: &str, target: &Path) -> Result<Vec<Record>, StoreError> {
        let mut sharers = self.store.sharers(volume_id)?;
        sharers.retain(|record| record.target != target);
        Ok(sharers)
    }

    /// Whether the shared copy is mounted on another target. This finds targets whose record is lost.
    pub(super) fn is_shown_elsewhere(&self, volume_id: &str, target: &Path) -> Result<bool, MountError> {
        if !self.store.has_shared_copy(volume_id) {
            return Ok(false);
        }
        let shown = [self.store.shared_tree(volume_id), self.store.shared_layer(volume_id).upper()];
        let is_shown = |mount: &MountPoint| shown.iter().any(|tree| self.store.is_mount_of(mount, tree));
        Ok(self.mounter.list()?.iter().any(|mount| mount.target != target && is_shown(mount)))
    }

    fn copy_snapshot(
        &self,
        source: &SnapshotLease,
        made: &Path,
        mark: &Path,
        request: &VolumeRequest,
        cancel: &Cancel,
    ) -> Result<(), PublishError> {
        let tree = source.attachment()?;
        let source = Source { tree: tree.path(), meta: source.meta() };
        let destination =
            Destination { made, project: self.projects.claim_for_copy(mark), writers: request.ownership() };
        self.copy_tree(source, destination, cancel)?;
        self.projects.renew(mark);
        Ok(())
    }

    /// Makes a copy of a tree.
    pub(super) fn copy_tree(
        &self,
        Source { tree, meta }: Source<'_>,
        Destination { made, project, writers }: Destination<'_>,
        cancel: &Cancel,
    ) -> Result<(), PublishError> {
        let config = self.snapshots.gateway().policy().config();
        let (bytes, limit) = (meta.summary.bytes, config.limits.writable_bytes);
        if bytes > limit {
            return Err(PublishError::TooLargeToWrite { commit: meta.commit, bytes, limit });
        }
        std::fs::create_dir(made).map_err(StoreError::io("make", made))?;
        self.projects.assign(made, project).map_err(StoreError::io("limit", made))?;
        // Of a directory with a quota, statfs(2) tells what is left of that.
        let place = made.parent().unwrap_or(made).to_owned();
        let reserve = Reserve::new(place, config.cache.reserve_bytes).making_room(self.room());
        let access = if writers.group == GroupAccess::Write { Writers::Group } else { Writers::Owner };
        snapshot::copy(tree, made, writers.owner(), access, reserve, cancel)?;
        let (options, shown) = (&meta.tree, meta.working_repository.as_ref());
        let failed =
            |path: &'static str| move |source| CopyError::Io { action: "write", path: path.to_owned(), source };
        if access == Writers::Group {
            snapshot::share_copied_git_dir(made, options, shown, writers.owner()).map_err(failed(".git"))?;
        }
        fs::set_permissions(made, fs::Permissions::from_mode(VolumeRoot::of(writers).mode))
            .map_err(StoreError::io("set the permissions of", made))?;
        if let Some(label) = self.snapshots.gateway().policy().label() {
            snapshot::label(made, label, cancel).map_err(|failure| match failure {
                LabelFailure::Io(source) => CopyError::Io { action: "label", path: String::new(), source },
                LabelFailure::Interrupted(source) => CopyError::Interrupted { source },
            })?;
        }
        // Last, since it says of each file what lstat(2) says.
        Ok(snapshot::refresh_index(made, options, shown).map_err(failed(snapshot::GIT_INDEX))?)
    }
}

fn shared_otherwise(record: &Record, copy: &SharedCopy) -> PublishError {
    PublishError::SharedOtherwise {
        volume_id: record.volume_id.clone(),
        differences: differences(copy, &SharedCopy::of(record)),
    }
}

/// Describes the options in which a copy differs from a request.
fn differences(copy: &SharedCopy, requested: &SharedCopy) -> String {
    let mut keys: Vec<&String> = copy.content.keys().chain(requested.content.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let value = |copy: &SharedCopy, key| copy.content.get(key).map_or("none", String::as_str).to_owned();
    let options = keys.into_iter().map(|key| (key.as_str(), value(copy, key), value(requested, key)));
    let commit = [("commit", copy.commit.to_string(), requested.commit.to_string())];
    let differing = options.chain(commit).filter(|(_, copy, requested)| copy != requested);
    differing.map(|(key, copy, requested)| format!("{key} {copy} and not {requested}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CommitId;
    use crate::store::SnapshotId;

    #[test]
    fn each_difference_is_named_with_both_values() {
        let content = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let copy = SharedCopy {
            version: SharedCopy::VERSION,
            content: content(&[("revision", "main"), ("uid", "0")]),
            commit: CommitId::from_bytes([0x11; 20]),
            reference: None,
            snapshot: serde_json::from_value::<SnapshotId>("0".repeat(64).into()).unwrap(),
            layer: false,
            ownership: None,
        };
        let requested =
            SharedCopy { content: content(&[("revision", "v1"), ("uid", "0"), ("group", "7")]), ..copy.clone() };
        assert_eq!(differences(&copy, &requested), "group none and not 7, revision main and not v1");
        assert_eq!(differences(&copy, &copy), "");
    }
}

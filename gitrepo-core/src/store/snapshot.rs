//! Finished trees, found by their content key.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::mount::Attachment;
use crate::snapshot;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotFormat;

use super::Store;
use super::changed;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::last_use;
use super::layout::Layout;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::Mode;
use super::lock::Turn;
use super::snapshot_id::SnapshotId;
use super::snapshot_meta::META_LIMIT;
use super::snapshot_meta::SnapshotMeta;
use super::staging::Staging;
use super::trash::Deletion;

const META_FILE: &str = "meta.json";

/// How long a lease may wait for an evictor, which holds the lock for one rename.
const EVICTION_LIMIT: Duration = Duration::from_secs(30);

/// How long other processes that found the same damage may hold a lease: long enough for one check. A longer lease
/// means that the snapshot is in use.
const DAMAGE_CHECK_LIMIT: Duration = Duration::from_secs(1);

/// The right to compose one snapshot, while others wait for it.
#[derive(Debug)]
pub(crate) struct ComposeTurn {
    _lock: Lock,
}

/// A snapshot in use: it cannot be evicted while this lives. Afterwards a volume's record protects it.
#[derive(Debug)]
pub struct SnapshotLease {
    id: SnapshotId,
    path: PathBuf,
    meta: SnapshotMeta,
    _lock: Lock,
}

impl SnapshotLease {
    /// Returns the snapshot's id.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// Returns the snapshot's path. Neither the path nor the content ever changes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the part that a volume shows.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownFormat`] if a newer version made the snapshot.
    pub fn attachment(&self) -> Result<Attachment, StoreError> {
        let path = || self.path.join(META_FILE);
        let format = snapshot::format(&self.meta.format)
            .ok_or_else(|| StoreError::UnknownFormat { path: path(), format: self.meta.format.clone() })?;
        Ok(format.attachment(&self.path))
    }

    /// Returns whom the files belong to if the snapshot is an image. Directories take no owners.
    pub fn ownership(&self) -> Option<Ownership> {
        (self.meta.format == snapshot::Image.name()).then_some(self.meta.ownership)
    }

    /// Returns the snapshot's metadata.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }
}

impl Store {
    /// Returns the path of the snapshot with this id, whether it exists or not.
    pub fn snapshot_path(&self, id: &SnapshotId) -> PathBuf {
        self.layout.snapshot(id)
    }

    /// Returns the part of the snapshot with this id that a volume shows. The metadata names the format; if it is
    /// unreadable, what is in the snapshot tells it.
    pub fn snapshot_attachment(&self, id: &SnapshotId) -> Attachment {
        let path = self.layout.snapshot(id);
        let meta = read_meta(&path).ok().flatten();
        let guessed = || -> &'static dyn SnapshotFormat {
            if path.join(snapshot::IMAGE).exists() { &snapshot::Image } else { &snapshot::Directory }
        };
        let format = meta.and_then(|meta| snapshot::format(&meta.format)).unwrap_or_else(guessed);
        format.attachment(&path)
    }

    /// Leases the finished snapshot with this id, if it exists; if it was changed, its successor.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotLease>, StoreError> {
        let mut id = self.unmarked(id)?;
        while let Some(lease) = self.undamaged(&id)? {
            if !self.is_changed(&lease)? {
                return Ok(Some(lease));
            }
            id = self.unmarked(&id)?;
        }
        Ok(None)
    }

    fn undamaged(&self, id: &SnapshotId) -> Result<Option<SnapshotLease>, StoreError> {
        match self.leased(id) {
            Err(StoreError::Corrupt { source, .. }) => {
                tracing::warn!(snapshot = %id, %source, "a damaged snapshot is discarded");
                self.discard_damaged(id)?;
                // Another process that found the damage may have replaced it already.
                self.leased(id)
            }
            result => result,
        }
    }

    fn leased(&self, id: &SnapshotId) -> Result<Option<SnapshotLease>, StoreError> {
        // The lock comes first: a snapshot that exists after it stays.
        let leased = self.leased_by(id, self.lease(id)?)?;
        if let Some(lease) = &leased {
            last_use::mark(lease.path());
        }
        Ok(leased)
    }

    /// Leases the snapshot with this id to check it, which is no use of it, unless an evictor is about to remove it.
    pub(super) fn try_leased(&self, id: &SnapshotId) -> Result<Option<SnapshotLease>, StoreError> {
        match self.layout.locks.try_acquire(&LockName::Snapshot(id.to_string()), Mode::Shared)? {
            Some(lock) => match self.leased_by(id, lock) {
                // The next publish replaces it.
                Err(StoreError::Corrupt { .. }) => Ok(None),
                result => result,
            },
            None => Ok(None),
        }
    }

    fn leased_by(&self, id: &SnapshotId, lock: Lock) -> Result<Option<SnapshotLease>, StoreError> {
        let path = self.layout.snapshot(id);
        let meta = read_meta(&path)?;
        Ok(meta.map(|meta| SnapshotLease { id: id.clone(), path, meta, _lock: lock }))
    }

    /// Records the end of a use: a volume with this snapshot was unpublished.
    pub fn snapshot_was_used(&self, id: &SnapshotId) {
        last_use::mark(&self.layout.snapshot(id));
    }

    /// Installs a complete tree from staging as the snapshot with this id, or as its successor if that was changed. If
    /// another process was faster, its snapshot stays and is returned.
    ///
    /// `tree` is a directory inside `staging`, owned by this process, which has checked its content.
    pub(crate) fn install_snapshot(
        &self,
        id: &SnapshotId,
        staging: &Staging,
        tree: &Path,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotLease, StoreError> {
        self.finish(staging, tree, meta)?;
        durable::sync_trees(&[tree])?;
        self.install(id, tree, meta)
    }

    fn finish(&self, staging: &Staging, tree: &Path, meta: &SnapshotMeta) -> Result<(), StoreError> {
        debug_assert!(tree.starts_with(staging.path()));
        durable::replace_json(&tree.join(META_FILE), meta, Durability::Volatile)?;
        fs::set_permissions(tree, fs::Permissions::from_mode(0o700))
            .map_err(StoreError::io("change the mode of", tree))?;
        changed::seal(tree, &meta.format)
    }

    fn install(&self, id: &SnapshotId, tree: &Path, meta: &SnapshotMeta) -> Result<SnapshotLease, StoreError> {
        loop {
            let id = &self.unmarked(id)?;
            let path = self.layout.snapshot(id);
            let lock = self.lease(id)?;
            match durable::rename(tree, &path) {
                Ok(()) => {
                    last_use::mark(&path);
                    return Ok(SnapshotLease { id: id.clone(), path, meta: meta.clone(), _lock: lock });
                }
                Err(StoreError::Io { source, .. }) if is_occupied(&source) => drop(lock),
                Err(error) => return Err(error),
            }
            // If the other snapshot was damaged or evicted meanwhile, ours takes its place.
            if let Some(theirs) = self.snapshot(id)? {
                return Ok(theirs);
            }
        }
    }

    /// Takes the right to compose the snapshot with this id. Waits for another holder, or until `done` finds what that has
    /// made.
    pub(crate) fn compose_turn_unless<T>(
        &self,
        id: &SnapshotId,
        cancel: &Cancel,
        done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<ComposeTurn, T>, StoreError> {
        let name = LockName::Compose(id.to_string());
        Ok(match self.layout.locks.acquire_unless(&name, Mode::Exclusive, cancel, done)? {
            Turn::Ours(lock) => Turn::Ours(ComposeTurn { _lock: lock }),
            Turn::Done(made) => Turn::Done(made),
        })
    }

    /// Removes an unusable snapshot, unless a volume shows it.
    ///
    /// # Errors
    /// [`StoreError::CorruptInUse`] if it is leased or a record refers to it: deleting it would silently empty a pod's
    /// volume.
    pub fn discard_snapshot(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let name = LockName::Snapshot(id.to_string());
        let lock = self.layout.locks.try_acquire(&name, Mode::Exclusive)?.ok_or_else(|| self.in_use(id))?;
        self.discard_unreferenced(id, &lock)
    }

    /// Like [`Store::discard_snapshot`], if the snapshot is still damaged once no lease is left. If many processes find
    /// the damage at once, one discards it.
    fn discard_damaged(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let name = LockName::Snapshot(id.to_string());
        let patience = Cancel::new().within(DAMAGE_CHECK_LIMIT);
        let discarded = || match read_meta(&self.layout.snapshot(id)) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            result => result.map(Some),
        };
        match self.layout.locks.acquire_unless(&name, Mode::Exclusive, &patience, discarded) {
            Ok(Turn::Ours(lock)) if discarded()?.is_none() => self.discard_unreferenced(id, &lock),
            Ok(_) => Ok(()),
            Err(StoreError::Locked { .. }) => Err(self.in_use(id)),
            Err(error) => Err(error),
        }
    }

    fn discard_unreferenced(&self, id: &SnapshotId, _exclusive: &Lock) -> Result<(), StoreError> {
        if self.referenced()?.contains(id) {
            return Err(self.in_use(id));
        }
        self.layout.trash.discard(&self.layout.snapshot(id), Deletion::Now)
    }

    fn in_use(&self, id: &SnapshotId) -> StoreError {
        StoreError::CorruptInUse { path: self.layout.snapshot(id) }
    }

    fn lease(&self, id: &SnapshotId) -> Result<Lock, StoreError> {
        let patience = Cancel::new().within(EVICTION_LIMIT);
        self.layout.locks.acquire(&LockName::Snapshot(id.to_string()), Mode::Shared, &patience)
    }
}

impl Layout {
    fn snapshot(&self, id: &SnapshotId) -> PathBuf {
        self.snapshots().join(id.to_string())
    }
}

pub(super) fn read_meta(snapshot: &Path) -> Result<Option<SnapshotMeta>, StoreError> {
    let path = snapshot.join(META_FILE);
    let read = || match durable::read_json(&path, META_LIMIT) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
            Err(StoreError::corrupt(snapshot, "it is not a directory"))
        }
        result => result,
    };
    let exists = || optional(fs::symlink_metadata(snapshot).map_err(StoreError::io("examine", snapshot)));
    match read()? {
        None if exists()?.is_none() => Ok(None),
        // It may have been installed between the two reads, so only a third one proves that the file is missing.
        None => read()?.ok_or_else(|| StoreError::corrupt(&path, "it is missing")).map(Some),
        meta => Ok(meta),
    }
}

/// Whether a rename failed because its target is a file or a directory that is not empty.
fn is_occupied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::snapshot::TreeSummary;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::record;
    use crate::store::fixture::store;

    fn content(lease: &SnapshotLease) -> String {
        fs::read_to_string(lease.path().join("root/file")).unwrap()
    }

    #[test]
    fn an_installed_snapshot_is_found_and_never_replaced_by_a_second_one() {
        let (_place, store) = store();
        let first = install(&store, commit(1), "first");
        let second = install(&store, commit(1), "second");
        assert_eq!((content(&first), content(&second)), ("first".to_owned(), "first".to_owned()));
        let found = store.snapshot(first.id()).unwrap().unwrap();
        assert_eq!(found.path(), store.snapshot_path(first.id()));
        assert_eq!(found.meta().summary, TreeSummary { files: 1, ..TreeSummary::default() });
        assert_eq!(fs::metadata(found.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn r6_many_processes_install_one_snapshot() {
        let (_place, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(content(&install(&store, commit(1), "same")), "same"));
            }
        });
        assert_eq!(fs::read_dir(store.root().join("snapshots")).unwrap().count(), 1);
    }

    #[test]
    fn a_discarded_snapshot_is_a_miss() {
        let (_place, store) = store();
        let id = install(&store, commit(1), "").id().clone();
        store.discard_snapshot(&id).unwrap();
        assert!(store.snapshot(&id).unwrap().is_none());
        assert!(!store.snapshot_path(&id).exists());
    }

    #[test]
    fn r4_a_damaged_snapshot_is_a_miss_and_is_replaced() {
        let (_place, store) = store();
        for damage in ["", "{", "{}"] {
            let lease = install(&store, commit(1), "good");
            let (id, meta) = (lease.id().clone(), lease.path().join(META_FILE));
            drop(lease);
            fs::write(&meta, damage).unwrap();
            assert!(store.snapshot(&id).unwrap().is_none(), "{damage:?}");
            fs::write(store.snapshot_path(&id), "a file in its place").unwrap();
            assert_eq!(content(&install(&store, commit(1), "good")), "good");
        }
    }

    #[test]
    fn r6_a_snapshot_that_is_being_installed_is_found_whole_or_not_at_all() {
        let (_place, store) = store();
        for _ in 0..20 {
            let id = install(&store, commit(1), "good").id().clone();
            store.discard_snapshot(&id).unwrap();
            std::thread::scope(|scope| {
                let installing = scope.spawn(|| drop(install(&store, commit(1), "good")));
                while !installing.is_finished() {
                    store.snapshot(&id).unwrap();
                }
            });
            assert!(store.snapshot(&id).unwrap().is_some());
        }
    }

    #[test]
    fn r4_many_processes_find_one_damaged_snapshot_and_all_get_it_replaced() {
        let (_place, store) = store();
        for _ in 0..20 {
            let lease = install(&store, commit(1), "good");
            fs::write(lease.path().join(META_FILE), "").unwrap();
            drop(lease);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| assert_eq!(content(&install(&store, commit(1), "good")), "good"));
                }
            });
        }
    }

    #[test]
    fn r12_a_damaged_snapshot_that_a_volume_shows_is_kept() {
        let (_place, store) = store();
        let lease = install(&store, commit(1), "shown");
        let (id, path) = (lease.id().clone(), lease.path().to_path_buf());
        let target = Path::new("/pods/a/volume");
        let slot = store.target("volume", target, &Cancel::new()).unwrap();
        slot.write(&record(&store, "volume", target, &lease)).unwrap();
        fs::write(path.join(META_FILE), "").unwrap();

        assert!(matches!(store.discard_snapshot(&id), Err(StoreError::CorruptInUse { .. })), "leased");
        drop(lease);
        assert_eq!(store.snapshot(&id).unwrap_err().kind(), Kind::Corrupt, "referred to");
        assert!(path.join("root/file").exists());
        slot.remove(Deletion::Now).unwrap();
        assert!(store.snapshot(&id).unwrap().is_none());
    }
}

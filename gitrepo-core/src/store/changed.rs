//! Snapshots that somebody changed behind the store's back.
//!
//! Each is sealed when it is finished ([`seal()`]). A publish looks at a few of its entries, a sweep at all. A changed snapshot
//! stays where it is for those who show it, is marked, and is served no more: its successor, which has a name and a directory
//! of its own, takes its place. A sweep removes it once nothing refers to it.
//!
//! Nothing here takes a lock to mark: a mark only keeps a snapshot from being served, and is made twice without harm.

use std::fs;
use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::error::chain;
use crate::snapshot::seal;
use crate::snapshot::seal::Verdict;

use super::Store;
use super::clock::wall_clock;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::LockName;
use super::lock::Mode;
use super::snapshot::SnapshotId;
use super::snapshot::SnapshotLease;
use super::target::hashes_in;
use super::trash::Deletion;

/// What of a snapshot is sealed: all that a volume shows.
const TREE: &str = "root";

/// The seal, beside the tree, where no pod comes.
const SEAL_FILE: &str = "seal";

/// The mark of a snapshot that was changed.
const CHANGED_FILE: &str = "changed.json";

/// Where the sweeps' look at all snapshots goes on.
const CURSOR_FILE: &str = "looked-at.json";
const CURSOR_LIMIT: u64 = 1024;

/// Entries that a publish looks at from the beginning of a seal, and as many again from anywhere: a small tree is looked at
/// whole, and of a large one each time another part.
const GLANCE: usize = 128;

/// How long both may take together, whatever the disk does.
const GLANCE_TIME: Duration = Duration::from_millis(2);

/// What a mark tells whoever looks for the reason.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mark<'a> {
    reason: &'a str,
    #[serde(with = "wall_clock")]
    noticed_at: SystemTime,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    snapshot: String,
    offset: u64,
}

/// What a look at the snapshots came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked {
    /// Changed ones that nobody had noticed.
    pub(super) changed: usize,
    /// There was no time for all. The next look goes on from there.
    pub(super) unfinished: bool,
}

/// Seals the tree of a snapshot that is about to be installed. Nothing in it may change from here on.
pub(super) fn seal(snapshot: &Path) -> Result<(), StoreError> {
    let (tree, file) = (snapshot.join(TREE), snapshot.join(SEAL_FILE));
    let write = || {
        let mut to = BufWriter::new(File::create_new(&file)?);
        seal::write(&tree, &mut to)?;
        to.flush()
    };
    write().map_err(StoreError::io("write", &file))
}

impl Store {
    /// How many changed snapshots this process has found since the store was opened.
    pub fn changed_snapshots(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Whether a snapshot is marked, or looks changed and is marked by that.
    pub(super) fn is_changed(&self, lease: &SnapshotLease) -> Result<bool, StoreError> {
        if is_marked(lease.path())? {
            return Ok(true);
        }
        let begun = Instant::now();
        let beginning = self.look(lease, 0, counted(begun))?;
        let Verdict::Same(Some(seen)) = beginning else { return self.mark_changed(lease, beginning) };
        let length = fs::metadata(lease.path().join(SEAL_FILE)).map_or(0, |seal| seal.len());
        let anywhere = u64::from_ne_bytes(durable::random_bytes()?) % length.saturating_sub(seen).max(1);
        let elsewhere = self.look(lease, seen + anywhere, counted(begun))?;
        self.mark_changed(lease, elsewhere)
    }

    /// A snapshot without a seal, of an earlier version, has nothing that it could be compared with.
    fn look(&self, lease: &SnapshotLease, offset: u64, goes_on: impl FnMut() -> bool) -> Result<Verdict, StoreError> {
        let (seal, tree) = (lease.path().join(SEAL_FILE), lease.path().join(TREE));
        if optional(fs::symlink_metadata(&seal).map_err(StoreError::io("examine", &seal)))?.is_none() {
            return Ok(Verdict::Unknown);
        }
        seal::check(&seal, &tree, offset, goes_on).map_err(StoreError::io("compare with its seal", &tree))
    }

    fn mark_changed(&self, lease: &SnapshotLease, verdict: Verdict) -> Result<bool, StoreError> {
        let Verdict::Changed(reason) = verdict else { return Ok(false) };
        let mark = lease.path().join(CHANGED_FILE);
        let json = serde_json::to_vec(&Mark { reason: &reason, noticed_at: SystemTime::now() })
            .map_err(|error| StoreError::corrupt(&mark, error))?;
        durable::replace(&mark, &json, Durability::Durable)?;
        self.changed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            snapshot = %lease.id(),
            repository = lease.meta().repository,
            commit = %lease.meta().commit,
            reason,
            "a shared tree was changed on this node, by a privileged pod or by hand; no volume gets it any more, and those that \
             have it keep it until they are unpublished"
        );
        Ok(true)
    }

    /// The first of a snapshot and its successors that is not marked, whether it is there or not.
    pub(super) fn unmarked(&self, id: &SnapshotId) -> Result<SnapshotId, StoreError> {
        let mut id = id.clone();
        while is_marked(&self.snapshot_path(&id))? {
            id = id.successor();
        }
        Ok(id)
    }

    /// Looks at everything that is sealed, until `deadline`, from where the last look stopped.
    pub(super) fn look_at_all(&self, deadline: Option<Instant>) -> Result<Looked, StoreError> {
        let file = self.root().join(CURSOR_FILE);
        let cursor = optional(durable::read(&file, CURSOR_LIMIT))?;
        let cursor: Cursor = cursor.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let mut names = hashes_in(&self.snapshots())?;
        names.sort_unstable();
        let mut looked = Looked::default();
        let in_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        for name in names.into_iter().filter(|name| *name >= cursor.snapshot) {
            let mut offset = if name == cursor.snapshot { cursor.offset } else { 0 };
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            if in_time() {
                match self.look_through(&id, offset, in_time) {
                    Ok(Verdict::Same(Some(next))) => offset = next,
                    Ok(Verdict::Changed(_)) => {
                        looked.changed += 1;
                        continue;
                    }
                    Ok(Verdict::Same(None) | Verdict::Unknown) => continue,
                    // One that cannot be read must not keep the others from being looked at.
                    Err(error) => {
                        tracing::warn!(snapshot = %id, error = %chain(&error), "cannot look whether a snapshot was changed");
                        continue;
                    }
                }
            }
            looked.unfinished = true;
            let cursor = serde_json::to_vec(&Cursor { snapshot: id.to_string(), offset })
                .map_err(|error| StoreError::corrupt(&file, error))?;
            durable::replace(&file, &cursor, Durability::Volatile)?;
            return Ok(looked);
        }
        optional(fs::remove_file(&file).map_err(StoreError::io("remove", &file)))?;
        Ok(looked)
    }

    /// The rest of one snapshot, if it can be leased without waiting.
    fn look_through(&self, id: &SnapshotId, offset: u64, in_time: impl FnMut() -> bool) -> Result<Verdict, StoreError> {
        let Some(lease) = self.try_leased(id)? else { return Ok(Verdict::Unknown) };
        if is_marked(lease.path())? {
            return Ok(Verdict::Unknown);
        }
        let verdict = self.look(&lease, offset, in_time)?;
        self.mark_changed(&lease, verdict.clone())?;
        Ok(verdict)
    }

    /// Removes the changed snapshots that no record refers to, nobody leases and none of `shown` is in.
    pub(super) fn sweep_changed(&self, shown: &[PathBuf]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for name in hashes_in(&self.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let path = self.snapshot_path(&id);
            if !is_marked(&path)? || shown.iter().any(|shown| shown.starts_with(&path)) {
                continue;
            }
            let name = LockName::Snapshot(id.to_string());
            if let Some(_lock) = self.layout.locks.try_acquire(&name, Mode::Exclusive)?
                && !self.referenced()?.contains(&id)
            {
                self.layout.trash.discard(&path, Deletion::BySweep)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn snapshots(&self) -> PathBuf {
        self.layout.snapshots()
    }
}

/// Goes on for [`GLANCE`] entries, unless the time is up before.
fn counted(begun: Instant) -> impl FnMut() -> bool {
    let mut entries = 0;
    move || {
        entries += 1;
        entries < GLANCE && begun.elapsed() < GLANCE_TIME
    }
}

fn is_marked(snapshot: &Path) -> Result<bool, StoreError> {
    let mark = snapshot.join(CHANGED_FILE);
    match fs::symlink_metadata(&mark) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(source) => Err(StoreError::Io { action: "examine", path: mark, source }),
    }
}

#[cfg(test)]
mod tests;

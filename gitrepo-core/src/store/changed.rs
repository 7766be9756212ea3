//! Snapshots modified behind the store's back.
//!
//! Each snapshot is sealed when it is finished ([`seal()`]). A publish checks a few of its entries, a sweep all of
//! them; of an image, both check all of its files. A changed snapshot is marked and no longer served, but stays for the
//! volumes that show it. Its successor, with a name and a directory of its own, replaces it. A sweep removes it once
//! nothing refers to it.
//!
//! Marking takes no lock: a mark only keeps a snapshot from being served, and marking twice is harmless.

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
use crate::snapshot;
use crate::snapshot::seal;
use crate::snapshot::seal::Verdict;
use crate::snapshot::sealed;

use super::Store;
use super::clock::wall_clock;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::LockName;
use super::lock::Mode;
use super::snapshot::SnapshotLease;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;
use super::trash::Deletion;

/// The sealed part of a snapshot of files: all that a volume shows.
const TREE: &str = "root";

/// The seal, beside the tree, out of reach of pods.
const SEAL_FILE: &str = "seal";

/// Marks a snapshot that was changed.
const CHANGED_FILE: &str = "changed.json";
const MARK_LIMIT: u64 = 64 * 1024;

/// Where the next sweep continues to check the snapshots.
const CURSOR_FILE: &str = "looked-at.json";
const CURSOR_LIMIT: u64 = 1024;

/// The number of entries that a publish checks from the beginning of a seal, and again from a random offset. A small
/// tree is checked completely, a large one in a different part each time.
const SAMPLE: usize = 128;

/// The number of entries that each check covers even after its time: a busy node may interrupt a check for longer.
const LEAST: usize = 16;

/// Time limit for both checks together.
const SAMPLE_TIME: Duration = Duration::from_millis(2);

/// The content of a mark, for an admin who looks for the reason.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    reason: String,
    #[serde(with = "wall_clock")]
    noticed_at: SystemTime,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Cursor {
    snapshot: String,
    offset: u64,
}

/// The result of checking the snapshots.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    /// Changed snapshots found for the first time.
    pub(super) changed: usize,
    /// Time ran out. The next check continues from there.
    pub(super) unfinished: bool,
}

/// Seals a snapshot in this format that is about to be installed. Nothing that a volume shows may change from here on.
pub(super) fn seal(snapshot: &Path, format: &str) -> Result<(), StoreError> {
    let file = snapshot.join(SEAL_FILE);
    let write = || {
        let mut to = BufWriter::new(File::create_new(&file)?);
        match is_image(format) {
            true => sealed::write(snapshot, &mut to)?,
            false => seal::write(&snapshot.join(TREE), &mut to)?,
        }
        to.flush()
    };
    write().map_err(StoreError::io("write", &file))
}

impl Store {
    /// Returns the number of changed snapshots that this process has found since it opened the store.
    pub fn changed_snapshots(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Returns what is wrong with a snapshot that is no longer served, though volumes may still show it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn damage_of(&self, id: &SnapshotId) -> Result<Option<String>, StoreError> {
        let path = self.snapshot_path(id);
        if !is_marked(&path)? {
            return Ok(None);
        }
        let mark = durable::read_json(&path.join(CHANGED_FILE), MARK_LIMIT);
        // The mark counts, whatever is in it.
        let reason = mark.ok().flatten().map(|mark: Mark| mark.reason);
        Ok(Some(reason.unwrap_or_else(|| "it was changed or damaged on this node".to_owned())))
    }

    /// Whether a snapshot is marked as changed. Checks a sample of an unmarked snapshot, and marks it if it was
    /// changed.
    pub(super) fn is_changed(&self, lease: &SnapshotLease) -> Result<bool, StoreError> {
        if is_marked(lease.path())? {
            return Ok(true);
        }
        let begun = Instant::now();
        let beginning = self.compare(lease, 0, counted(begun))?;
        let Verdict::Same(Some(seen)) = beginning else { return self.mark_changed(lease, beginning) };
        let length = fs::metadata(lease.path().join(SEAL_FILE)).map_or(0, |seal| seal.len());
        let anywhere = u64::from_ne_bytes(durable::random_bytes()?) % length.saturating_sub(seen).max(1);
        let elsewhere = self.compare(lease, seen + anywhere, counted(begun))?;
        self.mark_changed(lease, elsewhere)
    }

    /// Compares a snapshot with its seal, from `offset`; all of an image. A snapshot of an earlier version has no seal.
    fn compare(&self, lease: &SnapshotLease, offset: u64, more: impl FnMut() -> bool) -> Result<Verdict, StoreError> {
        let (seal, tree) = (lease.path().join(SEAL_FILE), lease.path().join(TREE));
        if optional(fs::symlink_metadata(&seal).map_err(StoreError::io("examine", &seal)))?.is_none() {
            return Ok(Verdict::Unknown);
        }
        let verdict = match is_image(&lease.meta().format) {
            true => sealed::check(&seal, lease.path()),
            false => seal::check(&seal, &tree, offset, more),
        };
        verdict.map_err(StoreError::io("compare with its seal", lease.path()))
    }

    fn mark_changed(&self, lease: &SnapshotLease, verdict: Verdict) -> Result<bool, StoreError> {
        let Verdict::Changed(reason) = verdict else { return Ok(false) };
        if is_image(&lease.meta().format) {
            self.mark_damaged(lease, &reason)?;
            return Ok(true);
        }
        self.mark(lease, &reason)?;
        tracing::error!(
            snapshot = %lease.id(),
            repository = lease.meta().repository,
            commit = %lease.meta().commit,
            reason,
            "a shared tree was changed on this node, by a privileged pod or by hand; new volumes do not get it, and \
             volumes that show it keep it until they are unpublished"
        );
        Ok(true)
    }

    /// Marks a snapshot of which a part is damaged or gone. Its successor replaces it.
    pub(crate) fn mark_damaged(&self, lease: &SnapshotLease, reason: &str) -> Result<(), StoreError> {
        self.mark(lease, reason)?;
        tracing::error!(
            snapshot = %lease.id(),
            repository = lease.meta().repository,
            commit = %lease.meta().commit,
            reason,
            "a part of a shared tree is damaged or gone; new volumes get another one, which is fetched"
        );
        Ok(())
    }

    fn mark(&self, lease: &SnapshotLease, reason: &str) -> Result<(), StoreError> {
        let mark = lease.path().join(CHANGED_FILE);
        durable::replace_json(
            &mark,
            &Mark { reason: reason.to_owned(), noticed_at: SystemTime::now() },
            Durability::Durable,
        )?;
        self.changed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the first of a snapshot and its successors that is not marked, whether it exists or not.
    pub(super) fn unmarked(&self, id: &SnapshotId) -> Result<SnapshotId, StoreError> {
        let mut id = id.clone();
        while is_marked(&self.snapshot_path(&id))? {
            id = id.successor();
        }
        Ok(id)
    }

    /// Checks all sealed snapshots until `deadline`, from where the last check stopped.
    pub(super) fn check_all(&self, deadline: Option<Instant>) -> Result<Checked, StoreError> {
        let file = self.root().join(CURSOR_FILE);
        let cursor = optional(durable::read(&file, CURSOR_LIMIT))?;
        let cursor: Cursor = cursor.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let mut names = hashes_in(&self.snapshots())?;
        names.sort_unstable();
        let mut checked = Checked::default();
        let in_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        for name in names.into_iter().filter(|name| *name >= cursor.snapshot) {
            let mut offset = if name == cursor.snapshot { cursor.offset } else { 0 };
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            if in_time() {
                match self.check_rest(&id, offset, in_time) {
                    Ok(Verdict::Same(Some(next))) => offset = next,
                    Ok(Verdict::Changed(_)) => {
                        checked.changed += 1;
                        continue;
                    }
                    Ok(Verdict::Same(None) | Verdict::Unknown) => continue,
                    // An unreadable snapshot must not keep the others from being checked.
                    Err(error) => {
                        tracing::warn!(snapshot = %id, error = %chain(&error), "cannot check a snapshot for changes");
                        continue;
                    }
                }
            }
            checked.unfinished = true;
            durable::replace_json(&file, &Cursor { snapshot: id.to_string(), offset }, Durability::Volatile)?;
            return Ok(checked);
        }
        optional(fs::remove_file(&file).map_err(StoreError::io("remove", &file)))?;
        Ok(checked)
    }

    /// Checks the rest of one snapshot, if it can be leased without waiting.
    fn check_rest(&self, id: &SnapshotId, offset: u64, in_time: impl FnMut() -> bool) -> Result<Verdict, StoreError> {
        let Some(lease) = self.try_leased(id)? else { return Ok(Verdict::Unknown) };
        if is_marked(lease.path())? {
            return Ok(Verdict::Unknown);
        }
        let verdict = self.compare(&lease, offset, in_time)?;
        self.mark_changed(&lease, verdict.clone())?;
        Ok(verdict)
    }

    /// Removes changed snapshots that have no record and no lease, and contain no path of `shown`.
    pub(super) fn sweep_changed(&self, shown: &[PathBuf]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for name in hashes_in(&self.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let path = self.snapshot_path(&id);
            if !is_marked(&path)? || shown.iter().any(|mounted| mounted.starts_with(&path)) {
                continue;
            }
            let name = LockName::Snapshot(id.to_string());
            if let Some(_lock) = self.layout.locks.try_acquire(&name, Mode::Exclusive)?
                && !self.referenced()?.contains(&id)
            {
                self.layout.trash.discard(&path, Deletion::Later)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn snapshots(&self) -> PathBuf {
        self.layout.snapshots()
    }
}

/// Returns `true` for [`SAMPLE`] entries, or until time runs out after [`LEAST`].
fn counted(begun: Instant) -> impl FnMut() -> bool {
    let mut entries = 0;
    move || {
        entries += 1;
        entries < LEAST || (entries < SAMPLE && begun.elapsed() < SAMPLE_TIME)
    }
}

fn is_image(format: &str) -> bool {
    snapshot::is_of_segments(format)
}

pub(super) fn is_marked(snapshot: &Path) -> Result<bool, StoreError> {
    let mark = snapshot.join(CHANGED_FILE);
    match fs::symlink_metadata(&mark) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
        Err(source) => Err(StoreError::Io { action: "examine", path: mark, source }),
    }
}

#[cfg(test)]
mod tests;

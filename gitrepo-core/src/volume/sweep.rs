//! Sweep: unpublishes abandoned volumes, and removes what dead processes left.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::UnpublishError;
use super::Volumes;
use crate::cancel::Cancel;
use crate::error::Kind;
use crate::error::chain;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Role;
use crate::mount::directory;
use crate::store::Eviction;
use crate::store::MountTable;
use crate::store::Origin;
use crate::store::Record;
use crate::store::Shows;
use crate::store::SweepReport;
use crate::watch::Watch;

/// Time that must be left to compact repositories: a large one takes seconds, and is begun anew if it is not finished.
const FOR_COMPACTION: Duration = Duration::from_secs(10);

/// Which volumes count as abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abandoned {
    /// Volumes of a program that are no longer mounted, after a reboot or a manual umount. Volumes with a copy or layer
    /// are kept: it holds data that the same publish shows again.
    Unmounted {
        /// The program.
        origin: Origin,
    },
    /// Volumes of a driver whose target directory the kubelet has removed, for example of a pod that was deleted while
    /// the node was down. Their copies are deleted, too.
    TargetGone {
        /// The driver.
        origin: Origin,
        /// Only targets below this directory, the kubelet's, without symlinks. The caller must see the same directory
        /// as the kubelet, or every volume looks abandoned.
        below: PathBuf,
    },
}

impl Volumes {
    /// Removes what dead processes left, unpublishes abandoned volumes, evicts unused content that exceeds
    /// [`Volumes::bounds`], and compacts repositories if there is time for it. Stops after about `budget`. With more
    /// than a few seconds, it deletes at a pace that leaves the disk to others. Skips anything that another process
    /// works on; the next sweep tries again.
    ///
    /// # Errors
    ///
    /// [`UnpublishError::TargetsUnseen`] if the directory of the targets does not exist; nothing was done.
    pub fn sweep(&self, abandoned: &Abandoned, budget: Duration) -> Result<SweepReport, UnpublishError> {
        self.sweep_and_evict(abandoned, self.bounds(), budget)
    }

    /// Like [`Volumes::sweep`], with another amount to evict.
    ///
    /// # Errors
    ///
    /// The same as for [`Volumes::sweep`].
    pub fn sweep_and_evict(
        &self,
        abandoned: &Abandoned,
        eviction: Eviction,
        budget: Duration,
    ) -> Result<SweepReport, UnpublishError> {
        let begin = Instant::now();
        if let Abandoned::TargetGone { below, .. } = abandoned {
            check_there(below)?;
        }
        self.mounter.sweep()?;
        let mounts = self.mounter.list()?;
        let collected = self.collect(abandoned, &mounts, &Cancel::new().within(budget))?;
        // What was just collected leaves its lower mount to the next sweep, if its unpublish did not take it along.
        let lowers = self.sweep_lowers(&mounts);
        let shown: Vec<_> = mounts.iter().flat_map(|mount| self.store.needed_by(mount)).collect();
        let mut report = self.store.sweep(budget.saturating_sub(begin.elapsed()), &shown);
        report.volumes = collected.volumes;
        // After the files are deleted.
        match self.projects.sweep(self.store.root()) {
            Ok(cleared) => report.limits = cleared,
            Err(error) => tracing::warn!(%error, "cannot look for limits of projects that are not used any more"),
        }
        match lowers {
            Ok(lowers) => report.lowers = lowers,
            Err(error) => report.failures.push(error),
        }
        report.incomplete |= collected.incomplete;
        match self.evict(eviction, budget.saturating_sub(begin.elapsed())) {
            Ok(freed) => {
                report.freed = freed;
                report.incomplete |= freed.incomplete;
            }
            Err(error) => report.failures.push(error),
        }
        let rest = budget.saturating_sub(begin.elapsed());
        if rest >= FOR_COMPACTION {
            let watch = Watch { cancel: Cancel::new().within(rest), ..Watch::default() };
            if let Err(error) = self.snapshots.compact(&watch) {
                tracing::warn!(error = %chain(&error), "cannot look for repositories to compact");
            }
        }
        Ok(report)
    }

    fn collect(
        &self,
        abandoned: &Abandoned,
        mounts: &[MountPoint],
        budget: &Cancel,
    ) -> Result<Collected, UnpublishError> {
        let ours = MountTable::current()?;
        let mut collected = Collected::default();
        for record in self.store.records()? {
            if !self.is_candidate(abandoned, &record, &ours) || self.is_among(mounts, &record) {
                continue;
            }
            if budget.check().is_err() {
                collected.incomplete = true;
                break;
            }
            match self.collect_one(abandoned, &record) {
                Ok(gone) => collected.volumes += usize::from(gone),
                Err(error) => {
                    let target = record.target.display();
                    tracing::warn!(%target, error = %chain(&error), "cannot unpublish an abandoned volume");
                    // A volume that another call works on is not abandoned.
                    collected.incomplete |= error.kind() != Kind::Busy;
                }
            }
        }
        Ok(collected)
    }

    /// Unpublishes a volume if it is still abandoned under its lock. Reads the mount table again: another process may
    /// have published the volume since the first reading.
    fn collect_one(&self, abandoned: &Abandoned, record: &Record) -> Result<bool, UnpublishError> {
        let Some(slot) = self.store.try_target(&record.volume_id, &record.target)? else { return Ok(false) };
        let Some(record) = slot.record()? else { return Ok(false) };
        if !self.is_candidate(abandoned, &record, &MountTable::current()?) || !self.is_lost(&record)? {
            return Ok(false);
        }
        // A publish may hold the volume while it copies a tree. A sweep does not wait for that.
        self.detach(&slot, &record, &Cancel::new().within(Duration::ZERO))?;
        Ok(true)
    }

    /// Whether the volume counts as abandoned, provided that it is not mounted.
    fn is_candidate(&self, abandoned: &Abandoned, record: &Record, ours: &MountTable) -> bool {
        match abandoned {
            Abandoned::Unmounted { origin } => {
                record.origin == *origin && record.mounted_in.can_be_checked_from(ours) && !self.has_copy(record)
            }
            Abandoned::TargetGone { origin, below } => {
                record.origin == *origin
                    && record.target != *below
                    && record.target.starts_with(below)
                    && is_gone(&record.target)
                    // Checked last: when the filesystem is unmounted meanwhile, all targets look removed.
                    && check_there(below).is_ok()
            }
        }
    }

    /// Whether the volume has a copy or layer, which may hold data.
    fn has_copy(&self, record: &Record) -> bool {
        // A copy that cannot be examined may exist.
        let seen = self.attachment(record).path().symlink_metadata();
        record.shows != Shows::Snapshot && !matches!(seen, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The result of collecting abandoned volumes.
#[derive(Default)]
struct Collected {
    volumes: usize,
    incomplete: bool,
}

fn check_there(below: &Path) -> Result<(), UnpublishError> {
    let unseen = |source| UnpublishError::TargetsUnseen { below: below.to_owned(), source };
    match std::fs::symlink_metadata(below) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(unseen(io::Error::from(io::ErrorKind::NotADirectory))),
        Err(source) => Err(unseen(source)),
    }
}

/// Whether the target itself does not exist. Any other error says nothing about it.
fn is_gone(target: &Path) -> bool {
    match directory::open(target, Role::Target) {
        Err(MountError::Directory { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

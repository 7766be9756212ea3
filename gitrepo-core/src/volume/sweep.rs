//! Sweep: what nobody will unpublish any more goes, and what dead processes left.

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
use crate::store::Deletion;
use crate::store::Eviction;
use crate::store::MountTable;
use crate::store::Origin;
use crate::store::Record;
use crate::store::Shows;
use crate::store::SweepReport;

/// Which volumes nobody will ask to be unpublished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abandoned {
    /// Those of a program whose mount a reboot or somebody's umount took. Volumes that hold a copy are left alone: what was
    /// written there waits for the same publish again, or for an unpublish.
    Unmounted {
        /// The program.
        origin: Origin,
    },
    /// Those of a driver whose target the kubelet has removed, such as one of a pod that was deleted while the node was
    /// away. They are unpublished, with what was written to them.
    TargetGone {
        /// The driver.
        origin: Origin,
        /// Only targets below this directory: the kubelet's, without symlinks. The caller must see it as the kubelet does,
        /// or every volume looks abandoned.
        below: PathBuf,
    },
}

impl Volumes {
    /// Removes what dead processes left, unpublishes what was abandoned, and has the reserve free of what no volume uses, for
    /// about as long as `budget`. Whatever another process works on is left alone; what cannot be unpublished now is left for the
    /// next time.
    ///
    /// # Errors
    ///
    /// [`UnpublishError::TargetsUnseen`], with nothing done, when the directory of the targets is not there.
    pub fn sweep(&self, abandoned: &Abandoned, budget: Duration) -> Result<SweepReport, UnpublishError> {
        self.sweep_and_evict(abandoned, self.reserve(), budget)
    }

    /// As [`Volumes::sweep`], which has the reserve free, with more or less to make room for.
    ///
    /// # Errors
    ///
    /// As [`Volumes::sweep`].
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
        let shown: Vec<_> = mounts.iter().filter_map(|mount| self.store.shown_by(mount)).collect();
        let mut report = self.store.sweep(budget.saturating_sub(begin.elapsed()), &shown);
        report.volumes = collected.volumes;
        report.incomplete |= collected.incomplete;
        match self.evict(eviction, budget.saturating_sub(begin.elapsed())) {
            Ok(freed) => {
                report.freed = freed;
                report.incomplete |= freed.incomplete;
            }
            Err(error) => report.failures.push(error),
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
                    tracing::warn!(target = %record.target.display(), error = %chain(&error), "an abandoned volume stays");
                    // One that others work on is not abandoned.
                    collected.incomplete |= error.kind() != Kind::Busy;
                }
            }
        }
        Ok(collected)
    }

    /// Forgets the volume if, now that it is held, it still is abandoned. The mount table is read again for those few:
    /// since it was read first, another process may have published the volume.
    fn collect_one(&self, abandoned: &Abandoned, record: &Record) -> Result<bool, UnpublishError> {
        let Some(slot) = self.store.try_target(&record.volume_id, &record.target)? else { return Ok(false) };
        let Some(record) = slot.record()? else { return Ok(false) };
        if !self.is_candidate(abandoned, &record, &MountTable::current()?) || !self.is_lost(&record)? {
            return Ok(false);
        }
        // Its volume may be held by who copies a tree, for longer than a sweep waits.
        self.detach(&slot, &record, Deletion::BySweep, &Cancel::new().within(Duration::ZERO))?;
        Ok(true)
    }

    /// Whether the volume is abandoned, provided that it is not mounted.
    fn is_candidate(&self, abandoned: &Abandoned, record: &Record, ours: &MountTable) -> bool {
        match abandoned {
            Abandoned::Unmounted { origin } => {
                record.origin == *origin && record.mounted_in.is_told_by(ours) && !self.source_is_copy(record)
            }
            Abandoned::TargetGone { origin, below } => {
                record.origin == *origin
                    && record.target != *below
                    && record.target.starts_with(below)
                    && is_gone(&record.target)
                    // Also after that: a filesystem that was just unmounted takes all targets with it.
                    && check_there(below).is_ok()
            }
        }
    }

    /// The volume has a copy, to which something may have been written.
    fn source_is_copy(&self, record: &Record) -> bool {
        // What cannot be seen may be there.
        let seen = self.attachment(record).path().symlink_metadata();
        record.shows != Shows::Snapshot && !matches!(seen, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What became of abandoned volumes.
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

/// The target itself does not exist. Anything else that keeps it from being seen tells nothing.
fn is_gone(target: &Path) -> bool {
    match directory::open(target, Role::Target) {
        Err(MountError::Directory { source, .. }) => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

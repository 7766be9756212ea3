//! Project quotas: the kernel counts the bytes of all files that belong to a project, and refuses a write that would
//! exceed the project's limit (quotactl(2); ext4 with `prjquota`, XFS with `pquota`).
//!
//! Each writable layer, or copy, is a project of its own. Its id is kept where nobody but us comes: as the project of an
//! empty file beside the layer, the *mark*. (The owner of a file may give it another project, so the layer's own files
//! say nothing.) The mark is there before the limit and goes after the layer. So these hold after a crash at any moment,
//! and for any number of stores and processes on one filesystem, without a list of ids or a lock:
//!
//! - An id with an inode is in use.
//! - An id with a limit and no inode is a leftover: whoever finds it removes the limit, and sets it again if the id was
//!   claimed meanwhile.
//! - An id is claimed by giving it to a new mark. Whoever then counts one inode has it alone; whoever counts more chooses
//!   another one.

use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

mod kernel;

pub use kernel::KernelQuota;

/// The project quotas of filesystems. The real implementation is [`KernelQuota`]; `testing::FakeQuota` counts in memory.
///
/// A `place` is a path on the filesystem. Project 0 is none.
pub trait ProjectQuota: fmt::Debug + Send + Sync {
    /// Whether the filesystem enforces limits of projects.
    fn is_enforced(&self, place: &Path) -> io::Result<bool>;

    /// Returns the project of a file or directory.
    fn project_of(&self, file: &Path) -> io::Result<u32>;

    /// Gives a file or directory to a project, and what is made in the directory from now on.
    fn set_project(&self, file: &Path, project: u32) -> io::Result<()>;

    /// Returns what a project takes and may take.
    fn usage(&self, place: &Path, project: u32) -> io::Result<ProjectUsage>;

    /// Limits the bytes of a project; 0 for no limit.
    fn limit(&self, place: &Path, project: u32, bytes: u64) -> io::Result<()>;

    /// Returns the first project from `project` on that takes anything or has a limit.
    fn next(&self, place: &Path, project: u32) -> io::Result<Option<(u32, ProjectUsage)>>;
}

/// What a project takes and may take on one filesystem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectUsage {
    /// Bytes on disk of its files and directories.
    pub bytes: u64,
    /// Its files and directories.
    pub inodes: u64,
    /// The limit of the bytes, rounded up to what the filesystem counts in; 0 for none.
    pub limit: u64,
}

/// A limit is reached when less than this part of it is left...
const PART_LEFT: u64 = 100;

/// ...or less than a block, in bytes.
const BLOCK: u64 = 4096;

/// The largest block of a filesystem, in bytes: limits are rounded up to blocks.
const LARGEST_BLOCK: u64 = 64 << 10;

impl ProjectUsage {
    fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// Whether so little is left of the limit that writes fail, or soon will.
    pub(crate) fn is_at_limit(self) -> bool {
        self.limit > 0 && self.limit.saturating_sub(self.bytes) < (self.limit / PART_LEFT).max(BLOCK)
    }
}

/// Why the kernel does not limit what is written to layers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoQuota {
    /// The configuration has no ids.
    #[error("the configuration says \"projectIds\": null")]
    Disabled,
    /// Neither the filesystem nor its mount has project quotas, or the kernel has none.
    #[error("the filesystem enforces no project quotas")]
    NotEnforced,
    /// A directory belongs to a project: nothing of another one can be moved into it.
    #[error("the store belongs to the project {0} itself")]
    InProject(u32),
    /// All ids are in use.
    #[error("all ids of projectIds are in use on this filesystem")]
    AllTaken,
    /// A system call failed.
    #[error("project quotas cannot be used")]
    Io(#[from] io::Error),
}

/// The projects of layers: their ids, and the limit of each.
#[derive(Debug)]
pub(crate) struct Projects {
    quota: Arc<dyn ProjectQuota>,
    ids: Option<RangeInclusive<u32>>,
    /// The limit, in bytes: whole blocks, so that a full layer never takes more than the configured limit.
    bytes: u64,
    /// How far into the range to begin to look for a free id.
    next: AtomicU32,
    /// Ids whose layers were discarded. They have a limit until the files are deleted.
    released: Mutex<Vec<u32>>,
}

impl Projects {
    /// Gives each layer one of these ids, and this limit in bytes.
    pub(crate) fn new(quota: Arc<dyn ProjectQuota>, ids: Option<RangeInclusive<u32>>, bytes: u64) -> Self {
        let bytes = (bytes - bytes % BLOCK).max(BLOCK);
        Self { quota, ids, bytes, next: AtomicU32::new(0), released: Mutex::default() }
    }

    /// No projects.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self::new(Arc::new(KernelQuota), None, 0)
    }

    /// The same of another implementation.
    pub(crate) fn with(self, quota: Arc<dyn ProjectQuota>) -> Self {
        Self { quota, ..self }
    }

    /// Claims an id for a new layer, notes it on a new mark, and limits it. Returns `None` if the kernel does not limit
    /// layers there.
    pub(crate) fn claim(&self, mark: &Path) -> Option<u32> {
        self.unless_refused(mark, self.try_claim_limited(mark))
    }

    /// The same for a copy that is about to be made. [`Projects::renew`] limits it once it is: the tree that is copied may
    /// take a little more on disk than its bytes, and that is no reason to refuse it.
    pub(crate) fn claim_for_copy(&self, mark: &Path) -> Option<u32> {
        self.unless_refused(mark, self.try_claim(mark))
    }

    fn unless_refused(&self, mark: &Path, claimed: Result<u32, NoQuota>) -> Option<u32> {
        match claimed {
            Ok(project) => Some(project),
            Err(reason @ (NoQuota::Disabled | NoQuota::NotEnforced | NoQuota::InProject(_))) => {
                tracing::debug!(mark = %mark.display(), %reason, "what is written is measured, and no quota limits it");
                None
            }
            Err(error) => {
                let (mark, error) = (mark.display(), crate::error::chain(&error));
                tracing::warn!(%mark, error, "no quota limits what is written to a volume: it is only measured");
                None
            }
        }
    }

    /// Fails if the kernel does not limit layers there: says why. Otherwise leaves a mark, with a project of its own.
    pub(crate) fn try_claim_limited(&self, mark: &Path) -> Result<u32, NoQuota> {
        let project = self.try_claim(mark)?;
        if let Err(error) = self.limit(mark, project) {
            self.forget(mark)?;
            return Err(error.into());
        }
        Ok(project)
    }

    fn try_claim(&self, mark: &Path) -> Result<u32, NoQuota> {
        self.forget(mark)?;
        let place = mark.parent().unwrap_or(Path::new("/"));
        let ids = self.ids.clone().ok_or(NoQuota::Disabled)?;
        if !self.quota.is_enforced(place)? {
            return Err(NoQuota::NotEnforced);
        }
        match self.quota.project_of(place)? {
            0 => {}
            project => return Err(NoQuota::InProject(project)),
        }
        File::options().write(true).create_new(true).mode(0o400).open(mark)?;
        let claimed = self.claim_for(mark, ids);
        if claimed.is_err() {
            self.forget(mark)?;
        }
        claimed
    }

    fn claim_for(&self, mark: &Path, ids: RangeInclusive<u32>) -> Result<u32, NoQuota> {
        let count = u64::from(ids.end() - ids.start()) + 1;
        let mut offset = u64::from(self.next.load(Ordering::Relaxed));
        for _ in 0..count {
            // Less than `count`, so it fits.
            let step = u32::try_from(offset % count).unwrap_or_default();
            let project = ids.start() + step;
            offset += 1;
            if !self.quota.usage(mark, project)?.is_nothing() {
                continue;
            }
            self.quota.set_project(mark, project)?;
            if self.quota.usage(mark, project)?.inodes == 1 {
                self.next.store(step.wrapping_add(1), Ordering::Relaxed);
                return Ok(project);
            }
            // Another process chose it at the same moment. Both go on, from different places.
            self.quota.set_project(mark, 0)?;
            offset = offset.wrapping_add(u64::from(std::process::id()) ^ u64::from(project)) % count;
        }
        Err(NoQuota::AllTaken)
    }

    /// Removes a mark that is of no use: what a dead process left, or of a layer that was not made.
    fn forget(&self, mark: &Path) -> io::Result<()> {
        match mark.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => fs::remove_file(mark),
        }
    }

    /// Gives a directory, which is empty, to a claimed project. For `None`, to none: a dead process may have given it one.
    pub(crate) fn assign(&self, directory: &Path, project: Option<u32>) -> io::Result<()> {
        let project = project.unwrap_or_default();
        match self.quota.project_of(directory)? {
            found if found == project && project == 0 => Ok(()),
            _ => self.quota.set_project(directory, project),
        }
    }

    /// Limits a claimed project. `place` is on its filesystem.
    fn limit(&self, place: &Path, project: u32) -> io::Result<()> {
        self.quota.limit(place, project, self.bytes)
    }

    /// Returns the project of a mark; `None` if there is no mark.
    pub(crate) fn project_of(&self, mark: &Path) -> Option<u32> {
        // Most filesystems have no quotas, and so no mark.
        mark.symlink_metadata().ok()?;
        self.quota.project_of(mark).ok().filter(|project| *project != 0)
    }

    /// Returns what the layer with this mark takes and may take, if the kernel limits it.
    pub(crate) fn usage(&self, mark: &Path) -> Option<ProjectUsage> {
        let project = self.project_of(mark)?;
        // Without enforcement, as after a mount without the option, what is written is measured as everywhere else.
        let usage = self.quota.is_enforced(mark).ok()?.then(|| self.quota.usage(mark, project))?;
        usage.ok().filter(|usage| usage.limit > 0)
    }

    /// Sets the limit of the layer with this mark anew if it was lost, or is not the configured one.
    pub(crate) fn renew(&self, mark: &Path) {
        let Some(project) = self.project_of(mark) else { return };
        let renewed = self.quota.usage(mark, project).and_then(|found| {
            match (self.bytes..self.bytes.saturating_add(LARGEST_BLOCK)).contains(&found.limit) {
                true => Ok(()),
                false => self.limit(mark, project),
            }
        });
        if let Err(error) = renewed {
            tracing::warn!(mark = %mark.display(), %error, "cannot limit what is written to a volume");
        }
    }

    /// Removes the limit of the layer with this mark, until [`Projects::renew`].
    pub(crate) fn lift(&self, mark: &Path) {
        let lifted = self.project_of(mark).map(|project| self.quota.limit(mark, project, 0));
        if let Some(Err(error)) = lifted {
            tracing::warn!(mark = %mark.display(), %error, "cannot lift the limit of what is written to a volume");
        }
    }

    /// Notes that the layer with this mark is about to be discarded.
    pub(crate) fn release(&self, mark: &Path) {
        let project = self.project_of(mark);
        self.released.lock().unwrap_or_else(PoisonError::into_inner).extend(project);
    }

    /// Removes the limits of released projects whose files are deleted by now. A sweep finds the others.
    pub(crate) fn clear_released(&self, place: &Path) {
        let released = std::mem::take(&mut *self.released.lock().unwrap_or_else(PoisonError::into_inner));
        for project in released {
            let cleared = self.quota.usage(place, project).and_then(|usage| self.clear(place, project, usage));
            if let Err(error) = cleared {
                tracing::debug!(project, %error, "cannot remove the limit of a project that is not used any more");
            }
        }
    }

    /// Removes the limits of projects without files, which a crash left, and returns their number.
    pub(crate) fn sweep(&self, place: &Path) -> io::Result<usize> {
        let Some(ids) = self.ids.clone() else { return Ok(0) };
        if !self.quota.is_enforced(place)? {
            return Ok(0);
        }
        let (mut cleared, mut from) = (0, *ids.start());
        while let Some((project, usage)) = self.quota.next(place, from)?
            && ids.contains(&project)
        {
            cleared += usize::from(self.clear(place, project, usage)?);
            let Some(next) = project.checked_add(1) else { break };
            from = next;
        }
        Ok(cleared)
    }

    /// Removes the limit of a project, unless it has files.
    fn clear(&self, place: &Path, project: u32, usage: ProjectUsage) -> io::Result<bool> {
        let is_leftover = usage.inodes == 0 && usage.limit > 0;
        if is_leftover {
            self.quota.limit(place, project, 0)?;
            // Another process may have cleared it, and a third one claimed it, since it was looked at.
            if self.quota.usage(place, project)?.inodes > 0 {
                self.limit(place, project)?;
            }
        }
        Ok(is_leftover)
    }
}

#[cfg(test)]
mod tests;

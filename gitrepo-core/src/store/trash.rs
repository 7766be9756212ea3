//! What is to be deleted.
//!
//! A tree is first renamed into the trash, so that nothing finds it half deleted, and no lock is held while it is
//! deleted. Whoever moved it there deletes it once its call holds no lock, for a short time; a sweep finishes what is
//! left, by that call or by a crash.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use super::durable;
use super::error::StoreError;
use super::error::optional;
use super::removal;
use super::removal::Outcome;
use super::removal::Pace;

/// When to delete a tree that has been moved to the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// Before the call returns, however long that takes.
    Now,
    /// Once no lock is held: by [`Store::delete_discarded`](super::Store::delete_discarded), or else by the next sweep
    /// that has time for it.
    Later,
}

/// The directory of trees to be deleted.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
    /// What this process moved there to be deleted later.
    later: Mutex<Vec<PathBuf>>,
}

impl Trash {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, later: Mutex::default() }
    }

    /// Moves a file or tree to the trash, not durably. Returns its new path, or `None` if it does not exist.
    pub(crate) fn take(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        let taken = self.directory.join(durable::random_name()?);
        let moved = fs::rename(path, &taken).map_err(StoreError::io("move to the trash", path));
        Ok(optional(moved)?.map(|()| taken))
    }

    /// Moves a file or tree to the trash durably, and deletes it now or later.
    pub(super) fn discard(&self, path: &Path, deletion: Deletion) -> Result<(), StoreError> {
        // The directory is opened first: once it is empty, a concurrent process may remove it.
        let parent = match path.parent().map(File::open) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Some(opened) => Some(opened.map_err(StoreError::io("open the directory of", path))?),
            None => None,
        };
        let Some(taken) = self.take(path)? else { return Ok(()) };
        if let Some(parent) = parent {
            parent.sync_all().map_err(StoreError::io("sync the directory of", path))?;
        }
        match deletion {
            Deletion::Now => delete_or_leave(&taken),
            Deletion::Later => self.leave(taken),
        }
        Ok(())
    }

    /// Notes that an entry of the trash is to be deleted later.
    pub(super) fn leave(&self, taken: PathBuf) {
        self.later.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    }

    /// Deletes what this process left for later, until `deadline`. Returns whether a sweep must finish it.
    pub(super) fn delete_left(&self, deadline: Option<Instant>) -> bool {
        let left = std::mem::take(&mut *self.later.lock().unwrap_or_else(PoisonError::into_inner));
        left.iter().filter(|taken| self.delete_taken(taken, deadline, Pace::Full)).count() > 0
    }

    /// Deletes an entry that [`Trash::take`] moved there, until `deadline` if any. Returns whether a sweep must finish
    /// it.
    pub(super) fn delete_taken(&self, taken: &Path, deadline: Option<Instant>, pace: Pace) -> bool {
        debug_assert!(taken.starts_with(&self.directory));
        match removal::remove(taken, deadline, pace) {
            Ok(Outcome::Removed) => false,
            Ok(Outcome::OutOfTime) => true,
            Err(error) => {
                let (path, error) = (taken.display(), crate::error::chain(&error));
                tracing::warn!(%path, error, "cannot delete something in the trash");
                true
            }
        }
    }

    /// Empties the trash, until `deadline` if any. Returns how much was deleted, what failed, and whether time ran out.
    pub(super) fn empty(&self, deadline: Option<Instant>, pace: Pace) -> Result<Emptied, StoreError> {
        let mut emptied = Emptied::default();
        for path in durable::entries(&self.directory)? {
            match removal::remove(&path, deadline, pace) {
                Ok(Outcome::Removed) => emptied.removed += 1,
                Ok(Outcome::OutOfTime) => {
                    emptied.out_of_time = true;
                    break;
                }
                Err(error) => emptied.failures.push(error),
            }
        }
        Ok(emptied)
    }

    /// How many things are still to be deleted.
    pub(super) fn count(&self) -> Result<usize, StoreError> {
        Ok(durable::entries(&self.directory)?.len())
    }
}

/// The result of emptying the trash.
#[derive(Debug, Default)]
pub(super) struct Emptied {
    pub(super) removed: usize,
    pub(super) out_of_time: bool,
    pub(super) failures: Vec<StoreError>,
}

/// Deletes an entry of the trash; a sweep retries after a failure.
pub(super) fn delete_or_leave(taken: &Path) {
    if let Err(error) = remove_tree(taken) {
        let (path, error) = (taken.display(), crate::error::chain(&error));
        tracing::warn!(%path, error, "cannot delete something in the trash; a later sweep retries it");
    }
}

/// Deletes a file or tree of ours, as fast as possible. If something is mounted inside, it deletes the rest and fails.
/// A missing path is not an error.
///
/// # Errors
///
/// If something cannot be deleted.
pub fn remove_tree(path: &Path) -> Result<(), StoreError> {
    removal::remove(path, None, Pace::Full).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptying_the_trash_without_time_says_so_and_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let trash = Trash::new(place.path().join("trash"));
        fs::create_dir(&trash.directory).unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a")).unwrap();
        trash.take(&tree).unwrap().unwrap();
        assert!(trash.empty(Some(Instant::now()), Pace::Full).unwrap().out_of_time);
        let emptied = trash.empty(None, Pace::Gentle).unwrap();
        assert_eq!((emptied.removed, emptied.out_of_time), (1, false));
        assert_eq!(fs::read_dir(&trash.directory).unwrap().count(), 0);
    }

    #[test]
    fn what_is_left_for_later_is_deleted_once_and_by_whoever_comes_first() {
        let place = tempfile::tempdir().unwrap();
        let trash = Trash::new(place.path().join("trash"));
        fs::create_dir(&trash.directory).unwrap();
        let tree = place.path().join("tree");
        let discard = || {
            fs::create_dir_all(tree.join("a")).unwrap();
            trash.discard(&tree, Deletion::Later).unwrap();
            assert_eq!((tree.exists(), trash.count().unwrap()), (false, 1));
        };
        discard();
        assert!(!trash.delete_left(None));
        assert_eq!(trash.count().unwrap(), 0);
        discard();
        assert!(trash.delete_left(Some(Instant::now())), "no time");
        assert!(!trash.delete_left(None), "a sweep finishes it");
        assert_eq!(trash.empty(None, Pace::Full).unwrap().removed, 1);
        discard();
        trash.empty(None, Pace::Full).unwrap();
        assert!(!trash.delete_left(None), "a sweep was faster");
    }
}

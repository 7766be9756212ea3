//! A private directory for unfinished work.

use std::collections::BTreeSet;
use std::fs;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::clock::BootId;
use super::durable;
use super::error::StoreError;
use super::layout::Layout;
use super::lock;
use super::lock::Lock;
use super::trash;
use crate::digest::is_hex;
use crate::digest::sha256_hex;

/// An empty directory on the destination's filesystem. The finished result is renamed out of it; the rest is deleted
/// when this is dropped. If the process dies first, its lock on the directory is released, which tells the next sweep
/// to delete it.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The store that contains it, if any.
    layout: Option<Arc<Layout>>,
    path: PathBuf,
    _lock: Lock,
}

impl Staging {
    /// Creates `staging/<boot>.<random>/` in a store.
    pub(super) fn create(layout: &Arc<Layout>) -> Result<Self, StoreError> {
        let boot = BootId::current()?;
        let (path, lock) = create_locked(&layout.staging(), boot.prefix())?;
        Ok(Self { layout: Some(Arc::clone(layout)), path, _lock: lock })
    }

    /// Creates `staging/<boot>.<repository>.<random>/` in a store, for a fetch into the repository with this hash. A
    /// worker may write inside, but cannot change the name.
    pub(super) fn of_repository(layout: &Arc<Layout>, hash: &str) -> Result<Self, StoreError> {
        let boot = BootId::current()?;
        let (path, lock) = create_locked(&layout.staging(), &format!("{}.{hash}", boot.prefix()))?;
        Ok(Self { layout: Some(Arc::clone(layout)), path, _lock: lock })
    }

    /// Locks the directories that `take` accepts, of dead processes of any boot that fetched into the repository with
    /// this hash. They are deleted when dropped.
    pub(super) fn abandoned(
        layout: &Arc<Layout>,
        hash: &str,
        mut take: impl FnMut(&Path) -> bool,
    ) -> Result<Vec<Self>, StoreError> {
        let mut abandoned = Vec::new();
        for (path, repository) in fetching(layout)? {
            if repository == hash
                && take(&path)
                && let Some(lock) = lock::try_lock_existing(&path)?
            {
                abandoned.push(Self { layout: Some(Arc::clone(layout)), path, _lock: lock });
            }
        }
        Ok(abandoned)
    }

    /// Returns the hashes of the repositories with a running or interrupted fetch.
    pub(super) fn repositories(layout: &Layout) -> Result<BTreeSet<String>, StoreError> {
        Ok(fetching(layout)?.into_iter().map(|(_, repository)| repository).collect())
    }

    /// Moves the directory to the trash, to be deleted later.
    pub(crate) fn into_trash(self) -> Result<(), StoreError> {
        match &self.layout {
            // Nothing is left to do when `self` is dropped.
            Some(layout) => {
                layout.trash.take(&self.path)?.into_iter().for_each(|taken| layout.trash.leave(taken));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Creates a hidden directory beside `destination`, for a result outside any store. Deletes leftovers of killed
    /// processes for the same destination.
    pub(crate) fn beside(destination: &Path) -> Result<Self, StoreError> {
        let parent = destination.parent().unwrap_or(Path::new("/"));
        let hash = sha256_hex(destination.as_os_str().as_bytes());
        // Short, because the destination's name may already have the maximum length.
        let prefix = format!(".gitrepo-{}", hash.get(..16).unwrap_or(&hash));
        delete_abandoned(parent, &prefix);
        let (path, lock) = create_locked(parent, &prefix)?;
        Ok(Self { layout: None, path, _lock: lock })
    }

    /// Returns the directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn delete(&self) -> Result<(), StoreError> {
        match &self.layout {
            Some(layout) => {
                if let Some(taken) = layout.trash.take(&self.path)? {
                    trash::delete_or_leave(&taken);
                }
                Ok(())
            }
            None => trash::remove_tree(&self.path),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.delete() {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "cannot delete a staging directory; a later sweep retries it");
        }
    }
}

/// Lists the directories of running and dead fetches, with the hashes of their repositories.
fn fetching(layout: &Layout) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let paths = durable::entries(&layout.staging())?.into_iter();
    Ok(paths.filter_map(|path| repository_of(&path).map(|repository| (path, repository))).collect())
}

/// Returns the hash of the repository that this staging directory belongs to, if it is for a fetch.
pub(super) fn repository_of(path: &Path) -> Option<String> {
    let (_boot, name) = path.file_name()?.to_str()?.split_once('.')?;
    let (repository, random) = name.split_once('.')?;
    (is_hex(repository, 64) && durable::is_random_name(random)).then(|| repository.to_owned())
}

fn create_locked(parent: &Path, prefix: &str) -> Result<(PathBuf, Lock), StoreError> {
    loop {
        let path = parent.join(format!("{prefix}.{}", durable::random_name()?));
        DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
        // `None` if a sweep locked the directory first, and removes it.
        if let Some(lock) = lock::try_lock_existing(&path)? {
            return Ok((path, lock));
        }
    }
}

/// Deletes the directories of dead processes with this prefix. One that cannot be deleted may be another user's, and
/// does no harm.
fn delete_abandoned(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let end = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|end| end.strip_prefix('.'));
        if !end.is_some_and(durable::is_random_name) {
            continue;
        }
        let path = entry.path();
        let deleted = match lock::try_lock_existing(&path) {
            Ok(Some(_lock)) => trash::remove_tree(&path),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::debug!(error = %crate::error::chain(&error), "cannot delete an abandoned staging directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::store;

    #[test]
    fn a_staging_directory_is_deleted_with_its_owner() {
        let (_place, store) = store();
        let staging = store.staging().unwrap();
        let path = staging.path().to_path_buf();
        fs::write(path.join("file"), "").unwrap();
        drop(staging);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn r1_staging_beside_a_destination_deletes_leftovers_of_dead_processes_only() {
        let place = tempfile::tempdir().unwrap();
        let destination = place.path().join("d".repeat(255));
        let living = Staging::beside(&destination).unwrap();
        let similar = place.path().join(living.path().file_name().unwrap().to_str().unwrap().replace('.', "_"));
        let (prefix, _) = living.path().to_str().unwrap().rsplit_once('.').unwrap();
        let abandoned = PathBuf::from(format!("{prefix}.{}", durable::random_name().unwrap()));
        let foreign = PathBuf::from(format!("{prefix}.mine"));
        for path in [&similar, &abandoned, &foreign] {
            fs::create_dir(path).unwrap();
        }
        let other = Staging::beside(&destination).unwrap();
        assert!(!abandoned.exists());
        assert!(living.path().exists() && other.path().exists() && similar.exists() && foreign.exists());
        drop((living, other));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }
}

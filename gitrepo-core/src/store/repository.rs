//! The part of a repository that the store keeps: segments and packs that later fetches need not download again.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::content;
use crate::error::chain;
use crate::snapshot::Owner;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;

use super::durable;
use super::error::StoreError;
use super::error::optional;
use super::last_use;
use super::layout::Layout;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::Mode;
use super::lock::Turn;
use super::staging::Staging;
use super::trash::Deletion;
use crate::digest::sha256_hex;

mod adopt;
mod fragmented;
mod heartbeat;
mod recover;
pub(super) mod salvage;
mod sealed;
#[cfg(test)]
mod tests;
mod turn;
mod whole;

pub(crate) use fragmented::Fragmented;
pub(crate) use heartbeat::Heartbeat;
pub(crate) use turn::FetchTurn;
pub(super) use whole::check_pack_slowly;

/// Part of every name, so that a change of the layout gives new names. An earlier version's repositories, and a later
/// one's, are not used, and evicted as any other that is not.
const GENERATION: &str = "gitrepo repository 2 ";

/// Each fetch adds a pack and perhaps a segment, and they are searched one by one. Beyond this number the next fetch
/// starts afresh.
const MOST_PACKS: usize = 50;

/// The bare repository of one URL. It may not exist yet. Fetches only read it, as an alternate, and only
/// [`RepositoryLock::adopt`] writes it. So git never leaves anything unfinished in it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    layout: Arc<Layout>,
    hash: String,
    path: PathBuf,
}

impl Repository {
    pub(super) fn new(layout: &Arc<Layout>, url: &RepositoryUrl) -> Self {
        Self::of_hash(layout, Self::hash_of(url))
    }

    /// Returns the name in the store of the repository of a URL.
    pub(super) fn hash_of(url: &RepositoryUrl) -> String {
        sha256_hex(format!("{GENERATION}{}", url.canonical()))
    }

    /// Returns the directories of the segments and packs.
    pub(super) fn directories(&self) -> [PathBuf; 2] {
        adopt::PAIRS.map(|pairs| self.path.join(pairs.directory))
    }

    pub(super) fn of_hash(layout: &Arc<Layout>, hash: String) -> Self {
        let path = layout.repositories().join(&hash);
        Self { layout: Arc::clone(layout), hash, path }
    }

    /// Returns the repository's path, whether it exists or not.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a repository in `directory`, which must not exist, out of a fetch that built on none. Not durable, and no
    /// part of the store. `fetched` is as for [`RepositoryLock::adopt`].
    pub(crate) fn adopt_aside(
        fetched: &Path,
        directory: &Path,
        commit: Option<&CommitId>,
        owner: Owner,
    ) -> Result<(), StoreError> {
        adopt::make(directory, fetched, commit, owner)
    }

    /// Whether anything has been fetched.
    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Whether this commit has been fetched, to any depth.
    pub(crate) fn contains(&self, commit: &CommitId) -> bool {
        self.path.join(commit_ref(commit)).is_file()
    }

    /// Takes the exclusive right to fetch into the repository. Waits for other fetches.
    pub(crate) fn lock(&self, cancel: &Cancel) -> Result<RepositoryLock, StoreError> {
        let lock = self.layout.locks.acquire(&self.lock_name(), Mode::Exclusive, cancel)?;
        self.locked(lock)
    }

    /// Takes the exclusive right to fetch into the repository, if no fetch is running.
    pub(crate) fn try_lock(&self) -> Result<Option<RepositoryLock>, StoreError> {
        let lock = self.layout.locks.try_acquire(&self.lock_name(), Mode::Exclusive)?;
        lock.map(|lock| self.locked(lock)).transpose()
    }

    /// Takes the exclusive right to fetch into the repository. Waits for other fetches, or until `done` finds an answer.
    /// Calls that wait for the same commit look for its snapshot, and return together when it exists. `done` runs only
    /// while another process holds the lock, so check again after taking it.
    pub(crate) fn lock_unless<T>(
        &self,
        cancel: &Cancel,
        done: impl FnMut() -> Result<Option<T>, StoreError>,
    ) -> Result<Turn<RepositoryLock, T>, StoreError> {
        match self.layout.locks.acquire_unless(&self.lock_name(), Mode::Exclusive, cancel, done)? {
            Turn::Ours(lock) => Ok(Turn::Ours(self.locked(lock)?)),
            Turn::Done(answer) => Ok(Turn::Done(answer)),
        }
    }

    /// Returns the contents of the segments.
    pub(super) fn segments(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut files = optional(durable::entries(&self.path.join(content::DIRECTORY)))?.unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|end| end == content::CONTENT));
        Ok(files)
    }

    /// Returns the packs and their indexes.
    pub(super) fn packs(&self) -> Result<Vec<(PathBuf, PathBuf)>, StoreError> {
        let files = optional(durable::entries(&self.path.join(adopt::PACKS)))?.unwrap_or_default();
        let indexes = files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "idx"));
        Ok(indexes.map(|index| (index.with_extension("pack"), index)).collect())
    }

    /// Returns the names of the packs, none if they cannot be listed.
    pub(crate) fn pack_names(&self) -> Vec<String> {
        let packs = self.packs().unwrap_or_default();
        packs.into_iter().filter_map(|(pack, _)| Some(pack.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// Returns the inodes of the segments and packs by path: another one says that the file was replaced.
    pub(super) fn contents(&self) -> Result<BTreeMap<PathBuf, u64>, StoreError> {
        let packs = self.packs()?.into_iter().map(|(pack, _)| pack);
        let inode = |path: PathBuf| {
            let found = optional(path.metadata().map_err(StoreError::io("examine", &path)))?;
            Ok(found.map(|found| (path, found.ino())))
        };
        self.segments()?.into_iter().chain(packs).filter_map(|path| inode(path).transpose()).collect()
    }

    fn lock_name(&self) -> LockName {
        LockName::Repository(self.hash.clone())
    }

    fn locked(&self, lock: Lock) -> Result<RepositoryLock, StoreError> {
        let tidied = match recover::remove_leftovers(&self.path) {
            Err(error) if error.is_shortage() => return Err(error),
            tidied => tidied,
        };
        if let Err(error) = &tidied {
            let path = self.path.display();
            tracing::warn!(%path, error = %chain(error), "a repository of the store cannot be tidied; nothing builds on it");
        }
        Ok(RepositoryLock { repository: self.clone(), is_tidy: tidied.is_ok(), _lock: lock })
    }
}

/// The exclusive right to fetch into a repository.
#[derive(Debug)]
pub(crate) struct RepositoryLock {
    repository: Repository,
    /// Whether no leftovers of a crash are in the way.
    is_tidy: bool,
    _lock: Lock,
}

impl RepositoryLock {
    /// Creates a directory to fetch into. If the process dies, the next fetch finds the received packs.
    pub(crate) fn staging(&self) -> Result<Staging, StoreError> {
        Staging::of_repository(&self.repository.layout, &self.repository.hash)
    }

    /// Keeps the packs that other processes had completely received for this repository when they died. Call it before
    /// [`RepositoryLock::base`], so that the fetch builds on it.
    pub(crate) fn salvage(&self) -> Result<(), StoreError> {
        salvage::salvage(&self.repository)
    }

    /// Returns the repository that a fetch may build on; `None` if it is empty, has too many packs to add another, or
    /// cannot be trusted: a segment of it is damaged, or its files cannot be examined.
    ///
    /// # Errors
    ///
    /// If the disk is full, or memory or descriptors are short: that is no fault of the repository.
    pub(crate) fn base(&self) -> Result<Option<PathBuf>, StoreError> {
        match self.checked() {
            Err(error) if !error.is_full() && !error.is_shortage() => {
                tracing::warn!(
                    error = %chain(&error),
                    "a repository of the store cannot be used; everything is fetched again"
                );
                Ok(None)
            }
            base => base,
        }
    }

    fn checked(&self) -> Result<Option<PathBuf>, StoreError> {
        if !self.is_tidy {
            return Ok(None);
        }
        if !self.repository.path.join(adopt::PACKS).is_dir() || self.repository.packs()?.len() > MOST_PACKS {
            return Ok(None);
        }
        sealed::check(&self.repository.path).map(|()| Some(self.repository.path.clone()))
    }

    /// Whether a fetch that builds on nothing would replace what many fetches of whole commits brought: there are too many
    /// packs to add another, and most came with a commit. For one directory that is too much to lose.
    pub(crate) fn is_full_of_commits(&self) -> Result<bool, StoreError> {
        let packs = self.repository.packs()?.len();
        let commits = optional(durable::entries(&self.repository.path.join(adopt::COMMITS)))?.unwrap_or_default();
        Ok(packs > MOST_PACKS && commits.len() * 2 > packs)
    }

    /// Checks that the segments are those that fetches brought, and that none is gone.
    pub(super) fn check_segments(&self) -> Result<(), StoreError> {
        sealed::check(&self.repository.path)
    }

    /// Moves the result of a fetch into the store, durably.
    ///
    /// `fetched` is the bare repository that the fetch wrote in staging. It is not trusted, and its writer must have
    /// ended. `base` is the result of [`RepositoryLock::base`] for that fetch: if what was fetched builds on it, it is added;
    /// otherwise it replaces the old repository. `commit` is what was fetched whole; `None` after a narrow fetch.
    pub(crate) fn adopt(
        &self,
        fetched: &Path,
        base: Option<&Path>,
        commit: Option<&CommitId>,
        owner: Owner,
    ) -> Result<(), StoreError> {
        // There is no such directory, or all of it was here.
        if commit.is_none() && adopt::is_empty(fetched)? {
            if self.repository.exists() {
                last_use::mark(&self.repository.path);
            }
            return Ok(());
        }
        match base {
            Some(_) if adopt::builds_on_base(fetched)? => {
                adopt::extend(&self.repository.path, fetched, commit, owner)?;
            }
            _ => adopt::replace(&self.repository.layout, &self.repository.path, fetched, commit, owner)?,
        }
        last_use::mark(&self.repository.path);
        // Segments that it does not know are checked by their content.
        if let Err(error) = sealed::add_new(&self.repository.path) {
            tracing::warn!(error = %chain(&error), "cannot note down what identifies new segments");
        }
        Ok(())
    }

    /// Returns the locked repository.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn hash(&self) -> &str {
        &self.repository.hash
    }

    /// Discards the repository. A fetch cannot repair a damaged one, because git believes it has the objects.
    pub(crate) fn discard(&self) -> Result<(), StoreError> {
        self.repository.layout.trash.discard(&self.repository.path, Deletion::Now)
    }
}

/// Returns the ref that keeps a commit alive. We never use the remote's own ref names.
fn commit_ref(commit: &CommitId) -> String {
    format!("{}/{commit}", adopt::COMMITS)
}

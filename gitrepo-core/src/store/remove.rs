//! Removes one repository, or one commit of it, as far as nothing uses it.

use crate::reserve::Freed;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;

use super::Store;
use super::error::StoreError;
use super::evict::Shown;
use super::removal::Pace;
use super::repository::Repository;
use super::snapshot::read_meta;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;
use super::unused::Unused;

/// What was removed, and what is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removal {
    /// What was removed.
    pub freed: Freed,
    /// Snapshots that stay, because a volume shows them or a process uses them.
    pub snapshots_in_use: u64,
    /// Whether what the fetches brought stays, because a fetch is running.
    pub is_fetching: bool,
}

impl Removal {
    /// Whether the store had nothing of what was named.
    pub fn found_nothing(&self) -> bool {
        self.freed.is_nothing() && !self.is_in_use()
    }

    /// Whether something stays because it is in use.
    pub fn is_in_use(&self) -> bool {
        self.snapshots_in_use > 0 || self.is_fetching
    }
}

impl Store {
    /// Removes the snapshots of a repository, or of one commit, except those in use. Without a commit, also removes
    /// what the fetches brought if no snapshot is left.
    ///
    /// # Errors
    ///
    /// If the store cannot be read or changed. What was removed until then stays removed.
    pub fn remove(
        &self,
        url: &RepositoryUrl,
        commit: Option<&CommitId>,
        list_shown: Shown<'_>,
    ) -> Result<Removal, StoreError> {
        let hash = Repository::hash_of(url);
        let mut removal = Removal::default();
        for name in hashes_in(&self.layout.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let Some(meta) = read_meta(&self.snapshot_path(&id)).ok().flatten() else { continue };
            let is_of_url = RepositoryUrl::parse(&meta.repository).is_ok_and(|of| Repository::hash_of(&of) == hash);
            if !is_of_url || commit.is_some_and(|commit| meta.commit != *commit) {
                continue;
            }
            match self.take_snapshot(&id, list_shown)? {
                Some(taken) => {
                    removal.freed.snapshots += 1;
                    removal.freed.bytes = removal.freed.bytes.saturating_add(taken.bytes);
                    removal.freed.incomplete |= self.layout.trash.delete_taken(&taken.path, None, Pace::Full);
                }
                None if self.snapshot_path(&id).exists() => removal.snapshots_in_use += 1,
                None => {}
            }
        }
        let repository = Repository::of_hash(&self.layout, hash.clone());
        if commit.is_none() && repository.exists() && removal.snapshots_in_use == 0 {
            match self.take_repository(&hash, &Unused::Repository(hash.clone()))? {
                Some(taken) => {
                    removal.freed.repositories += 1;
                    removal.freed.bytes = removal.freed.bytes.saturating_add(taken.bytes);
                    removal.freed.incomplete |= self.layout.trash.delete_taken(&taken.path, None, Pace::Full);
                }
                None => removal.is_fetching = repository.exists(),
            }
        }
        Ok(removal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::store;
    use crate::store::fixture::url;

    #[test]
    fn r12_only_what_was_named_and_is_not_in_use_is_removed() {
        let (_place, store) = store();
        let [one, two, leased] = [1, 2, 3].map(|digit| install(&store, commit(digit), ""));
        let paths = [&one, &two, &leased].map(|lease| lease.path().to_owned());
        let exist = || paths.each_ref().map(|path| path.exists());
        drop((one, two));
        std::fs::create_dir(Repository::new(&store.layout, &url()).path()).unwrap();
        let nothing = || Some(Vec::new());

        let other = RepositoryUrl::parse("https://git.example.com/group/other.git").unwrap();
        assert!(store.remove(&other, None, &nothing).unwrap().found_nothing());
        assert!(store.remove(&url(), Some(&commit(9)), &nothing).unwrap().found_nothing());
        assert!(store.remove(&url(), None, &|| None).unwrap().is_in_use(), "the mount table cannot be read");
        assert_eq!(exist(), [true; 3]);

        let removal = store.remove(&url(), Some(&commit(1)), &nothing).unwrap();
        assert_eq!((removal.freed.snapshots, removal.is_in_use()), (1, false));
        assert_eq!(exist(), [false, true, true]);
        let removal = store.remove(&url(), None, &nothing).unwrap();
        assert_eq!((removal.freed.snapshots, removal.freed.repositories, removal.snapshots_in_use), (1, 0, 1));
        assert_eq!(exist(), [false, false, true]);

        drop(leased);
        let lock = Repository::new(&store.layout, &url()).try_lock().unwrap();
        let removal = store.remove(&url(), None, &nothing).unwrap();
        assert_eq!((removal.freed.snapshots, removal.is_fetching), (1, true));
        drop(lock);
        let removal = store.remove(&url(), None, &nothing).unwrap();
        assert_eq!((removal.freed.repositories, removal.is_in_use()), (1, false));
    }
}

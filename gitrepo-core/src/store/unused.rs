//! Finds what eviction may remove, ordered by last use.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::Metadata;
use std::path::Path;

use crate::spec::CommitId;
use crate::spec::RepositoryUrl;

use super::Store;
use super::clock::Moment;
use super::error::StoreError;
use super::last_use;
use super::last_use::LastUse;
use super::names::Deleted;
use super::names::files_in;
use super::names::image_files;
use super::repository::Repository;
use super::snapshot::read_meta;
use super::snapshot_id::SnapshotId;
use super::snapshot_meta::SnapshotMeta;
use super::target::hashes_in;
use super::usage::taken_by_tree;

/// Something that eviction may remove. Of two that were used last at the same time, the first in this order goes first:
/// it is the cheaper one to make again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unused {
    /// An unused snapshot that was made out of another one.
    View(SnapshotId),
    /// An unused snapshot that was fetched.
    Snapshot(SnapshotId),
    /// A repository without snapshots, by its hash.
    Repository(String),
    /// A repository with snapshots, by its hash. Later fetches build on it, but no snapshot needs it.
    Base(String),
}

impl Unused {
    pub(super) fn is_snapshot(&self) -> bool {
        matches!(self, Self::View(_) | Self::Snapshot(_))
    }

    /// Whether it is removed once it is old.
    pub(super) fn may_be_old(&self) -> bool {
        !matches!(self, Self::Base(_))
    }
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(id) | Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Repository(hash) | Self::Base(hash) => write!(f, "repository {hash}"),
        }
    }
}

/// The candidates.
#[derive(Default)]
pub(super) struct Survey {
    unused: BTreeSet<(LastUse, Unused)>,
    bases: BTreeSet<(LastUse, String)>,
    /// Snapshots per repository; a repository without any is unused.
    snapshots_of: BTreeMap<String, usize>,
}

impl Survey {
    /// Takes the next candidate: the longest unused one. Repositories with snapshots come after all others.
    pub(super) fn pop(&mut self) -> Option<(LastUse, Unused)> {
        if let Some(oldest) = self.unused.pop_first() {
            return Some(oldest);
        }
        while let Some((used, hash)) = self.bases.pop_first() {
            // Without snapshots, it was among the others.
            if self.snapshots_of.get(&hash).is_some_and(|count| *count > 0) {
                return Some((used, Unused::Base(hash)));
            }
        }
        None
    }

    /// Counts a removed snapshot of this repository, last used at `used`. Without any other, the repository is unused
    /// as well. A snapshot's use counts for the packs too, since later fetches build on them.
    pub(super) fn count_off(&mut self, store: &Store, repository: Option<String>, used: LastUse, now: &Moment) {
        if let Some(hash) = repository
            && let Some(left) = self.snapshots_of.get_mut(&hash)
        {
            *left -= 1;
            let path = store.layout.repositories().join(&hash);
            if *left == 0 && path.is_dir() {
                self.unused.insert((used.max(last_use::of(&path, now)), Unused::Repository(hash)));
            }
        }
    }
}

impl Store {
    /// Lists what no record refers to. Leases and mounts are for the caller to check.
    pub(super) fn survey(&self, now: &Moment) -> Result<Survey, StoreError> {
        let referenced = self.referenced()?;
        let mut survey = Survey::default();
        let mut unused = Vec::new();
        // The last use of any snapshot of a commit: a view goes before the snapshot that it was made of.
        let mut used_commits: BTreeMap<(String, CommitId), LastUse> = BTreeMap::new();
        for name in hashes_in(&self.layout.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let path = self.snapshot_path(&id);
            let meta = read_meta(&path).ok().flatten();
            let repository = meta.as_ref().and_then(repository_of);
            if let Some(repository) = &repository {
                *survey.snapshots_of.entry(repository.clone()).or_default() += 1;
            }
            if referenced.contains(&id) {
                continue;
            }
            let used = last_use::of(&path, now);
            let is_view = meta.as_ref().is_some_and(|meta| !meta.ownership.is_root());
            let commit = repository.zip(meta.map(|meta| meta.commit));
            if let Some(commit) = &commit {
                let latest = used_commits.entry(commit.clone()).or_insert(used);
                *latest = (*latest).max(used);
            }
            unused.push((id, used, is_view, commit));
        }
        for (id, used, is_view, commit) in unused {
            let latest = commit.and_then(|commit| used_commits.get(&commit).copied());
            survey.unused.insert(match is_view {
                true => (used, Unused::View(id)),
                false => (latest.unwrap_or(used), Unused::Snapshot(id)),
            });
        }
        for hash in hashes_in(&self.layout.repositories())? {
            let used = last_use::of(&self.layout.repositories().join(&hash), now);
            match survey.snapshots_of.contains_key(&hash) {
                true => survey.bases.insert((used, hash)),
                false => survey.unused.insert((used, Unused::Repository(hash))),
            };
        }
        Ok(survey)
    }

    pub(super) fn repository_of(&self, hash: String) -> Repository {
        Repository::of_hash(&self.layout, hash)
    }
}

fn repository_of(meta: &SnapshotMeta) -> Option<String> {
    RepositoryUrl::parse(&meta.repository).ok().map(|url| Repository::hash_of(&url))
}

/// Returns the hash of a snapshot's repository; `None` for a damaged one.
pub(super) fn repository_of_snapshot(snapshot: &Path) -> Option<String> {
    repository_of(&read_meta(snapshot).ok().flatten()?)
}

/// Returns the bytes that the deletion of a snapshot frees. Of a tree of files, what it took when it was written; of an
/// image, those of its files that have no other name. A damaged one counts as 0 bytes.
pub(super) fn bytes_of(snapshot: &Path, deleted: &mut Deleted) -> u64 {
    let Some(meta) = read_meta(snapshot).ok().flatten() else { return 0 };
    image_files(snapshot, &meta).map_or_else(|| taken_by_tree(&meta.summary), |files| deleted.count(files))
}

impl Repository {
    /// Returns the repository's segments and packs, and their indexes.
    pub(super) fn files(&self) -> impl Iterator<Item = Metadata> {
        self.directories().into_iter().flat_map(|directory| files_in(&directory))
    }
}

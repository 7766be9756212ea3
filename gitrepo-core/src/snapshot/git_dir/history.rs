//! The history of a commit, to a depth, out of a repository that may have more or other history.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::path::Path;

use git2::ObjectType;
use git2::Odb;
use git2::OdbLookupFlags;
use git2::OdbObject;
use git2::Oid;

use super::super::SnapshotError;
use super::super::object;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::object::parents_of;
use crate::object::tree_of;
use crate::spec::CommitId;

/// A walk through a history: each commit and tree in it once.
pub(super) struct History<'a> {
    odb: &'a Odb<'a>,
    commit: CommitId,
    /// Commits of history; 0 for all.
    depth: u32,
    /// Commits whose parents the repository does not have.
    cut: BTreeSet<Oid>,
    seen: HashSet<Oid>,
    /// The blobs of all trees so far.
    pub(super) blobs: Vec<Oid>,
    /// The commits whose parents are left out.
    pub(super) boundary: Vec<Oid>,
}

impl<'a> History<'a> {
    /// Of `commit`, to this depth, in the bare repository at `path`, whose objects these are.
    pub(super) fn new(odb: &'a Odb<'a>, path: &Path, commit: CommitId, depth: u32) -> Result<Self, SnapshotError> {
        let cut = match std::fs::read_to_string(path.join(SHALLOW)) {
            Ok(text) => text.lines().filter_map(|line| Oid::from_str(line).ok()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(SnapshotError::io("read", SHALLOW.as_bytes(), error)),
        };
        Ok(Self { odb, commit, depth, cut, seen: HashSet::new(), blobs: Vec::new(), boundary: Vec::new() })
    }

    /// Passes on every commit and tree. A commit at the end of the depth counts as one without parents, even if these are
    /// nearer on another way: a server cuts a history in the same place.
    pub(super) fn walk(
        &mut self,
        each: &mut dyn FnMut(Oid, &OdbObject<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let commit = self.commit;
        let first = Oid::from_bytes(commit.as_bytes()).map_err(|error| SnapshotError::unreadable(commit, &error))?;
        let mut generation = vec![first];
        let mut level = 0;
        while !generation.is_empty() {
            level += 1;
            let mut next = Vec::new();
            for id in generation {
                if !self.insert(id)? {
                    continue;
                }
                let found = object::read(self.odb, commit, id, ObjectType::Commit)?;
                each(id, &found)?;
                if let Some(tree) = tree_of(found.data()) {
                    self.walk_tree(tree, each)?;
                }
                let parents = parents_of(found.data());
                if level == self.depth && !parents.is_empty() || self.is_cut(id, &parents)? {
                    self.boundary.push(id);
                } else {
                    next.extend(parents);
                }
            }
            generation = next;
        }
        Ok(())
    }

    fn walk_tree(
        &mut self,
        root: Oid,
        each: &mut dyn FnMut(Oid, &OdbObject<'_>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut trees = vec![root];
        while let Some(id) = trees.pop() {
            if !self.insert(id)? {
                continue;
            }
            let found = object::read(self.odb, self.commit, id, ObjectType::Tree)?;
            each(id, &found)?;
            // The listing refuses what is malformed in the tree that is shown. Older ones are passed on as they are.
            for entry in TreeObject(found.data()).map_while(Result::ok) {
                match entry.mode() {
                    None => trees.push(entry.id),
                    Some(EntryMode::Submodule) => {}
                    Some(_) if self.insert(entry.id)? => {
                        self.blobs.try_reserve(1).map_err(|_| SnapshotError::OutOfMemory { commit: self.commit })?;
                        self.blobs.push(entry.id);
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether the repository lacks a parent of this commit, as it may.
    fn is_cut(&self, id: Oid, parents: &[Oid]) -> Result<bool, SnapshotError> {
        // Otherwise libgit2 looks for new packs after each one that is missing.
        let missing = parents.iter().find(|parent| !self.odb.exists_ext(**parent, OdbLookupFlags::NO_REFRESH));
        match missing {
            None => Ok(false),
            Some(_) if self.cut.contains(&id) => Ok(true),
            Some(parent) => Err(SnapshotError::Incomplete {
                commit: self.commit,
                source: Cause::new(format_args!("commit {parent} is missing")),
            }),
        }
    }

    fn insert(&mut self, id: Oid) -> Result<bool, SnapshotError> {
        self.seen.try_reserve(1).map_err(|_| SnapshotError::OutOfMemory { commit: self.commit })?;
        Ok(self.seen.insert(id))
    }
}

/// The file of a repository that lists where its history is cut.
const SHALLOW: &str = "shallow";

//! Compaction: a repository of many segments becomes one of few.
//!
//! Each fetch adds a segment and a pack to the repository that it builds on. Once there are many, a fetch copies what it
//! needs of them, and so builds on nothing: the store puts it in the place of the old repository. Snapshots keep the
//! segments that they show.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;

use git2::ObjectType;
use git2::Oid;

use super::Repository;
use super::oid;
use super::unusable;
use super::unusable_io;
use crate::cancel::Cancel;
use crate::content::DIRECTORY as SEGMENTS;
use crate::content::Extent;
use crate::content::SegmentWriter;
use crate::content::Segments;
use crate::object;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::pack::ObjectHash;
use crate::pack::PackError;
use crate::pack::write_history;
use crate::remote::RemoteError;
use crate::spec::CommitId;

/// Most segments that a repository has after a fetch. An image over them has as many devices.
const MOST_SEGMENTS: usize = 32;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// What a compacted repository has.
struct Kept {
    /// `None` for all.
    blobs: Option<HashSet<Oid>>,
    history: Vec<Oid>,
}

impl Repository {
    /// Copies what this repository needs of its base, if there are too many segments, and forgets the base. `commit` was
    /// fetched just now. Returns whether it did.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Local`] if the base is damaged: what was fetched needs it. A full disk is no error.
    pub(crate) fn compact(&self, commit: CommitId, cancel: &Cancel) -> Result<bool, RemoteError> {
        let segments = self.segments()?;
        if segments.count() <= MOST_SEGMENTS {
            return Ok(false);
        }
        let copied = self.kept(commit).and_then(|kept| {
            self.copy_blobs(&segments, kept.blobs.as_ref(), cancel)?;
            self.copy_history(&kept.history, cancel)
        });
        match copied {
            Ok(()) => {}
            Err(RemoteError::Local { full: true, .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let alternates = self.path().join("objects/info/alternates");
        fs::remove_file(alternates).map_err(|error| unusable_io(self.path(), &error))?;
        Ok(true)
    }

    /// What is needed: of a commit without its history its tree, and otherwise everything, since a server may send
    /// differences to whatever the commit's history has.
    fn kept(&self, commit: CommitId) -> Result<Kept, RemoteError> {
        let unusable = |error| unusable(self.path(), &error);
        let objects = self.objects()?;
        if !self.shallow()?.contains(&commit) {
            let mut history = Vec::new();
            let all = objects.foreach(|id| {
                history.push(*id);
                true
            });
            all.map_err(unusable)?;
            return Ok(Kept { blobs: None, history });
        }
        let read = objects.read(oid(commit)).map_err(unusable)?;
        let mut waiting: Vec<Oid> = object::tree_of(read.data()).into_iter().collect();
        let mut trees: HashSet<Oid> = waiting.iter().copied().collect();
        let mut blobs = HashSet::new();
        while let Some(tree) = waiting.pop() {
            let read = objects.read(tree).map_err(unusable)?;
            // The listing of the tree refuses what is malformed, and says why.
            for entry in TreeObject(read.data()).flatten() {
                match entry.mode() {
                    None if trees.insert(entry.id) => waiting.push(entry.id),
                    None | Some(EntryMode::Submodule) => {}
                    Some(_) => drop(blobs.insert(entry.id)),
                }
            }
        }
        Ok(Kept { blobs: Some(blobs), history: trees.into_iter().chain([oid(commit)]).collect() })
    }

    /// Copies blobs into a segment of this repository, and verifies them.
    fn copy_blobs(
        &self,
        segments: &Segments,
        wanted: Option<&HashSet<Oid>>,
        cancel: &Cancel,
    ) -> Result<(), RemoteError> {
        let failed = |error: io::Error| unusable_io(self.path(), &error);
        let mut blobs = segments.blobs().map_err(|error| failed(io::Error::other(error)))?;
        blobs.retain(|(id, _)| wanted.is_none_or(|wanted| wanted.contains(id)));
        blobs.sort_unstable_by_key(|(id, _)| *id);
        blobs.dedup_by_key(|(id, _)| *id);
        blobs.sort_unstable_by_key(|(_, extent)| (extent.segment, extent.offset));
        let mut segment = SegmentWriter::create(&self.path().join(SEGMENTS)).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        let mut copies = Vec::with_capacity(blobs.len());
        for (id, extent) in blobs {
            self.check(cancel)?;
            let place = segment.begin().map_err(failed)?;
            self.copy_blob(segments, id, extent, &mut segment, &mut piece)?;
            copies.push((id, place, extent.length));
        }
        segment.finish(copies.into_iter()).map_err(failed)
    }

    fn copy_blob(
        &self,
        segments: &Segments,
        id: Oid,
        extent: Extent,
        to: &mut SegmentWriter,
        piece: &mut [u8],
    ) -> Result<(), RemoteError> {
        let failed = |error: io::Error| unusable_io(self.path(), &error);
        let mut hash = ObjectHash::new(ObjectType::Blob, extent.length);
        let mut from = segments.read(extent);
        loop {
            match from.read(piece).map_err(failed)? {
                0 => break,
                length => {
                    hash.update(&piece[..length]);
                    to.write_all(&piece[..length]).map_err(failed)?;
                }
            }
        }
        match hash.finish() {
            Ok(found) if found == id => Ok(()),
            _ => Err(failed(io::Error::other(format!("object {id} is damaged")))),
        }
    }

    /// Copies commits, trees and tags into a pack of this repository.
    fn copy_history(&self, ids: &[Oid], cancel: &Cancel) -> Result<(), RemoteError> {
        let objects = self.objects()?;
        let mut problem = None;
        let read = |id: &Oid| match self
            .check(cancel)
            .and_then(|()| objects.read(*id).map_err(|error| unusable(self.path(), &error)))
        {
            Ok(object) => Some((*id, object.kind(), object.data().to_vec())),
            Err(error) => {
                problem = Some(error);
                None
            }
        };
        let places = self.places(u64::MAX);
        let written = write_history(&places.packs, ids.iter().map_while(read));
        match (problem, written) {
            (Some(error), _) => Err(error),
            (None, Err(PackError::Disk(error))) => Err(unusable_io(self.path(), &error)),
            (None, Err(error)) => Err(unusable_io(self.path(), &io::Error::other(error))),
            (None, Ok(())) => Ok(()),
        }
    }

    fn check(&self, cancel: &Cancel) -> Result<(), RemoteError> {
        let url = || self.path().display().to_string();
        cancel.check().map_err(|source| RemoteError::Interrupted { url: url(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::Kind;
    use crate::remote::repository::commit_id;

    /// A base with a commit in each of its segments, and a fetch of one more commit that builds on it.
    struct Fetched {
        place: tempfile::TempDir,
        repository: Repository,
        commits: Vec<Oid>,
    }

    fn blob(number: usize) -> Vec<u8> {
        format!("content {number}\n").into_bytes()
    }

    fn write_blob(repository: &Path, content: &[u8]) -> Oid {
        let id = Oid::hash_object(ObjectType::Blob, content).unwrap();
        let mut segment = SegmentWriter::create(&repository.join(SEGMENTS)).unwrap();
        let place = segment.begin().unwrap();
        segment.write_all(content).unwrap();
        segment.finish([(id, place, content.len() as u64)].into_iter()).unwrap();
        id
    }

    /// A commit whose tree has this blob, and always the first one.
    fn commit(git: &git2::Repository, blob: Oid, parent: Option<Oid>) -> Oid {
        let odb = git.odb().unwrap();
        let first = Oid::hash_object(ObjectType::Blob, &super::tests::blob(0)).unwrap();
        let inner = odb.write(ObjectType::Tree, &entry("100644", "file", blob)).unwrap();
        let tree = [entry("100644", "first", first), entry("40000", "inner", inner)].concat();
        let tree = odb.write(ObjectType::Tree, &tree).unwrap();
        let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
        let text = format!("tree {tree}\n{parent}author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n");
        odb.write(ObjectType::Commit, text.as_bytes()).unwrap()
    }

    fn entry(mode: &str, name: &str, id: Oid) -> Vec<u8> {
        [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat()
    }

    impl Fetched {
        fn new(segments: usize) -> Self {
            let place = tempfile::tempdir().unwrap();
            let base_path = place.path().join("base");
            let base = Repository::create(&base_path, None).unwrap();
            let mut commits: Vec<Oid> = Vec::new();
            for number in 0..segments {
                let blob = write_blob(&base_path, &blob(number));
                commits.push(commit(base.git(), blob, commits.last().copied()));
            }
            base.record([commit_id(commits[segments - 1])]).unwrap();
            let path = place.path().join("fetched");
            let repository = Repository::create(&path, Some(&base_path)).unwrap();
            let blob = write_blob(&path, &blob(segments));
            commits.push(commit(repository.git(), blob, commits.last().copied()));
            Self { place, repository, commits }
        }

        fn newest(&self) -> CommitId {
            commit_id(self.commits[self.commits.len() - 1])
        }

        fn compact(&self) -> Result<bool, RemoteError> {
            self.repository.compact(self.newest(), &Cancel::new())
        }

        /// Which blobs and which commits are there without the base.
        fn found_alone(&self) -> (Vec<bool>, Vec<bool>) {
            fs::rename(self.place.path().join("base"), self.place.path().join("gone")).unwrap();
            let git = git2::Repository::open_bare(self.repository.path()).unwrap();
            let alone = Repository { git };
            let ids = (0..self.commits.len()).map(|number| Oid::hash_object(ObjectType::Blob, &blob(number)).unwrap());
            let blobs = alone.locate(&ids.collect::<Vec<_>>()).unwrap();
            let odb = alone.objects().unwrap();
            let commits = self.commits.iter().map(|commit| odb.exists(*commit)).collect();
            (blobs.iter().map(Option::is_some).collect(), commits)
        }
    }

    #[test]
    fn few_segments_stay_as_they_are() {
        let fetched = Fetched::new(MOST_SEGMENTS - 1);
        assert!(!fetched.compact().unwrap());
        assert_eq!(fetched.repository.segments().unwrap().count(), MOST_SEGMENTS);
    }

    #[test]
    fn a_commit_without_its_history_keeps_its_tree() {
        let fetched = Fetched::new(MOST_SEGMENTS);
        fetched.repository.set_shallow(&[fetched.newest()].into()).unwrap();
        assert!(fetched.compact().unwrap());
        let (blobs, commits) = fetched.found_alone();
        let kept = |number: usize| number == 0 || number == MOST_SEGMENTS;
        assert_eq!(blobs, (0..=MOST_SEGMENTS).map(kept).collect::<Vec<_>>());
        assert_eq!(commits, (0..=MOST_SEGMENTS).map(|number| number == MOST_SEGMENTS).collect::<Vec<_>>());
    }

    #[test]
    fn a_commit_with_its_history_keeps_everything() {
        let fetched = Fetched::new(MOST_SEGMENTS);
        assert!(fetched.compact().unwrap());
        assert_eq!(Segments::open(fetched.repository.path()).unwrap().count(), 2);
        let (blobs, commits) = fetched.found_alone();
        assert!(blobs.into_iter().chain(commits).all(|found| found));
    }

    #[test]
    fn damage_is_not_copied() {
        let fetched = Fetched::new(MOST_SEGMENTS);
        let segments = fs::read_dir(fetched.place.path().join("base").join(SEGMENTS)).unwrap();
        let paths = segments.map(|entry| entry.unwrap().path());
        let content = paths.into_iter().find(|path| path.extension().is_some_and(|end| end == "content")).unwrap();
        let mut bytes = fs::read(&content).unwrap();
        bytes[0] ^= 1;
        fs::write(content, bytes).unwrap();
        let error = fetched.compact().unwrap_err();
        assert!(matches!(error, RemoteError::Local { full: false, .. }), "{error}");
        assert!(fetched.repository.path().join("objects/info/alternates").exists());
    }

    #[test]
    fn it_ends_when_it_is_not_wanted() {
        let fetched = Fetched::new(MOST_SEGMENTS);
        let cancel = Cancel::new();
        cancel.cancel();
        let error = fetched.repository.compact(fetched.newest(), &cancel).unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
    }
}

//! Compaction: a repository of many fetches becomes one of few files.
//!
//! Each fetch adds a pack, and a segment if it brings content. The newest commit is copied with all that a later fetch
//! may build on, and the store puts the copy in the place of the old repository. Snapshots keep the segments that they
//! show.
//!
//! No commit leads to what narrow fetches brought. Where most of the packs are theirs, everything is copied.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

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
use crate::lfs;
use crate::object;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::pack::ObjectHash;
use crate::pack::PackError;
use crate::pack::write_history;
use crate::remote::RemoteError;
use crate::spec::CommitId;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// What a compacted repository has.
struct Kept {
    /// `None` for all.
    blobs: Option<HashSet<Oid>>,
    history: Vec<Oid>,
    /// The commits whose parents are not there.
    shallow: BTreeSet<CommitId>,
}

/// Makes the repository at `path`, an absent or empty directory, a compact copy of `base`. Returns its newest commit, the
/// only one that it offers; `None` if narrow fetches alone made it.
///
/// # Errors
///
/// [`RemoteError::Local`] if the base is damaged or the disk is full, and [`RemoteError::Interrupted`].
pub(crate) fn compact(path: &Path, base: &Path, cancel: &Cancel) -> Result<Option<CommitId>, RemoteError> {
    let copy = Repository::create(path, Some(base))?;
    let commits = copy.offers()?;
    let newest = commits.first().copied();
    let packs = packs_of(base).map_err(|error| unusable_io(base, &error))?;
    let kept = match newest {
        // Each fetch of a whole commit brought a ref.
        Some(newest) if commits.len() * 2 > packs => copy.kept(newest, cancel)?,
        _ => copy.everything()?,
    };
    copy.copy_blobs(&copy.segments()?, kept.blobs.as_ref(), cancel)?;
    copy.copy_history(&kept.history, cancel)?;
    copy.forget_objects(kept.blobs.as_ref())?;
    let remove = |name: &str| fs::remove_file(path.join(name)).map_err(|error| unusable_io(path, &error));
    // Among the base's refs, the newest commit's would count as written.
    remove("packed-refs")?;
    if let Some(newest) = newest {
        copy.record([newest])?;
    }
    copy.set_shallow(&kept.shallow)?;
    // Last: if this process dies, what builds on nothing must be complete.
    remove("objects/info/alternates")?;
    Ok(newest)
}

/// The number of packs of a repository.
fn packs_of(repository: &Path) -> io::Result<usize> {
    let mut packs = 0;
    for entry in fs::read_dir(repository.join("objects/pack"))? {
        packs += usize::from(entry?.path().extension().is_some_and(|end| end == "idx"));
    }
    Ok(packs)
}

impl Repository {
    /// All that is here.
    fn everything(&self) -> Result<Kept, RemoteError> {
        let mut history = Vec::new();
        let all = self.objects()?.foreach(|id| {
            history.push(*id);
            true
        });
        all.map_err(|error| unusable(self.path(), &error))?;
        // Each pack lists its own.
        history.sort_unstable();
        history.dedup();
        Ok(Kept { blobs: None, history, shallow: self.shallow()? })
    }

    /// What a later fetch may build on: the commit's tree, if its history is not here; otherwise everything, since a server
    /// may send differences to whatever the history has.
    fn kept(&self, commit: CommitId, cancel: &Cancel) -> Result<Kept, RemoteError> {
        if !self.shallow()?.contains(&commit) {
            return self.everything();
        }
        let (trees, mut blobs) = self.tree(commit)?;
        blobs.extend(self.objects_of(&blobs, cancel)?);
        let history = trees.into_iter().chain([oid(commit)]).collect();
        Ok(Kept { blobs: Some(blobs), history, shallow: [commit].into() })
    }

    /// The trees and the blobs of a commit.
    pub(super) fn tree(&self, commit: CommitId) -> Result<(HashSet<Oid>, HashSet<Oid>), RemoteError> {
        let unusable = |error| unusable(self.path(), &error);
        let objects = self.objects()?;
        let read = objects.read(oid(commit)).map_err(unusable)?;
        object::tree_of(read.data()).map_or(Ok(Default::default()), |tree| self.below(tree))
    }

    /// A tree, the trees below it, and their blobs.
    pub(in crate::remote) fn below(&self, tree: Oid) -> Result<(HashSet<Oid>, HashSet<Oid>), RemoteError> {
        let objects = self.objects()?;
        let (mut waiting, mut trees, mut blobs) = (vec![tree], HashSet::from([tree]), HashSet::new());
        while let Some(tree) = waiting.pop() {
            let read = objects.read(tree).map_err(|error| unusable(self.path(), &error))?;
            // The listing of the tree refuses what is malformed, and says why.
            for entry in TreeObject(read.data()).flatten() {
                match entry.mode() {
                    None if trees.insert(entry.id) => waiting.push(entry.id),
                    None | Some(EntryMode::Submodule) => {}
                    Some(_) => drop(blobs.insert(entry.id)),
                }
            }
        }
        Ok((trees, blobs))
    }

    /// The content of the objects of Git LFS that these blobs may point to. Attributes have no part in that.
    fn objects_of(&self, blobs: &HashSet<Oid>, cancel: &Cancel) -> Result<Vec<Oid>, RemoteError> {
        let failed = |error: io::Error| unusable_io(self.path(), &error);
        let known = lfs::Known::read(self.path()).map_err(failed)?;
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let segments = self.segments()?;
        let ids: Vec<Oid> = blobs.iter().copied().collect();
        let located = segments.locate(&ids).map_err(|error| failed(io::Error::other(error)))?;
        let mut objects = Vec::new();
        for extent in located.into_iter().flatten().filter(|extent| extent.length < lfs::LONGEST_POINTER) {
            self.check(cancel)?;
            let mut content = Vec::new();
            segments.read(extent).read_to_end(&mut content).map_err(failed)?;
            let pointer = lfs::Pointer::parse(&content);
            objects.extend(pointer.and_then(|pointer| known.blob(&pointer.id, pointer.size)));
        }
        Ok(objects)
    }

    /// Forgets the objects of Git LFS that were not copied.
    fn forget_objects(&self, copied: Option<&HashSet<Oid>>) -> Result<(), RemoteError> {
        let Some(copied) = copied else { return Ok(()) };
        let kept = lfs::Known::read(self.path()).and_then(|mut known| {
            known.retain(|blob| copied.contains(&blob));
            known.write(self.path())
        });
        kept.map_err(|error| unusable_io(self.path(), &error))
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
            _ => Err(self.damaged(id)),
        }
    }

    /// Copies commits, trees and tags into a pack of this repository.
    fn copy_history(&self, ids: &[Oid], cancel: &Cancel) -> Result<(), RemoteError> {
        let objects = self.objects()?;
        let mut problem = None;
        let read = |id: &Oid| match self.check(cancel).and_then(|()| self.read_verified(&objects, *id)) {
            Ok((kind, content)) => Some((*id, kind, content)),
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

    fn read_verified(&self, objects: &git2::Odb<'_>, id: Oid) -> Result<(ObjectType, Vec<u8>), RemoteError> {
        let object = objects.read(id).map_err(|error| unusable(self.path(), &error))?;
        let mut hash = ObjectHash::new(object.kind(), object.len() as u64);
        hash.update(object.data());
        match hash.finish() {
            Ok(found) if found == id => Ok((object.kind(), object.data().to_vec())),
            _ => Err(self.damaged(id)),
        }
    }

    fn damaged(&self, id: Oid) -> RemoteError {
        unusable_io(self.path(), &io::Error::other(format!("object {id} is damaged")))
    }

    fn check(&self, cancel: &Cancel) -> Result<(), RemoteError> {
        let url = || self.path().display().to_string();
        cancel.check().map_err(|source| RemoteError::Interrupted { url: url(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::remote::repository::commit_id;

    const COMMITS: usize = 40;

    /// A repository with a commit in each of its segments.
    struct Base {
        place: tempfile::TempDir,
        repository: Repository,
        commits: Vec<Oid>,
    }

    fn blob(number: usize) -> Vec<u8> {
        format!("content {number}\n").into_bytes()
    }

    fn blob_id(number: usize) -> Oid {
        Oid::hash_object(ObjectType::Blob, &blob(number)).unwrap()
    }

    fn write_blob(repository: &Path, number: usize) {
        let content = blob(number);
        let mut segment = SegmentWriter::create(&repository.join(SEGMENTS)).unwrap();
        let place = segment.begin().unwrap();
        segment.write_all(&content).unwrap();
        segment.finish([(blob_id(number), place, content.len() as u64)].into_iter()).unwrap();
    }

    /// A commit whose tree has the blob with this number, and always the first one.
    fn commit(git: &git2::Repository, number: usize, parent: Option<Oid>) -> Oid {
        let odb = git.odb().unwrap();
        let inner = odb.write(ObjectType::Tree, &entry("100644", "file", blob_id(number))).unwrap();
        let tree = [entry("100644", "first", blob_id(0)), entry("40000", "inner", inner)].concat();
        let tree = odb.write(ObjectType::Tree, &tree).unwrap();
        let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
        let who = format!("A <a@b> {number} +0000");
        let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\nm\n");
        odb.write(ObjectType::Commit, text.as_bytes()).unwrap()
    }

    fn entry(mode: &str, name: &str, id: Oid) -> Vec<u8> {
        [format!("{mode} {name}\0").as_bytes(), id.as_bytes()].concat()
    }

    impl Base {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("base");
            let repository = Repository::create(&path, None).unwrap();
            let mut commits: Vec<Oid> = Vec::new();
            for number in 0..COMMITS {
                write_blob(&path, number);
                commits.push(commit(repository.git(), number, commits.last().copied()));
            }
            repository.record(commits.iter().copied().map(commit_id)).unwrap();
            Self { place, repository, commits }
        }

        fn newest(&self) -> CommitId {
            commit_id(self.commits[COMMITS - 1])
        }

        fn compact(&self, cancel: &Cancel) -> Result<Option<CommitId>, RemoteError> {
            compact(&self.place.path().join("copy"), &self.place.path().join("base"), cancel)
        }

        /// Compacts, and returns the copy without the base.
        fn compacted(&self) -> Repository {
            assert_eq!(self.compact(&Cancel::new()).unwrap(), Some(self.newest()));
            fs::rename(self.place.path().join("base"), self.place.path().join("gone")).unwrap();
            let copy = Repository { git: git2::Repository::open_bare(self.place.path().join("copy")).unwrap() };
            assert_eq!(copy.offers().unwrap(), [self.newest()]);
            assert_eq!(fs::read_dir(copy.path().join(SEGMENTS)).unwrap().count(), 2, "one segment and its index");
            copy
        }

        /// The numbers of the blobs and of the commits that a repository has.
        fn found_in(&self, copy: &Repository) -> (Vec<usize>, Vec<usize>) {
            let blobs = copy.locate(&(0..COMMITS).map(blob_id).collect::<Vec<_>>()).unwrap();
            let odb = copy.objects().unwrap();
            (
                (0..COMMITS).filter(|number| blobs[*number].is_some()).collect(),
                (0..COMMITS).filter(|number| odb.exists(self.commits[*number])).collect(),
            )
        }
    }

    #[test]
    fn a_commit_without_its_history_keeps_its_tree() {
        let base = Base::new();
        base.repository.set_shallow(&base.commits.iter().copied().map(commit_id).collect()).unwrap();
        let copy = base.compacted();
        assert_eq!(base.found_in(&copy), (vec![0, COMMITS - 1], vec![COMMITS - 1]));
        assert_eq!(copy.shallow().unwrap(), [base.newest()].into(), "others are not there any more");
    }

    #[test]
    fn a_commit_with_its_history_keeps_everything() {
        let base = Base::new();
        let first = BTreeSet::from([commit_id(base.commits[0])]);
        base.repository.set_shallow(&first).unwrap();
        let copy = base.compacted();
        let all: Vec<_> = (0..COMMITS).collect();
        assert_eq!(base.found_in(&copy), (all.clone(), all));
        assert_eq!(copy.shallow().unwrap(), first);
    }

    #[test]
    fn what_narrow_fetches_brought_is_kept_beside_few_commits_or_none() {
        for whole in [0, 1] {
            let base = Base::new();
            let shallow: BTreeSet<_> = base.commits[..whole].iter().copied().map(commit_id).collect();
            base.repository.set_shallow(&shallow).unwrap();
            for commit in &base.commits[whole..] {
                let mut reference = base.repository.git().find_reference(&format!("refs/commits/{commit}")).unwrap();
                reference.delete().unwrap();
            }
            // A pack for each fetch.
            for number in 0..COMMITS {
                fs::write(base.repository.path().join(format!("objects/pack/pack-{number}.idx")), "").unwrap();
            }
            let newest = shallow.first().copied();
            assert_eq!(base.compact(&Cancel::new()).unwrap(), newest);
            fs::rename(base.place.path().join("base"), base.place.path().join("gone")).unwrap();
            let copy = Repository { git: git2::Repository::open_bare(base.place.path().join("copy")).unwrap() };
            let all: Vec<_> = (0..COMMITS).collect();
            assert_eq!(base.found_in(&copy), (all.clone(), all));
            assert_eq!((copy.offers().unwrap(), copy.shallow().unwrap()), (newest.into_iter().collect(), shallow));
        }
    }

    #[test]
    fn a_commit_that_is_dated_in_the_future_is_not_the_newest() {
        let base = Base::new();
        let future = commit(base.repository.git(), 9_999_999_999, None);
        base.repository.record([commit_id(future)]).unwrap();
        assert_eq!(base.repository.offers().unwrap().last(), Some(&commit_id(future)));
        assert_eq!(base.compact(&Cancel::new()).unwrap(), Some(base.newest()));
    }

    #[test]
    fn objects_of_git_lfs_stay_with_the_pointers_of_the_commit() {
        let base = Base::new();
        let path = base.place.path().join("base");
        let pointer_of = |number: u8| {
            format!(
                "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n",
                format!("{number:02x}").repeat(32)
            )
        };
        // The newest tree points to the first object, and nothing to the second one.
        let (mut known, mut blobs, mut segment) =
            (lfs::Known::default(), Vec::new(), SegmentWriter::create(&path.join(SEGMENTS)).unwrap());
        for content in [pointer_of(1).as_bytes(), b"1", b"2"] {
            let place = segment.begin().unwrap();
            segment.write_all(content).unwrap();
            let blob = Oid::hash_object(ObjectType::Blob, content).unwrap();
            blobs.push((blob, place, content.len() as u64));
        }
        segment.finish(blobs.iter().copied()).unwrap();
        for number in [1, 2_u8] {
            let (id, blob) = (lfs::ObjectId::from_bytes([number; 32]), blobs[usize::from(number)].0);
            known.add(&[lfs::Found { id, size: 1, blob }]);
        }
        known.write(&path).unwrap();
        let odb = base.repository.git().odb().unwrap();
        let tree = odb.write(ObjectType::Tree, &entry("100644", "a.bin", blobs[0].0)).unwrap();
        let who = "A <a@b> 1000 +0000";
        let text = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nm\n");
        let newest = commit_id(odb.write(ObjectType::Commit, text.as_bytes()).unwrap());
        base.repository.record([newest]).unwrap();
        base.repository.set_shallow(&[newest].into()).unwrap();

        assert_eq!(base.compact(&Cancel::new()).unwrap(), Some(newest));
        let copy = Repository { git: git2::Repository::open_bare(base.place.path().join("copy")).unwrap() };
        let found: Vec<_> = copy.locate(&blobs.iter().map(|(blob, ..)| *blob).collect::<Vec<_>>()).unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
        let known = lfs::Known::read(copy.path()).unwrap();
        let blob = |number: u8| known.blob(&lfs::ObjectId::from_bytes([number; 32]), 1);
        assert_eq!((blob(1), blob(2)), (Some(blobs[1].0), None));
    }

    #[test]
    fn damage_is_not_copied() {
        let base = Base::new();
        let segments = fs::read_dir(base.place.path().join("base").join(SEGMENTS)).unwrap();
        let paths = segments.map(|entry| entry.unwrap().path());
        let content = paths.into_iter().find(|path| path.extension().is_some_and(|end| end == "content")).unwrap();
        let mut bytes = fs::read(&content).unwrap();
        bytes[0] ^= 1;
        fs::write(content, bytes).unwrap();
        let error = base.compact(&Cancel::new()).unwrap_err();
        assert!(matches!(error, RemoteError::Local { full: false, .. }), "{error}");
    }

    #[test]
    fn it_ends_when_it_is_not_wanted() {
        let cancel = Cancel::new();
        cancel.cancel();
        let base = Base::new();
        assert_eq!(base.compact(&cancel).unwrap_err().kind(), Kind::Cancelled);
        // It also ends while it looks for pointers.
        let mut known = lfs::Known::default();
        known.add(&[lfs::Found { id: lfs::ObjectId::from_bytes([1; 32]), size: 1, blob: blob_id(0) }]);
        known.write(base.repository.path()).unwrap();
        let found = base.repository.objects_of(&[blob_id(0)].into(), &cancel);
        assert_eq!(found.unwrap_err().kind(), Kind::Cancelled);
    }
}

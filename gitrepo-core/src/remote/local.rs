//! A repository on this machine, read through libgit2: nothing is started to serve it.

use std::collections::HashSet;
use std::path::Path;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Odb;
use git2::OdbObject;
use git2::Oid;

use super::ConnectRequest;
use super::FetchRequest;
use super::RemoteError;
use super::Resolved;
use super::advertisement::Advertisement;
use super::git::Arrived;
use super::git::SinkError;
use super::git::receive;
use super::narrow::Way;
use super::repository::Repository;
use super::repository::commit_id;
use super::repository::oid;
use super::repository::refusal;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::error::chain;
use crate::object;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::pack::LONGEST_ABOVE;
use crate::pack::LONGEST_COMMIT;
use crate::pack::Outlet;
use crate::spec::CommitId;
use crate::spec::RelativePath;
use crate::spec::Revision;
use crate::sys;

mod pack;

use pack::Pack;
use pack::SourceError;

/// Most tags of tags that are followed.
const TAGS_FOLLOWED: usize = 16;

/// Why a working tree has no repository here.
const LINKED: &str = "its .git is a file, and its repository is elsewhere: write the URL of that one, which `git rev-parse \
                      --git-common-dir` tells";

/// Why objects may be missing.
const BORROWED: &str = "some of its objects are in another repository, which is not read (objects/info/alternates): \
                        `git repack -a -d` copies them";

/// A repository of a `file` URL.
pub(super) struct Local<'a> {
    request: &'a ConnectRequest,
}

impl<'a> Local<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self { request }
    }

    /// Returns the content of a commit.
    pub(super) fn prove(&self, commit: CommitId) -> Result<Vec<u8>, RemoteError> {
        let source = self.open()?;
        match self.header(&source, commit)? {
            (length, ObjectType::Commit) if length as u64 <= LONGEST_COMMIT => {
                let object = source.odb().and_then(|objects| Ok(objects.read(oid(commit))?.data().to_owned()));
                object.map_err(|error| self.failure(&error))
            }
            (_, ObjectType::Commit) => Err(RemoteError::CommitNotProven { url: self.url(), commit }),
            (_, kind) => {
                Err(RemoteError::NotACommit { url: self.url(), revision: commit.to_string(), object: kind.to_string() })
            }
        }
    }

    /// Returns the content of an annotated tag.
    pub(super) fn tag(&self, tag: CommitId) -> Result<Vec<u8>, RemoteError> {
        let source = self.open()?;
        match self.header(&source, tag)? {
            (length, ObjectType::Tag) if length as u64 <= LONGEST_COMMIT => {
                let object = source.odb().and_then(|objects| Ok(objects.read(oid(tag))?.data().to_owned()));
                object.map_err(|error| self.failure(&error))
            }
            _ => {
                let source = Cause::new(format_args!("{tag} is no tag, or a very long one"));
                Err(RemoteError::Protocol { url: self.url(), source })
            }
        }
    }

    /// Looks where `revision`, which is not a commit's id, stands.
    pub(super) fn resolve(&self, revision: &Revision) -> Result<Resolved, RemoteError> {
        let refs = self.refs(&self.open()?).map_err(|error| self.failure(&error))?;
        refs.resolve(revision).ok_or_else(|| refs.missing(revision, &self.request.errand.url))
    }

    /// Hands over what is missing of the commit and its history in `repository`.
    pub(super) fn bring(
        &self,
        request: &FetchRequest,
        repository: &Repository,
        outlet: &mut Outlet,
    ) -> Result<Arrived, RemoteError> {
        let commit = request.resolved.commit;
        let source = self.open()?;
        let failed = |error: git2::Error| self.failure(&error);
        self.header(&source, commit)?;
        let (from, to) = (source.odb().map_err(failed)?, repository.objects()?);
        let cancel = &self.request.watch.cancel;
        let mut missing = Missing::new(&from, &to, cancel);
        missing.is_shallow = source.is_shallow();
        missing.borrows = self.borrows();
        let way = match &request.narrow {
            Some(directory) => missing.way(oid(commit), directory).map_err(|error| self.unreadable(error))?,
            None => None,
        };
        let boundary = match &way {
            Some(way) => way.tree.map_or(Ok(()), |tree| missing.tree(tree)).map(|()| Vec::new()),
            None => missing.history(oid(commit), request.depth),
        };
        let boundary = boundary.map_err(|error| self.unreadable(error))?;
        let objects = source.commondir().join("objects");
        let there = repository.locate(&missing.blobs)?;
        let blobs = missing.blobs.iter().zip(there).filter(|(_, there)| there.is_none()).map(|(id, _)| *id).collect();
        let ids = [missing.commits, missing.trees, blobs].concat();
        let mut pack = Pack::new(&from, &objects, &ids, cancel);
        let mut arrived = receive(&mut pack, repository, outlet, self.request).map_err(|error| match error {
            SinkError::Stream(error) => self.unreadable(error.into()),
            SinkError::Remote(error) => error,
        })?;
        for (kind, content) in way.iter().flat_map(|way| &way.objects) {
            let handed_over = outlet.hand_over_above(*kind, content);
            handed_over.map_err(|error| refusal(error, &self.url(), repository.path(), false))?;
            arrived.bytes += content.len() as u64;
            arrived.objects += 1;
        }
        let mut shallow = repository.shallow()?;
        shallow.retain(|commit| !missing.seen.contains(&oid(*commit)));
        shallow.extend(boundary.into_iter().map(commit_id));
        repository.set_shallow(&shallow)?;
        Ok(arrived)
    }

    fn open(&self) -> Result<git2::Repository, RemoteError> {
        sys::git::isolate().map_err(|error| RemoteError::Library { source: Cause::new(error.message()) })?;
        let opened = git2::Repository::open(self.path());
        opened.map_err(|error| match error.code() {
            ErrorCode::NotFound => {
                let reason = if self.is_linked() { LINKED } else { error.message() };
                RemoteError::RepositoryNotFound { url: self.url(), source: Some(Cause::new(reason)) }
            }
            _ => self.failure(&error),
        })
    }

    /// The length and the type of an object.
    fn header(&self, source: &git2::Repository, id: CommitId) -> Result<(usize, ObjectType), RemoteError> {
        match source.odb().and_then(|objects| objects.read_header(oid(id))) {
            Ok(header) => Ok(header),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let source = self.borrows().then(|| Cause::new(BORROWED));
                Err(RemoteError::CommitNotFound { url: self.url(), commit: id, source })
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn refs(&self, source: &git2::Repository) -> Result<Advertisement, git2::Error> {
        let objects = source.odb()?;
        let mut refs = Advertisement::default();
        let mut add = |name: &[u8], target: Oid, symref: Option<&[u8]>| {
            let peeled = peel(&objects, target).map(commit_id);
            refs.add(name, commit_id(target), peeled, symref).map_err(|error| git2::Error::from_str(&error.to_string()))
        };
        let head = source.find_reference("HEAD")?;
        if let Ok(target) = head.resolve().and_then(|head| head.target().ok_or_else(|| git2::Error::from_str("none"))) {
            add(b"HEAD", target, head.symbolic_target_bytes())?;
        }
        for reference in source.references()? {
            let reference = reference?;
            if let Some(target) = reference.resolve().ok().and_then(|reference| reference.target()) {
                add(reference.name_bytes(), target, None)?;
            }
        }
        if let Some(target) = head.symbolic_target_bytes() {
            refs.set_default_branch(target);
        }
        Ok(refs)
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    fn failure(&self, error: &git2::Error) -> RemoteError {
        RemoteError::Protocol { url: self.url(), source: Cause::new(error.message()) }
    }

    /// An object of this repository cannot be read, or is no longer wanted.
    fn unreadable(&self, error: SourceError) -> RemoteError {
        let url = self.url();
        match error {
            SourceError::Interrupted(source) => RemoteError::Interrupted { url, source },
            error if error.is_out_of_memory() => RemoteError::OutOfMemory { url },
            error if self.borrows() => {
                RemoteError::Protocol { url, source: Cause::new(format_args!("{}: {BORROWED}", chain(&error))) }
            }
            error => RemoteError::Protocol { url, source: Cause::new(chain(&error)) },
        }
    }

    /// Whether this is a working tree, or a submodule's, whose repository is elsewhere (gitrepository-layout(5)).
    fn is_linked(&self) -> bool {
        self.path().join(".git").is_file()
    }

    /// Whether it has objects from other repositories, as after `git clone --shared`.
    fn borrows(&self) -> bool {
        ["objects", ".git/objects"].iter().any(|objects| self.path().join(objects).join("info/alternates").exists())
    }

    fn path(&self) -> &Path {
        Path::new(self.request.errand.url.path())
    }
}

/// The object that an annotated tag leads to.
fn peel(objects: &Odb<'_>, target: Oid) -> Option<Oid> {
    let mut id = target;
    // On a damaged disk a tag may name itself.
    for _ in 0..TAGS_FOLLOWED {
        match objects.read(id).ok()? {
            tag if tag.kind() == ObjectType::Tag => id = object::target_of(tag.data())?.0,
            _ => return (id != target).then_some(id),
        }
    }
    None
}

/// What one repository has and another has not.
struct Missing<'a> {
    from: &'a Odb<'a>,
    to: &'a Odb<'a>,
    cancel: &'a Cancel,
    /// Whether parents of commits may be missing here.
    is_shallow: bool,
    /// Whether what is missing here is in another repository.
    borrows: bool,
    seen: HashSet<Oid>,
    /// Commits, and an object that was asked for in place of one.
    commits: Vec<Oid>,
    trees: Vec<Oid>,
    blobs: Vec<Oid>,
}

impl<'a> Missing<'a> {
    fn new(from: &'a Odb<'a>, to: &'a Odb<'a>, cancel: &'a Cancel) -> Self {
        let (commits, trees, blobs) = (Vec::new(), Vec::new(), Vec::new());
        Self { from, to, cancel, is_shallow: false, borrows: false, seen: HashSet::new(), commits, trees, blobs }
    }

    /// Collects `depth` commits of history with their trees, all of it if that is 0. Returns the commits whose parents
    /// are left out.
    fn history(&mut self, commit: Oid, depth: u32) -> Result<Vec<Oid>, SourceError> {
        let mut boundary = Vec::new();
        let mut generation = vec![commit];
        let mut level = 0;
        while !generation.is_empty() {
            level += 1;
            let mut parents = Vec::new();
            for commit in generation {
                if !self.seen.insert(commit) {
                    continue;
                }
                // What is not a commit is packed as it is: whoever asked for it is told what it is.
                if !self.to.exists(commit) {
                    self.commits.push(commit);
                }
                let found = self.read(commit)?;
                if found.kind() != ObjectType::Commit {
                    continue;
                }
                if let Some(tree) = object::tree_of(found.data()) {
                    self.tree(tree)?;
                }
                let before = object::parents_of(found.data());
                let all = before.len();
                let is_there = |parent: &Oid| !self.is_shallow || self.from.exists(*parent);
                let there: Vec<_> = before.into_iter().filter(is_there).collect();
                if (level == depth && all > 0) || there.len() < all {
                    boundary.push(commit);
                }
                if level != depth {
                    parents.extend(there);
                }
            }
            generation = parents;
        }
        Ok(boundary)
    }

    /// Goes from a commit to a directory. Returns `None` if what is on the way is too large to be passed on, or no commit
    /// or tree: a fetch of the whole commit tells.
    fn way(&self, commit: Oid, directory: &RelativePath) -> Result<Option<Way>, SourceError> {
        let mut left = LONGEST_ABOVE;
        let mut read = |id, kind| -> Result<Option<Vec<u8>>, SourceError> {
            let object = self.read(id)?;
            let length = object.len() as u64;
            let is_good = object.kind() == kind && length <= left;
            left = left.saturating_sub(length);
            Ok(is_good.then(|| object.data().to_vec()))
        };
        match read(commit, ObjectType::Commit)? {
            Some(commit) => Way::find(commit, directory, |tree| read(tree, ObjectType::Tree)),
            None => Ok(None),
        }
    }

    /// Collects a tree with everything below it.
    fn tree(&mut self, root: Oid) -> Result<(), SourceError> {
        let mut trees = vec![root];
        while let Some(tree) = trees.pop() {
            if !self.seen.insert(tree) {
                continue;
            }
            if !self.to.exists(tree) {
                self.trees.push(tree);
            }
            for entry in TreeObject(self.read(tree)?.data()).flatten() {
                match entry.mode() {
                    None => trees.push(entry.id),
                    Some(EntryMode::Submodule) => {}
                    Some(_) => self.blob(entry.id)?,
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, id: Oid) -> Result<(), SourceError> {
        if self.seen.insert(id) {
            match self.from.exists(id) {
                true => self.blobs.push(id),
                false if self.borrows => drop(self.read(id)?),
                // The listing of the tree tells.
                false => {}
            }
        }
        Ok(())
    }

    fn read(&self, id: Oid) -> Result<OdbObject<'a>, SourceError> {
        self.cancel.check()?;
        self.from.read(id).map_err(|source| SourceError::Object { id, source })
    }
}

#[cfg(test)]
mod tests {
    use git2::Signature;
    use git2::Time;

    use super::*;

    #[test]
    fn a_submodule_that_is_in_the_history_too_hides_nothing_of_it() {
        let place = tempfile::tempdir().unwrap();
        let git = git2::Repository::init_bare(place.path().join("from")).unwrap();
        let empty = git2::Repository::init_bare(place.path().join("to")).unwrap();
        let author = Signature::new("A", "a@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        let tree = |name: &str, id, mode| {
            let mut tree = git.treebuilder(None).unwrap();
            tree.insert(name, id, mode).unwrap();
            git.find_tree(tree.write().unwrap()).unwrap()
        };
        let blob = git.blob(b"content").unwrap();
        let first = tree("file", blob, 0o100_644);
        let parent = git.commit(None, &author, &author, "m", &first, &[]).unwrap();
        let second = tree("module", parent, 0o160_000);
        let parents = [&git.find_commit(parent).unwrap()];
        let commit = git.commit(None, &author, &author, "m", &second, &parents).unwrap();

        let (from, to, cancel) = (git.odb().unwrap(), empty.odb().unwrap(), Cancel::new());
        let mut missing = Missing::new(&from, &to, &cancel);
        assert_eq!(missing.history(commit, 0).unwrap(), []);
        assert_eq!((missing.commits, missing.trees), (vec![commit, parent], vec![second.id(), first.id()]));
        assert_eq!(missing.blobs, [blob]);
        cancel.cancel();
        let mut missing = Missing::new(&from, &to, &cancel);
        assert!(matches!(missing.history(commit, 0), Err(SourceError::Interrupted(_))));
    }
}

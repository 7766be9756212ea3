//! A repository on this machine, read through libgit2: nothing is started to serve it.

use std::collections::HashSet;
use std::path::Path;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Odb;
use git2::Oid;

use super::ConnectRequest;
use super::FetchRequest;
use super::RemoteError;
use super::Resolved;
use super::advertisement::Advertisement;
use super::git::Arrived;
use super::git::SinkError;
use super::git::receive;
use super::repository::Repository;
use super::repository::commit_id;
use super::repository::oid;
use crate::error::Cause;
use crate::object;
use crate::object::TreeObject;
use crate::spec::Revision;
use crate::sys;

/// Most tags of tags that are followed.
const TAGS_FOLLOWED: usize = 16;

/// A repository of a `file` URL.
pub(super) struct Local<'a> {
    request: &'a ConnectRequest,
}

impl<'a> Local<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self { request }
    }

    /// Looks where `revision` stands.
    pub(super) fn resolve(&self, revision: &Revision) -> Result<Resolved, RemoteError> {
        let refs = self.refs(&self.open()?).map_err(|error| self.failure(&error))?;
        refs.resolve(revision).ok_or_else(|| refs.missing(revision, &self.request.errand.url))
    }

    /// Copies what is missing of the commit and its history.
    pub(super) fn bring(&self, request: &FetchRequest, repository: &Repository) -> Result<Arrived, RemoteError> {
        let commit = request.resolved.commit;
        let source = self.open()?;
        let failed = |error: git2::Error| self.failure(&error);
        let (from, to) = (source.odb().map_err(failed)?, repository.objects()?);
        if !from.exists(oid(commit)) {
            return Err(RemoteError::CommitNotFound { url: self.url(), commit, source: None });
        }
        let mut missing =
            Missing { from: &from, to: &to, pack: source.packbuilder().map_err(failed)?, seen: HashSet::new() };
        let boundary = missing.history(oid(commit), request.depth, &|| self.check_wanted());
        let boundary = boundary.map_err(|error| match self.check_wanted() {
            Ok(()) => self.failure(&error),
            Err(interrupted) => interrupted,
        })?;
        let mut pack = git2::Buf::new();
        missing.pack.write_buf(&mut pack).map_err(failed)?;
        let arrived = receive(&mut &pack[..], repository, self.request).map_err(|error| match error {
            SinkError::Remote(error) => error,
            SinkError::Stream(source) => RemoteError::Protocol { url: self.url(), source: Cause::new(source) },
        })?;
        let mut shallow = repository.shallow()?;
        shallow.retain(|commit| !missing.seen.contains(&oid(*commit)));
        shallow.extend(boundary.into_iter().map(commit_id));
        repository.set_shallow(&shallow)?;
        Ok(arrived)
    }

    fn open(&self) -> Result<git2::Repository, RemoteError> {
        sys::git::isolate().map_err(|error| RemoteError::Library { source: Cause::new(error.message()) })?;
        let opened = git2::Repository::open(Path::new(self.request.errand.url.path()));
        opened.map_err(|error| match error.code() {
            ErrorCode::NotFound => {
                let source = Some(Cause::new(error.message()));
                RemoteError::RepositoryNotFound { url: self.url(), source }
            }
            _ => self.failure(&error),
        })
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

    fn check_wanted(&self) -> Result<(), RemoteError> {
        let cancel = &self.request.watch.cancel;
        cancel.check().map_err(|source| RemoteError::Interrupted { url: self.url(), source })
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    fn failure(&self, error: &git2::Error) -> RemoteError {
        RemoteError::Protocol { url: self.url(), source: Cause::new(error.message()) }
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
    pack: git2::PackBuilder<'a>,
    seen: HashSet<Oid>,
}

impl Missing<'_> {
    /// Packs `depth` commits of history with their trees, all of it if that is 0. Returns the commits whose parents are
    /// left out.
    fn history(
        &mut self,
        commit: Oid,
        depth: u32,
        check_wanted: &dyn Fn() -> Result<(), RemoteError>,
    ) -> Result<Vec<Oid>, git2::Error> {
        let mut boundary = Vec::new();
        let mut generation = vec![commit];
        let mut level = 0;
        while !generation.is_empty() {
            level += 1;
            let mut parents = Vec::new();
            for commit in generation {
                check_wanted().map_err(|error| git2::Error::from_str(&error.to_string()))?;
                if !self.seen.insert(commit) {
                    continue;
                }
                // What is not a commit is packed as it is: whoever asked for it is told what it is.
                let found = self.from.read(commit)?;
                if !self.to.exists(commit) {
                    self.pack.insert_object(commit, None)?;
                }
                if found.kind() != ObjectType::Commit {
                    continue;
                }
                if let Some(tree) = object::tree_of(found.data()) {
                    self.tree(tree)?;
                }
                let before = object::parents_of(found.data());
                let all = before.len();
                let there: Vec<_> = before.into_iter().filter(|parent| self.from.exists(*parent)).collect();
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

    /// Packs a tree with everything below it.
    fn tree(&mut self, root: Oid) -> Result<(), git2::Error> {
        let mut trees = vec![root];
        while let Some(tree) = trees.pop() {
            if !self.add(tree)? {
                continue;
            }
            let object = self.from.read(tree)?;
            for entry in TreeObject(object.data()).flatten() {
                if entry.is_tree() {
                    trees.push(entry.id);
                } else if self.from.exists(entry.id) {
                    self.add(entry.id)?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether the object was not met before.
    fn add(&mut self, id: Oid) -> Result<bool, git2::Error> {
        let is_new = self.seen.insert(id);
        if is_new && !self.to.exists(id) {
            self.pack.insert_object(id, None)?;
        }
        Ok(is_new)
    }
}

//! Keeps what a fetch brings, and checks it. Knows no remote: whoever receives the objects has no say in what they are.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::panic;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use git2::ErrorCode;
use git2::ObjectType;
use git2::Odb;
use git2::OdbLookupFlags;
use git2::Oid;

use super::Found;
use super::Repository;
use super::commit_id;
use super::oid;
use super::unusable;
use super::unusable_io;
use crate::error::Cause;
use crate::lfs;
use crate::object;
use crate::pack;
use crate::pack::Above;
use crate::pack::Inlet;
use crate::pack::Named;
use crate::pack::Outlet;
use crate::pack::PackError;
use crate::pack::Places;
use crate::remote::Errand;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::remote::narrow::Way;
use crate::spec::CommitId;
use crate::spec::RelativePath;

#[cfg(test)]
mod tests;

/// Makes the repository of a fetch out of the objects that another process or thread received.
pub(crate) struct Verifier {
    url: String,
    path: PathBuf,
    base: Option<PathBuf>,
    limit: u64,
    repository: Option<Repository>,
    named: Named,
    /// Whether the last fetch brought no more than a directory.
    is_narrow: bool,
}

impl Verifier {
    /// For an errand with a staging directory. Nothing is written yet.
    pub(crate) fn new(errand: &Errand) -> Result<Self, RemoteError> {
        let path = errand.repository().ok_or_else(|| RemoteError::Local {
            path: "(none)".into(),
            full: false,
            source: Cause::new("this conversation was begun without a directory to fetch into"),
        })?;
        let (url, base, limit) = (errand.url.to_string(), errand.base.clone(), content_limit(errand));
        Ok(Self { url, path, base, limit, repository: None, named: Named::default(), is_narrow: false })
    }

    /// Makes the repository on top of the base, for the objects of a commit.
    ///
    /// # Errors
    ///
    /// There is one that another fetch made.
    pub(crate) fn begin(&mut self) -> Result<(), RemoteError> {
        if self.repository.is_none() {
            self.repository = Some(Repository::create(&self.path, self.base.as_deref())?);
        }
        Ok(())
    }

    /// The repository, perhaps that of an earlier session of this fetch, or made on top of the base by the first call.
    pub(crate) fn repository(&mut self) -> Result<&Repository, RemoteError> {
        let repository = match self.repository.take() {
            Some(repository) => repository,
            None => Repository::open_or_create(&self.path, self.base.as_deref())?,
        };
        Ok(self.repository.insert(repository))
    }

    /// Keeps the objects of one fetch, from another process. Waits until it has begun to send.
    pub(crate) fn take(&mut self, inlet: &mut Inlet) -> Result<(), RemoteError> {
        inlet.wait().map_err(|error| self.refusal(error))?;
        self.begin()?;
        let places = self.places()?;
        pack::keep(inlet, &places, &mut self.named).map_err(|error| self.refusal(error))
    }

    /// Keeps the wanted objects of Git LFS that another process downloads, and notes which ones are here. Returns these.
    pub(crate) fn take_objects(
        &mut self,
        inlet: &mut Inlet,
        wanted: &[lfs::Object],
    ) -> Result<Vec<lfs::ObjectId>, RemoteError> {
        inlet.wait().map_err(|error| self.refusal(error))?;
        let (places, path) = (self.places()?, self.repository()?.path().to_owned());
        pack::keep_objects(inlet, &places, wanted, |found| note(&path, found)).map_err(|error| self.refusal(error))
    }

    /// Keeps the objects that `receive` hands over in this process, in a second thread.
    pub(crate) fn take_beside<T>(
        &mut self,
        receive: impl FnOnce(&mut Outlet) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let mut named = std::mem::take(&mut self.named);
        let (received, kept) = self.beside(receive, |inlet, places| pack::keep(inlet, places, &mut named))?;
        self.named = named;
        // Why the other half ended.
        if let (Ok(_) | Err(RemoteError::HandOver { .. }), Err(error)) = (&received, kept) {
            return Err(self.refusal(error));
        }
        received
    }

    /// Like [`take_beside`](Self::take_beside), for the wanted objects of Git LFS. Those that came before a failure are kept.
    /// Also returns which ones are here.
    pub(crate) fn take_objects_beside<T>(
        &mut self,
        wanted: &[lfs::Object],
        receive: impl FnOnce(&mut Outlet) -> Result<T, RemoteError>,
    ) -> Result<(T, Vec<lfs::ObjectId>), RemoteError> {
        let path = self.repository()?.path().to_owned();
        let keep =
            |inlet: &mut Inlet, places: &Places| pack::keep_objects(inlet, places, wanted, |found| note(&path, found));
        match self.beside(receive, keep)? {
            (Ok(received), Ok(here)) => Ok((received, here)),
            (Ok(_) | Err(RemoteError::HandOver { .. }), Err(error)) => Err(self.refusal(error)),
            (Err(error), _) => Err(error),
        }
    }

    /// Runs both halves of a stream in this process.
    fn beside<T, K: Send>(
        &mut self,
        receive: impl FnOnce(&mut Outlet) -> T,
        keep: impl FnOnce(&mut Inlet, &Places) -> K + Send,
    ) -> Result<(T, K), RemoteError> {
        let places = self.places()?;
        let opened = pack::pipes(places.clone()).map_err(PackError::HandOver);
        let (mut outlet, mut inlet) = opened.map_err(|error| self.refusal(error))?;
        Ok(thread::scope(|scope| {
            let keeper = scope.spawn(move || keep(&mut inlet, &places));
            let received = receive(&mut outlet);
            drop(outlet);
            (received, keeper.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
        }))
    }

    /// Checks that the commit is here with its whole tree, and that every commit and tree that came has all that it
    /// names. Then writes down what is here: [`Repository::holds`] reads it, and the next fetch builds on it. After a
    /// narrow fetch, one directory must be here, and nothing is written down. Returns whether it was one.
    ///
    /// After a failure, what came is checked again with the next fetch.
    pub(crate) fn check(&mut self, request: &FetchRequest) -> Result<bool, RemoteError> {
        let commit = request.resolved.commit;
        let (url, has_base) = (self.url.clone(), self.base.is_some());
        if self.is_narrow {
            // What is above the directory would count as here.
            let source = Cause::new("nothing can be fetched after a directory");
            return Err(RemoteError::Local { path: self.path.clone(), full: false, source });
        }
        let repository = &self.repository()?.anew()?;
        let named = &self.named;
        let is_above = named.above.get(ObjectType::Commit, oid(commit)).is_some();
        // That it is here says nothing about the remote.
        if request.proves && !is_above && !named.commits.contains(&oid(commit)) {
            return Err(RemoteError::CommitNotProven { url, commit });
        }
        let narrow = request.narrow.as_ref().filter(|_| !named.above.is_empty());
        // A tree counts, too: a later commit may lead to it.
        if narrow.is_none() && named.is_empty() && repository.holds(commit) {
            return Ok(false);
        }
        let incomplete = |what: &dyn fmt::Display| match has_base {
            // The base may have lost it. The same fetch without the base brings it again.
            true => unusable_io(repository.path(), &io::Error::other(format!("{what} is missing"))),
            false => {
                RemoteError::BadData { url: url.clone(), source: Cause::new(format_args!("it did not send {what}")) }
            }
        };
        let way = match narrow {
            Some(directory) => {
                let way = repository.way(&named.above, commit, directory)?;
                Some(way.ok_or_else(|| incomplete(&format_args!("what leads from {commit} to {directory}")))?)
            }
            None => check_commit(repository, &request.resolved, &url, has_base).map(|()| None)?,
        };
        let (trees, blobs) = match &way {
            Some(way) => (way.tree.into_iter().collect(), HashSet::new()),
            None if named.commits.contains(&oid(commit)) => Default::default(),
            // It came with an earlier fetch that wanted another commit.
            None => repository.tree(commit)?,
        };
        let missing = repository.missing(trees.iter().chain(&named.trees), blobs.iter().chain(&named.blobs))?;
        if let Some(id) = missing {
            return Err(incomplete(&id));
        }
        if !named.commits.is_empty() {
            let base = self.base.as_deref().map(Repository::open).transpose()?;
            repository.set_shallow(&repository.boundary(named, base.as_ref())?)?;
        }
        match &way {
            Some(way) => repository.write_above(way)?,
            None => repository.record([commit])?,
        }
        self.is_narrow = way.is_some();
        self.named = Named::default();
        Ok(self.is_narrow)
    }

    fn places(&mut self) -> Result<Places, RemoteError> {
        let limit = self.limit;
        Ok(self.repository()?.places(limit))
    }

    fn refusal(&self, error: PackError) -> RemoteError {
        refusal(error, &self.url, &self.path, self.base.is_some())
    }
}

/// Notes that the repository at `path` has these objects of Git LFS.
fn note(path: &Path, found: &[lfs::Found]) -> io::Result<()> {
    let mut known = lfs::Known::read(path)?;
    known.add(found);
    known.write(path)
}

/// Most bytes of content that a fetch may bring.
pub(crate) fn content_limit(errand: &Errand) -> u64 {
    errand.limits.fetch_bytes.max(errand.limits.tree_bytes)
}

/// The meaning of a pack that was not kept.
pub(crate) fn refusal(error: PackError, url: &str, repository: &Path, has_base: bool) -> RemoteError {
    let url = url.to_owned();
    match error {
        PackError::Disk(error) => unusable_io(repository, &error),
        // A base that lost an object: the same fetch without it brings the object again.
        error @ PackError::MissingBase(_) if has_base => unusable_io(repository, &io::Error::other(error)),
        PackError::TooLarge(limit) => RemoteError::ContentTooLarge { url, limit },
        PackError::OutOfMemory => RemoteError::OutOfMemory { url },
        PackError::TooMany(_) => RemoteError::TooManyObjects { url, limit: pack::MOST_OBJECTS.into() },
        PackError::HandOver(error) => RemoteError::HandOver { url, source: Cause::new(error) },
        error @ (PackError::Object { .. } | PackError::MissingBase(_) | PackError::Collision(_)) => {
            RemoteError::BadData { url, source: Cause::new(error) }
        }
        error => RemoteError::Protocol { url, source: Cause::new(error) },
    }
}

/// Checks what is in the repository, not what the server claimed.
fn check_commit(repository: &Repository, resolved: &Resolved, url: &str, has_base: bool) -> Result<(), RemoteError> {
    let (url, commit) = (url.to_owned(), resolved.commit);
    let not_a_commit = |object: String| {
        let revision = resolved.reference.clone().unwrap_or_else(|| commit.to_string());
        Err(RemoteError::NotACommit { url: url.clone(), revision, object })
    };
    match repository.peel(commit)? {
        Found::Commit(found) if found == commit => Ok(()),
        // Requested by its id, the object is exactly that: an annotated tag.
        Found::Commit(_) => not_a_commit("tag".to_owned()),
        Found::Other(kind) => not_a_commit(kind.to_string()),
        // The base may have lost it.
        Found::Nothing if has_base => {
            let missing = io::Error::other(format!("commit {commit} is missing, or its tree"));
            Err(unusable_io(repository.path(), &missing))
        }
        Found::Nothing if resolved.reference.is_none() => {
            Err(RemoteError::CommitNotFound { url, commit, source: None })
        }
        Found::Nothing => {
            let source = Cause::new(format_args!("it did not send {commit} with its tree"));
            Err(RemoteError::BadData { url, source })
        }
    }
}

impl Repository {
    /// Finds one of these trees and blobs that is not here.
    fn missing<'a>(
        &self,
        trees: impl Iterator<Item = &'a Oid>,
        blobs: impl Iterator<Item = &'a Oid>,
    ) -> Result<Option<Oid>, RemoteError> {
        let objects = self.objects()?;
        for tree in trees {
            if !is_here(&objects, *tree) {
                return Ok(Some(*tree));
            }
        }
        let blobs: Vec<Oid> = blobs.copied().collect();
        let there = self.locate(&blobs)?;
        Ok(blobs.into_iter().zip(there).find_map(|(id, there)| there.is_none().then_some(id)))
    }

    /// Goes from a commit to a directory, by what came for that and by what is here.
    fn way(&self, above: &Above, commit: CommitId, directory: &RelativePath) -> Result<Option<Way>, RemoteError> {
        let objects = self.objects()?;
        let read = |kind, id| match above.get(kind, id) {
            Some(content) => Ok(Some(content.to_vec())),
            None if !is_here(&objects, id) => Ok(None),
            None => {
                let object = objects.read(id).map_err(|error| unusable(self.path(), &error))?;
                Ok((object.kind() == kind).then(|| object.data().to_vec()))
            }
        };
        match read(ObjectType::Commit, oid(commit))? {
            Some(commit) => Way::find(commit, directory, |tree| read(ObjectType::Tree, tree)),
            None => Ok(None),
        }
    }

    /// Makes what is above a directory readable for the listing: as loose objects, of which the store takes none.
    fn write_above(&self, way: &Way) -> Result<(), RemoteError> {
        let objects = self.objects()?;
        for (kind, content) in &way.objects {
            objects.write(*kind, content).map_err(|error| unusable(self.path(), &error))?;
        }
        Ok(())
    }

    /// The commits at which the history is cut: those whose parents are not here, and new ones as the server told. Its
    /// word does not cut the history of a commit that the base has: others build on that.
    fn boundary(&self, named: &Named, base: Option<&Self>) -> Result<BTreeSet<CommitId>, RemoteError> {
        let objects = self.objects()?;
        let of_the_base = base.map(Self::objects).transpose()?;
        let is_new =
            |id: Oid| named.commits.contains(&id) && !of_the_base.as_ref().is_some_and(|base| is_here(base, id));
        let mut boundary: BTreeSet<CommitId> =
            named.boundary.iter().copied().filter(|id| is_new(*id)).map(commit_id).collect();
        for id in named.boundary.iter().copied().chain(self.shallow()?.into_iter().map(oid)) {
            let parents = self.parents(&objects, id)?.unwrap_or_default();
            if parents.iter().any(|parent| !is_here(&objects, *parent)) {
                boundary.insert(commit_id(id));
            }
        }
        let cut = named.parents.iter().filter(|(_, parent)| !is_here(&objects, *parent));
        boundary.extend(cut.map(|(commit, _)| commit_id(*commit)));
        Ok(boundary)
    }

    /// The parents of a commit; `None` if it is not here.
    fn parents(&self, objects: &Odb<'_>, id: Oid) -> Result<Option<Vec<Oid>>, RemoteError> {
        if !is_here(objects, id) {
            return Ok(None);
        }
        match objects.read(id) {
            Ok(found) if found.kind() == ObjectType::Commit => Ok(Some(object::parents_of(found.data()))),
            Ok(_) => Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(unusable(self.path(), &error)),
        }
    }
}

/// Whether a commit or tree is here. Otherwise libgit2 looks for new packs after each one that is missing.
fn is_here(objects: &Odb<'_>, id: Oid) -> bool {
    objects.exists_ext(id, OdbLookupFlags::NO_REFRESH)
}

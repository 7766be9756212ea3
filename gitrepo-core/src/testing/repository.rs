//! A repository on a [`FakeRemote`](super::FakeRemote): in memory, or one that is on disk.

#![expect(clippy::expect_used, reason = "a repository that a test cannot make fails the test")]

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use git2::ObjectType;
use git2::Odb;
use git2::Oid;
use git2::Signature;
use git2::Time;
use git2::TreeWalkMode;
use git2::TreeWalkResult;

use crate::remote::advertisement::Advertisement;
use crate::remote::repository::Repository;
use crate::remote::repository::commit_id;
use crate::remote::repository::oid;
use crate::spec::CommitId;

const MAIN: &str = "refs/heads/main";

/// A repository that a test fills. Clones share it.
#[derive(Clone)]
pub struct FakeRepository(Arc<Mutex<Content>>);

struct Content {
    objects: git2::Repository,
    /// Of a repository in memory; those of one on disk are read from there.
    refs: Option<Refs>,
    serves_any_commit: bool,
    commits: i64,
}

#[derive(Default)]
struct Refs {
    targets: BTreeMap<String, Oid>,
    head: Option<String>,
}

/// A pack for a client.
pub(super) struct Pack {
    pub(super) bytes: Vec<u8>,
    pub(super) objects: u64,
    /// Commits whose parents are not sent.
    pub(super) boundary: Vec<Oid>,
}

impl Default for FakeRepository {
    /// An empty repository in memory, whose HEAD is `refs/heads/main`.
    fn default() -> Self {
        let odb = Odb::new().expect("an object database");
        odb.add_new_mempack_backend(1).expect("an object database in memory");
        let objects = git2::Repository::from_odb(odb).expect("a repository in memory");
        let refs = Refs { head: Some(MAIN.to_owned()), ..Refs::default() };
        Self(Arc::new(Mutex::new(Content { objects, refs: Some(refs), serves_any_commit: true, commits: 0 })))
    }
}

impl fmt::Debug for FakeRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeRepository")
    }
}

impl FakeRepository {
    /// The repository in `directory`, which another program may change. It gives out any commit by its id if its
    /// `uploadpack.allowAnySHA1InWant` says so.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn open(directory: &Path) -> Self {
        let objects = git2::Repository::open(directory).expect("a repository in the directory");
        let config = objects.config().and_then(|config| config.get_bool("uploadpack.allowanysha1inwant"));
        let serves_any_commit = config.unwrap_or(false);
        Self(Arc::new(Mutex::new(Content { objects, refs: None, serves_any_commit, commits: 0 })))
    }

    /// Commits exactly these files to a branch of a repository in memory. A path may have slashes.
    ///
    /// # Panics
    ///
    /// If a path is not a valid one.
    pub fn commit(&self, branch: &str, files: &[(&str, &[u8])]) -> CommitId {
        let mut content = self.content();
        content.commits += 1;
        let tree = tree(&content.objects, files);
        let name = format!("refs/heads/{branch}");
        let parent = content.refs().targets.get(&name).copied();
        let made = content.commit(tree, parent);
        content.refs().targets.insert(name, made);
        commit_id(made)
    }

    /// Makes a ref, such as `refs/tags/v1`, of a repository in memory point at a commit.
    pub fn set_ref(&self, name: &str, target: CommitId) {
        self.content().refs().targets.insert(name.to_owned(), oid(target));
    }

    /// Makes an annotated tag of a commit in a repository in memory.
    ///
    /// # Panics
    ///
    /// If there is no such commit.
    pub fn annotated_tag(&self, name: &str, target: CommitId) {
        let mut content = self.content();
        let object = content.objects.find_object(oid(target), None).expect("the tag's target");
        let tag = content.objects.tag_annotation_create(name, &object, &author(0), "a tag").expect("a tag");
        drop(object);
        content.refs().targets.insert(format!("refs/tags/{name}"), tag);
    }

    /// The branch that HEAD of a repository in memory names.
    pub fn set_head(&self, branch: &str) {
        self.content().refs().head = Some(format!("refs/heads/{branch}"));
    }

    /// Whether the repository gives out commits that no ref leads to, and commits by their id.
    pub fn serve_any_commit(&self, serve: bool) {
        self.content().serves_any_commit = serve;
    }

    pub(super) fn serves_any_commit(&self) -> bool {
        self.content().serves_any_commit
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client is told on connecting.
    pub(super) fn advertisement(&self) -> Result<Advertisement, git2::Error> {
        let content = self.content();
        let from_disk = if content.refs.is_none() { Some(refs_of(&content.objects)?) } else { None };
        let Refs { targets, head } = content.refs.as_ref().or(from_disk.as_ref()).expect("refs");
        let mut told = Advertisement::default();
        if let Some((branch, target)) = head.as_ref().and_then(|name| targets.get_key_value(name)) {
            add(&mut told, "HEAD", *target, None, Some(branch))?;
        }
        for (name, target) in targets {
            let peeled = match content.objects.find_tag(*target) {
                Ok(tag) => Some(tag.into_object().peel(ObjectType::Any)?.id()),
                Err(_) => None,
            };
            add(&mut told, name, *target, peeled, None)?;
        }
        Ok(told)
    }

    /// The type of an object; `None` if there is none of this id, or no client gets it.
    pub(super) fn kind(&self, id: CommitId, told: &Advertisement) -> Result<Option<ObjectType>, git2::Error> {
        let content = self.content();
        let Ok(object) = content.objects.find_object(oid(id), None) else { return Ok(None) };
        let led_to = || -> Result<bool, git2::Error> {
            let mut history = content.objects.revwalk()?;
            for target in told.targets() {
                history.push(oid(target))?;
            }
            Ok(history.flatten().any(|commit| commit == oid(id)))
        };
        let served = content.serves_any_commit || told.leading_to(id, None).is_some() || led_to()?;
        Ok(object.kind().filter(|_| served))
    }

    /// The content of an object.
    pub(super) fn object(&self, id: CommitId) -> Result<Vec<u8>, git2::Error> {
        Ok(self.content().objects.odb()?.read(oid(id))?.data().to_owned())
    }

    /// What `client` lacks of `depth` commits of history; 0 for all of it.
    pub(super) fn pack(&self, id: CommitId, depth: u32, client: &Repository) -> Result<Pack, git2::Error> {
        let content = self.content();
        let history = client.git().odb()?;
        let has = |id: Oid| history.exists(id) || client.locate(&[id]).is_ok_and(|found| found[0].is_some());
        let mut pack = content.objects.packbuilder()?;
        let mut boundary = Vec::new();
        let mut generation = vec![oid(id)];
        let mut level = 0;
        while !generation.is_empty() {
            level += 1;
            let mut parents = Vec::new();
            for commit in generation {
                let commit = content.objects.find_commit(commit)?;
                if !has(commit.id()) {
                    pack.insert_object(commit.id(), None)?;
                }
                for object in objects_of(&commit.tree()?)? {
                    if !has(object) {
                        pack.insert_object(object, None)?;
                    }
                }
                if level == depth && commit.parent_count() > 0 {
                    boundary.push(commit.id());
                } else {
                    parents.extend(commit.parent_ids());
                }
            }
            parents.sort_unstable();
            parents.dedup();
            generation = parents;
        }
        let mut buffer = git2::Buf::new();
        pack.write_buf(&mut buffer)?;
        Ok(Pack { bytes: buffer.to_vec(), objects: pack.object_count() as u64, boundary })
    }
}

fn add(
    told: &mut Advertisement,
    name: &str,
    target: Oid,
    peeled: Option<Oid>,
    symref: Option<&str>,
) -> Result<(), git2::Error> {
    let added = told.add(name.as_bytes(), commit_id(target), peeled.map(commit_id), symref.map(str::as_bytes));
    added.map_err(|error| git2::Error::from_str(&error.to_string()))
}

impl Content {
    fn refs(&mut self) -> &mut Refs {
        self.refs.as_mut().expect("a repository on disk is changed by its owner")
    }

    fn commit(&self, tree: Oid, parent: Option<Oid>) -> Oid {
        let tree = self.objects.find_tree(tree).expect("the commit's tree");
        let parent = parent.map(|parent| self.objects.find_commit(parent).expect("the branch's commit"));
        let (author, parents) = (author(self.commits), parent.iter().collect::<Vec<_>>());
        self.objects.commit(None, &author, &author, "a commit", &tree, &parents).expect("a commit")
    }
}

/// Commits of a repository are a second apart, so that equal trees make different commits.
fn author(second: i64) -> Signature<'static> {
    Signature::new("a", "a@example.com", &Time::new(1_700_000_000 + second, 0)).expect("an author")
}

fn tree(objects: &git2::Repository, files: &[(&str, &[u8])]) -> Oid {
    let mut builder = objects.treebuilder(None).expect("a tree");
    let mut directories = BTreeMap::<&str, Vec<(&str, &[u8])>>::new();
    for (path, content) in files {
        if let Some((directory, rest)) = path.split_once('/') {
            directories.entry(directory).or_default().push((rest, content));
        } else {
            builder.insert(path, objects.blob(content).expect("a file"), 0o100_644).expect("a valid name");
        }
    }
    for (directory, files) in directories {
        builder.insert(directory, tree(objects, &files), 0o040_000).expect("a valid name");
    }
    builder.write().expect("a tree")
}

/// A tree and everything below it, but for submodules.
fn objects_of(tree: &git2::Tree<'_>) -> Result<Vec<Oid>, git2::Error> {
    let mut objects = vec![tree.id()];
    tree.walk(TreeWalkMode::PreOrder, |_, entry| {
        if entry.kind() != Some(ObjectType::Commit) {
            objects.push(entry.id());
        }
        TreeWalkResult::Ok
    })?;
    Ok(objects)
}

fn refs_of(repository: &git2::Repository) -> Result<Refs, git2::Error> {
    let mut refs = Refs::default();
    for reference in repository.references()? {
        let reference = reference?;
        if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
            refs.targets.insert(name.to_owned(), target);
        }
    }
    refs.head = repository.find_reference("HEAD")?.symbolic_target()?.map(str::to_owned);
    Ok(refs)
}

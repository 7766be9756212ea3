//! A connection's promises that hold for every server, tested on a local repository.

use std::path::PathBuf;
use std::sync::Arc;

use git2::ObjectType;
use git2::Oid;
use git2::Repository;
use git2::Signature;
use git2::Time;
use tempfile::TempDir;

use super::Libgit2;
use super::commit_id;
use super::oid;
use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::progress::Silent;
use crate::remote::ConnectRequest;
use crate::remote::Connection;
use crate::remote::Errand;
use crate::remote::FetchReport;
use crate::remote::FetchRequest;
use crate::remote::REPOSITORY;
use crate::remote::Remote;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::Revision;

/// A request with only `url` set.
pub(super) fn request(url: &str) -> ConnectRequest {
    let errand = Errand::new(RepositoryUrl::parse(url).unwrap());
    ConnectRequest { errand, cancel: Cancel::new(), progress: Arc::new(Silent) }
}

/// A repository with commits on main, and a place to fetch into.
struct Fixture {
    directory: TempDir,
    source: Repository,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let source = Repository::init_opts(directory.path().join("source"), &options).unwrap();
        Self { directory, source }
    }

    fn with_commits(count: i64) -> Self {
        let fixture = Self::new();
        for number in 0..count {
            fixture.commit("refs/heads/main", number);
        }
        fixture
    }

    /// Adds a commit with one file to a branch.
    fn commit(&self, branch: &str, number: i64) -> Oid {
        let blob = self.source.blob(format!("content {branch} {number}\n").as_bytes()).unwrap();
        let mut tree = self.source.treebuilder(None).unwrap();
        tree.insert("file", blob, 0o100_644).unwrap();
        let tree = self.source.find_tree(tree.write().unwrap()).unwrap();
        let author = Signature::new("a", "a@example.com", &Time::new(1_700_000_000 + number, 0)).unwrap();
        let parent = self.source.find_reference(branch).ok().map(|branch| branch.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        self.source.commit(Some(branch), &author, &author, "message", &tree, &parents).unwrap()
    }

    fn tag(&self, name: &str, target: Oid) {
        let tagger = Signature::new("a", "a@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        let target = self.source.find_object(target, None).unwrap();
        self.source.tag(name, &target, &tagger, "message", false).unwrap();
    }

    fn head(&self) -> Oid {
        self.source.refname_to_id("refs/heads/main").unwrap()
    }

    fn request(&self, into: &str) -> ConnectRequest {
        let mut request = request(&format!("file://{}", self.directory.path().join("source").display()));
        request.errand.staging = Some(self.directory.path().join(into));
        request
    }

    fn open(&self, into: &str) -> Repository {
        Repository::open_bare(self.fetched(into)).unwrap()
    }

    /// The repository fetched into a place.
    fn fetched(&self, into: &str) -> PathBuf {
        self.directory.path().join(into).join(REPOSITORY)
    }
}

fn converse<T>(request: &ConnectRequest, mut ask: impl FnMut(&mut dyn Connection) -> T) -> T {
    let mut answer = None;
    Libgit2::default().converse(request, &mut |connection| answer = Some(ask(connection)));
    answer.unwrap()
}

fn resolve(request: &ConnectRequest, revision: &str) -> Result<Resolved, RemoteError> {
    converse(request, |connection| connection.resolve(&Revision::parse(revision).unwrap()))
}

fn fetch(request: &ConnectRequest, revision: &str) -> Result<FetchReport, RemoteError> {
    converse(request, |connection| {
        let resolved = connection.resolve(&Revision::parse(revision).unwrap())?;
        connection.fetch(&FetchRequest { resolved, depth: 1 })
    })
}

#[test]
fn one_conversation_resolves_and_fetches() {
    let fixture = Fixture::with_commits(3);
    let resolved = resolve(&request(&fixture.request("x").errand.url.to_string()), "HEAD").unwrap();
    assert_eq!(resolved, Resolved { commit: commit_id(fixture.head()), reference: Some("refs/heads/main".to_owned()) });
    let report = fetch(&fixture.request("into"), "HEAD").unwrap();
    assert_eq!(report.commit, resolved.commit);
    assert_eq!(report.received_objects, 9);
    let repository = fixture.open("into");
    let commit =
        repository.find_reference(&format!("refs/commits/{}", resolved.commit)).unwrap().peel_to_commit().unwrap();
    assert!(repository.find_blob(commit.tree().unwrap().get_name("file").unwrap().id()).is_ok());
}

#[test]
fn the_fetched_repository_has_nothing_of_the_host_in_it() {
    let fixture = Fixture::with_commits(1);
    fetch(&fixture.request("into"), "HEAD").unwrap();
    let mut names: Vec<_> = std::fs::read_dir(fixture.fetched("into"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["HEAD", "config", "objects", "refs"]);
}

#[test]
fn a_commit_is_had_by_its_id_wherever_it_stands_in_the_history() {
    let fixture = Fixture::with_commits(4);
    fixture.commit("refs/heads/other", 9);
    let early = fixture.source.find_commit(fixture.head()).unwrap().parent(0).unwrap().parent(0).unwrap().id();
    let report = fetch(&fixture.request("into"), &early.to_string()).unwrap();
    assert_eq!(report.commit, commit_id(early));
}

#[test]
fn a_commit_that_does_not_exist_is_not_found() {
    let fixture = Fixture::with_commits(2);
    let error = fetch(&fixture.request("into"), &"1".repeat(40)).unwrap_err();
    assert!(matches!(error, RemoteError::CommitNotFound { .. }), "{}", crate::error::chain(&error));
}

#[test]
fn an_annotated_tag_peels_to_its_commit_and_anything_else_is_refused() {
    let fixture = Fixture::with_commits(2);
    let commit = fixture.source.find_commit(fixture.head()).unwrap();
    fixture.tag("annotated", commit.id());
    fixture.tag("of-tree", commit.tree_id());
    let tag = fixture.source.refname_to_id("refs/tags/annotated").unwrap();
    fixture.tag("nested", tag);
    fixture.source.reference("refs/tags/light-tree", commit.tree_id(), false, "").unwrap();
    for name in ["annotated", "nested", "refs/tags/annotated"] {
        let report = fetch(&fixture.request(&name.replace('/', "-")), name).unwrap();
        assert_eq!(report.commit, commit_id(commit.id()), "{name}");
    }
    for name in ["of-tree", "light-tree"] {
        match fetch(&fixture.request(name), name) {
            Err(RemoteError::NotACommit { object, .. }) => assert_eq!(object, ObjectType::Tree.str()),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_the_base_has_is_not_sent_again() {
    let fixture = Fixture::with_commits(3);
    fetch(&fixture.request("base"), "HEAD").unwrap();
    let based = |into: &str| {
        let mut request = fixture.request(into);
        request.errand.base = Some(fixture.fetched("base"));
        request
    };
    assert_eq!(fetch(&based("same"), "HEAD").unwrap().received_objects, 0);
    let new = fixture.commit("refs/heads/main", 3);
    let report = fetch(&based("new"), "HEAD").unwrap();
    assert_eq!((report.commit, report.received_objects), (commit_id(new), 3));
    assert!(fixture.open("new").find_commit(new).unwrap().parent(0).is_ok(), "the history is in the base");
    assert!(fixture.open("base").find_commit(new).is_err(), "the base is not written to");
}

#[test]
fn a_fetch_brings_the_commit_that_was_resolved_although_its_branch_has_moved() {
    let fixture = Fixture::with_commits(2);
    let resolved = resolve(&fixture.request("first"), "main").unwrap();
    fixture.commit("refs/heads/main", 2);
    let request = fixture.request("second");
    let report =
        converse(&request, |connection| connection.fetch(&FetchRequest { resolved: resolved.clone(), depth: 1 }));
    assert_eq!(report.unwrap().commit, resolved.commit);
}

#[test]
fn what_is_not_there_is_told_apart() {
    let empty = Fixture::new();
    assert!(matches!(resolve(&empty.request("x"), "HEAD"), Err(RemoteError::EmptyRepository { .. })));
    let fixture = Fixture::with_commits(1);
    assert!(matches!(resolve(&fixture.request("y"), "nope"), Err(RemoteError::RevisionNotFound { .. })));
    let nowhere = request(&format!("file://{}/nowhere", fixture.directory.path().display()));
    assert!(matches!(resolve(&nowhere, "HEAD"), Err(RemoteError::RepositoryNotFound { .. })));
}

#[test]
fn a_limit_of_bytes_and_a_cancelled_token_end_the_fetch() {
    let fixture = Fixture::with_commits(3);
    let mut bounded = fixture.request("bounded");
    bounded.errand.limits.fetch_bytes = 10;
    assert!(matches!(fetch(&bounded, "HEAD"), Err(RemoteError::TooLarge { limit: 10, .. })));
    let cancelled = fixture.request("cancelled");
    cancelled.cancel.cancel();
    let error = fetch(&cancelled, "HEAD").unwrap_err();
    assert!(matches!(error, RemoteError::Interrupted { source: Interrupted::Cancelled, .. }), "{error}");
}

#[test]
fn a_place_that_is_taken_is_not_fetched_into() {
    let fixture = Fixture::with_commits(1);
    fetch(&fixture.request("into"), "HEAD").unwrap();
    let error = fetch(&fixture.request("into"), "HEAD").unwrap_err();
    assert!(matches!(error, RemoteError::Local { ref path, .. } if path.ends_with(REPOSITORY)), "{error}");
}

#[test]
fn a_conversation_without_a_repository_only_resolves() {
    let fixture = Fixture::with_commits(1);
    let error = fetch(&request(&fixture.request("x").errand.url.to_string()), "HEAD").unwrap_err();
    assert!(matches!(error, RemoteError::Local { .. }), "{error}");
}

#[test]
fn ids_survive_the_way_to_libgit2_and_back() {
    let id = CommitId::from_bytes(std::array::from_fn(|place| u8::try_from(place).unwrap()));
    assert_eq!(commit_id(oid(id)), id);
    assert_eq!(oid(id).to_string(), id.to_string());
}

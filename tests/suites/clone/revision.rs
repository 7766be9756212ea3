//! What a revision means, and how to get a commit from a server that does not serve commits by id.

use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::line;

use super::assert_refused;
use super::assert_tree;

fn assert_serves(person: &Person, url: &str, repository: &Repository, revision: &str, commit: &str) {
    person.clone(url, &["--revision", revision]).assert_success();
    assert_tree(&person.tree(), repository, commit);
    person.assert_tree_alone();
    person.discard_tree();
}

#[test]
fn revision_is_a_branch_a_tag_a_ref_or_a_commit() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let url = server.url(&fixture.repository);
    let person = Person::new();
    for (revision, commit) in [
        ("main", &fixture.commit),
        ("old", &fixture.parent),
        ("feature/with/slashes", &fixture.parent),
        ("v1", &fixture.commit),
        ("v2", &fixture.commit),
        ("v3", &fixture.commit),
        ("orphan", &fixture.orphan),
        ("HEAD", &fixture.commit),
        ("refs/heads/old", &fixture.parent),
        ("refs/tags/v3", &fixture.commit),
        ("refs/tags/orphan", &fixture.orphan),
        ("refs/changes/01/1/1", &fixture.parent),
        ("same", &fixture.same_branch),
        ("refs/heads/same", &fixture.same_branch),
        ("refs/tags/same", &fixture.same_tag),
        (&fixture.commit, &fixture.commit),
        (&fixture.unreachable, &fixture.unreachable),
    ] {
        assert_serves(&person, &url, &fixture.repository, revision, commit);
    }
}

#[test]
fn default_revision_is_the_head_of_the_remote() {
    let fixture = fixtures::everything();
    fixture.repository.set_head("old");
    let server = HttpServer::start(&fixture.repository);
    let person = Person::new();
    person.clone(&server.url(&fixture.repository), &[]).assert_success();
    assert_tree(&person.tree(), &fixture.repository, &fixture.parent);
}

/// A repository whose first commit is reachable, but no ref points to it.
fn with_history() -> (Repository, String) {
    let repository = Repository::new("history");
    let first = repository.commit("main", &Files::new().file("first", "1\n"));
    for number in 0..20 {
        repository.commit("main", &Files::new().file("first", format!("changed {number}\n")).file("later", "2\n"));
    }
    repository.refuse_commits_by_id();
    (repository, first)
}

#[test]
fn commit_is_fetched_by_its_ref_from_a_server_that_does_not_serve_ids() {
    let fixture = fixtures::everything();
    fixture.repository.refuse_commits_by_id();
    let server = HttpServer::start(&fixture.repository);
    let (url, person) = (server.url(&fixture.repository), Person::new());
    for commit in [&fixture.commit, &fixture.parent, &fixture.orphan] {
        assert_serves(&person, &url, &fixture.repository, commit, commit);
    }
}

#[test]
fn commit_is_fetched_with_its_history_from_a_server_that_does_not_serve_ids() {
    let (repository, first) = with_history();
    let person = Person::new();
    let server = HttpServer::start(&repository);
    assert_serves(&person, &server.url(&repository), &repository, &first, &first);
    let daemon = GitDaemon::start();
    assert_serves(&person, &daemon.url(&repository), &repository, &first, &first);
    assert_serves(&person, &format!("file://{}", repository.path().display()), &repository, &first, &first);
}

#[test]
fn commit_is_fetched_over_ssh_with_and_without_fetching_by_id() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, first) = with_history();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    for allowed in ["true", "false"] {
        repository.configure("uploadpack.allowAnySHA1InWant", allowed);
        person.clone(&server.url(&repository), &["--revision", &first, &secret]).assert_success();
        assert_tree(&person.tree(), &repository, &first);
        person.discard_tree();
    }
}

#[test]
fn commit_that_no_ref_leads_to_is_cloned_as_git_does_and_a_missing_one_is_not_found() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let (url, person) = (server.url(&fixture.repository), Person::new());
    let nowhere = "0123456789".repeat(4);
    for by_id in [true, false] {
        if !by_id {
            // Over version 2 of the protocol this changes nothing.
            fixture.repository.refuse_commits_by_id();
        }
        let refused = person.clone(&url, &["--revision", &nowhere]);
        assert_refused(&person, refused, 66, &format!("does not give out commit {nowhere}"));
        person.clone(&url, &["--revision", &fixture.unreachable]).assert_success();
        assert_tree(&person.tree(), &fixture.repository, &fixture.unreachable);
        person.discard_tree();
    }
}

#[test]
fn object_that_is_not_a_commit_is_refused() {
    let fixture = fixtures::everything();
    let repository = &fixture.repository;
    let tree = repository.resolve("main^{tree}");
    let tag = repository.resolve("refs/tags/v2");
    repository.set_reference("refs/tags/tree", &tree);
    let server = HttpServer::start(repository);
    let (url, person) = (server.url(repository), Person::new());
    for revision in ["tree", "refs/tags/tree", &tree] {
        let refused = person.clone(&url, &["--revision", revision]);
        assert_refused(&person, refused, 64, "is not a commit but a tree");
    }
    assert_refused(&person, person.clone(&url, &["--revision", &tag]), 64, "is not a commit but a tag");
}

#[test]
fn empty_repository_has_nothing_to_serve() {
    let repository = fixtures::empty();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    assert_refused(&person, person.clone(&server.url(&repository), &[]), 66, "is empty");
}

#[test]
fn depth_does_not_change_the_tree() {
    let (repository, first) = with_history();
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    let head = repository.resolve("main");
    assert_ne!(head, first);
    for depth in ["depth=0", "depth=1", "depth=2", "depth=100"] {
        person.clone(&url, &["--set", depth]).assert_success();
        assert_tree(&person.tree(), &repository, &head);
        person.discard_tree();
    }
}

/// As of a working tree on a server, where somebody has checked out a commit.
#[test]
fn a_detached_head_of_the_remote_is_served_and_is_no_branch() {
    let fixture = fixtures::everything();
    let repository = &fixture.repository;
    git::output(&mut repository.git(["update-ref", "--no-deref", "HEAD", &fixture.parent]));
    let servers = [0, 1, 2].map(|version| HttpServer::builder().serve(repository).protocol(version).start());
    let daemon = GitDaemon::start();
    let file = format!("file://{}", repository.path().display());
    let person = Person::new();
    for url in servers.iter().map(|server| server.url(repository)).chain([daemon.url(repository), file]) {
        let resolved = person.run(&["resolve", &url]).assert_success();
        assert_eq!(resolved.stdout, format!("{}\tHEAD\n", fixture.parent), "{url}");
        person.clone(&url, &["--git-dir=keep"]).assert_success();
        assert_clean(&person.tree());
        assert_whole(&person.tree(), repository, &fixture.parent, 1);
        assert_eq!(line(&person.tree(), &["branch", "--show-current"]), "", "{url}");
        person.discard_tree();
        assert_serves(&person, &url, repository, "HEAD", &fixture.parent);
    }
}

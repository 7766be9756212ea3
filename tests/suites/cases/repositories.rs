//! Repositories that are cut off or odd, and commits that are hard to find.

use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use tempfile::TempDir;

use super::assert_git;
use super::assert_we_clone;
use super::assert_we_refuse;
use super::git_clones;
use super::words;

#[test]
fn a_shallow_repository_is_cloned_from_every_server() {
    let repository = Repository::new("app");
    for number in 0..5 {
        repository.commit("main", &Files::new().file("f", format!("{number}\n")));
    }
    repository.cut_history(2);
    let commit = repository.resolve("main");
    let person = Person::new();
    let daemon = GitDaemon::start();
    let (old, new) = (
        HttpServer::builder().serve(&repository).protocol(0).start(),
        HttpServer::builder().serve(&repository).protocol(2).start(),
    );
    for url in [daemon.url(&repository), old.url(&repository), new.url(&repository)] {
        assert_git(true, &[], &url, &url);
        assert_we_clone(&person, &url, &[], &repository, &commit, &url);
    }
    if require::tool("sshd") {
        let key = ClientKey::new();
        let server = SshServer::start(&key);
        let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
        assert_we_clone(&person, &server.url(&repository), &[&secret], &repository, &commit, "ssh");
    }
}

/// `git fetch --depth 1 <url> <commit>` over a version of the protocol.
fn git_fetches(version: u8, url: &str, commit: &str) -> bool {
    let place = TempDir::new().unwrap();
    git::output(git::command(place.path()).args(["init", "--quiet", "--bare"]));
    let mut fetch = git::command(place.path());
    fetch.args(["-c", &format!("protocol.version={version}"), "fetch", "--quiet", "--depth=1", url, commit]);
    fetch.output().unwrap().status.success()
}

#[test]
fn a_commit_that_no_ref_leads_to_is_had_over_version_2_and_found_in_the_history_over_version_0() {
    let repository = Repository::new("app");
    let old = repository.commit("main", &Files::new().file("f", "old\n"));
    repository.commit("main", &Files::new().file("f", "new\n"));
    repository.set_reference("refs/changes/1/head", &old);
    let behind = repository.commit("side", &Files::new().file("s", "1\n"));
    repository.commit("side", &Files::new().file("s", "2\n"));
    let lost = repository.commit_tree(&repository.resolve("main^{tree}"));
    repository.refuse_commits_by_id();
    let person = Person::new();
    for (version, commit, is_had) in
        [(2, &lost, true), (2, &old, true), (2, &behind, true), (0, &old, true), (0, &behind, true), (0, &lost, false)]
    {
        let server = HttpServer::builder().serve(&repository).protocol(version).start();
        let url = server.url(&repository);
        let case = format!("{commit} over version {version}");
        let more = ["--revision", commit];
        // git does not look for it in the history.
        assert_eq!(git_fetches(version, &url, commit), version == 2 || *commit == old, "git, {case}");
        if is_had {
            assert_we_clone(&person, &url, &more, &repository, commit, &case);
        } else {
            assert_we_refuse(&person, &url, &more, 66, &["cannot be had", commit], &case);
        }
    }
}

#[test]
fn a_head_that_names_no_branch_is_told_with_the_branches_that_are_there() {
    let repository = Repository::new("app");
    let commit = repository.commit("trunk", &Files::new().file("f", "x\n"));
    repository.commit("release", &Files::new().file("f", "y\n"));
    repository.set_head("master");
    let person = Person::new();
    for version in [0, 2] {
        let server = HttpServer::builder().serve(&repository).protocol(version).start();
        let url = server.url(&repository);
        let output = git_clones(&[], &url, &[]);
        assert!(words(&output).contains("warning: "), "{}", words(&output));
        let head = if version == 2 { "refs/heads/master" } else { "does not exist" };
        assert_we_refuse(&person, &url, &[], 66, &[head, "trunk", "release"], "HEAD");
        assert_we_clone(&person, &url, &["--revision", "trunk"], &repository, &commit, "trunk");
    }
}

#[test]
fn a_sha256_repository_is_a_limit_of_ours_and_said_finally() {
    let repository = Repository::of_sha256("app");
    repository.commit("main", &Files::new().file("f", "x\n"));
    let person = Person::new();
    let daemon = GitDaemon::start();
    for version in [0, 2] {
        let server = HttpServer::builder().serve(&repository).protocol(version).start();
        assert_git(true, &[], &server.url(&repository), "sha256");
        assert_we_refuse(&person, &server.url(&repository), &[], 65, &["sha256"], &format!("version {version}"));
    }
    assert_we_refuse(&person, &daemon.url(&repository), &[], 65, &["sha256"], "git");
}

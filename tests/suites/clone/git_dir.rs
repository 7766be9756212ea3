//! `gitrepo-cli clone --git-dir keep`: a working repository from every server.

use std::os::unix::fs::PermissionsExt;

use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::process;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::line;

use super::assert_refused;

/// Six commits, more than any depth here, and two more on a branch.
fn with_history() -> Repository {
    let repository = Repository::new("history");
    for number in 0..6 {
        repository.commit("main", &Files::new().file("changes", format!("{number}\n")));
    }
    repository.set_branch("side", "main~3");
    for number in 0..2 {
        repository.commit("side", &Files::new().file("side", format!("{number}\n")));
    }
    repository
}

/// Clones each depth of HEAD and of an older commit.
fn assert_keeps_every_depth(person: &Person, repository: &Repository, url: &str, more: &[&str]) {
    for commit in ["main", "main~2"].map(|revision| repository.resolve(revision)) {
        for depth in ["1", "3", "0"] {
            let revision = if commit == repository.resolve("main") { "HEAD" } else { commit.as_str() };
            let arguments = ["--git-dir", "keep", "--depth", depth, "--revision", revision];
            person.clone(url, &[&arguments, more].concat()).assert_success();
            assert_clean(&person.tree());
            assert_whole(&person.tree(), repository, &commit, depth.parse().unwrap());
            assert_eq!(line(&person.tree(), &["config", "remote.origin.url"]), url);
            person.assert_tree_alone();
            person.discard_tree();
        }
    }
}

#[test]
fn http_in_every_version_of_the_protocol_brings_a_repository_of_each_depth() {
    let repository = with_history();
    for version in 0..=2 {
        let server = HttpServer::builder().serve(&repository).protocol(version).start();
        assert_keeps_every_depth(&Person::new(), &repository, &server.url(&repository), &[]);
    }
}

/// A commit that no ref stands at is looked for in more and more history, which must also have the commits before it.
#[test]
fn a_server_that_gives_out_no_commit_by_its_id_brings_a_repository_of_each_depth() {
    let repository = Repository::new("long");
    for number in 0..52 {
        repository.commit("main", &Files::new().file("changes", format!("{number}\n")));
    }
    repository.refuse_commits_by_id();
    let server = HttpServer::builder().serve(&repository).protocol(0).start();
    let person = Person::new();
    // The first search ends at the 50th commit.
    let commit = repository.resolve("main~49");
    repository.serve_commits_by_id();
    let expect = |depth| assert_whole(&person.tree(), &repository, &commit, depth);
    for depth in [1, 2, 0] {
        repository.refuse_commits_by_id();
        let depth_text = depth.to_string();
        let arguments = ["--git-dir", "keep", "--depth", &depth_text, "--revision", &commit];
        person.clone(&server.url(&repository), &arguments).assert_success();
        repository.serve_commits_by_id();
        expect(depth);
        person.discard_tree();
    }
}

#[test]
fn ssh_brings_a_repository_of_each_depth() {
    if !require::tool("sshd") {
        return;
    }
    let repository = with_history();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    assert_keeps_every_depth(&person, &repository, &server.url(&repository), &[&secret]);
}

#[test]
fn git_protocol_and_files_bring_a_repository_of_each_depth() {
    let repository = with_history();
    let daemon = GitDaemon::start();
    assert_keeps_every_depth(&Person::new(), &repository, &daemon.url(&repository), &[]);
    let url = format!("file://{}", repository.path().display());
    assert_keeps_every_depth(&Person::new(), &repository, &url, &[]);
}

#[test]
fn a_shallow_server_brings_the_history_that_it_has() {
    let repository = with_history();
    repository.delete_branch("side");
    repository.cut_history(2);
    let server = HttpServer::start(&repository);
    let person = Person::new();
    for (depth, commits) in [("1", "1"), ("2", "2"), ("0", "2"), ("5", "2")] {
        person.clone(&server.url(&repository), &["--git-dir", "keep", "--depth", depth]).assert_success();
        assert_clean(&person.tree());
        line(&person.tree(), &["fsck", "--full"]);
        assert_eq!(line(&person.tree(), &["rev-list", "--count", "HEAD"]), commits, "of depth {depth}");
        person.discard_tree();
    }
}

#[test]
fn no_secret_is_in_the_repository() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).accept(Credential::Basic("alice", "canary-7")).start();
    let person = Person::new();
    let secret = person.secret(&[("username", "alice"), ("password", "canary-7")]);
    let allow = person.configuration("{\"credentialsOverHttp\": true}");
    person.clone(&server.url(&repository), &["--git-dir", "keep", &secret, &allow]).assert_success();
    for path in gitrepo_tests::volumes::files_below(&person.tree()) {
        let content = std::fs::read(&path).unwrap();
        let found = content.windows(8).any(|part| part == b"canary-7" || part.starts_with(b"alice"));
        assert!(!found, "{}", path.display());
    }
    let url = server.url(&repository);
    for with_secret in ["://alice:canary-7@", "://ghp_0123456789abcdefghijklmnopqrstuvwxyz@"] {
        let refused = person.clone(&url.replace("://", with_secret), &["--git-dir", "keep"]);
        refused.assert_code(64);
    }
}

#[test]
fn a_url_of_odd_characters_is_one_setting() {
    let (repository, commit) = fixtures::small();
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let person = Person::new();
    for name in ["a\"b", "x]y[core]z", ";=", "$(touch x)`x`", "ü t'"] {
        let path = place.path().join(name);
        std::os::unix::fs::symlink(repository.path(), &path).unwrap();
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = format!("file://{}/{encoded}", place.path().display());
        person.clone(&url, &["--git-dir", "keep"]).assert_success();
        let origin = line(&person.tree(), &["config", "remote.origin.url"]);
        assert_eq!(line(&person.tree(), &["ls-remote", &origin, "HEAD"]), format!("{commit}\tHEAD"), "{url}");
        let settings = line(&person.tree(), &["config", "--local", "--name-only", "--list"]);
        assert_eq!(settings.lines().count(), 8, "{settings}");
        person.discard_tree();
    }
}

#[test]
fn a_part_of_a_tree_has_no_repository() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let outcome = person.clone(&server.url(&repository), &["--git-dir", "keep", "--subdirectory", "bin"]);
    assert_refused(&person, outcome, 64, "subdirectory");
}

#[test]
fn a_history_beyond_the_limit_is_refused_and_leaves_nothing() {
    let repository = Repository::new("large");
    for number in 1..5 {
        repository.commit("main", &Files::new().file("noise", fixtures::noise(number, 100_000)));
    }
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let limits = person.configuration("{\"limits\": {\"treeBytes\": \"300Ki\"}}");
    person.clone(&server.url(&repository), &["--git-dir", "keep", &limits]).assert_success();
    assert_clean(&person.tree());
    assert_eq!(line(&person.tree(), &["rev-list", "--count", "HEAD"]), "1", "the default depth");
    person.discard_tree();
    let outcome = person.clone(&server.url(&repository), &["--git-dir", "keep", "--depth", "0", &limits]);
    assert_refused(&person, outcome, 73, "limits.treeBytes");
}

#[test]
fn a_killed_clone_leaves_no_destination_and_the_next_one_is_whole() {
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let arguments = ["--git-dir", "keep", "--depth", "0"];
    let gate = server.hold(Request::is_upload_pack);
    let running = person.spawn_clone(&server.url(&repository), &arguments);
    gate.wait_for(1);
    let processes = process::with_descendants(running.id());
    running.kill();
    assert!(!person.tree().exists());
    processes.into_iter().for_each(process::wait_for_end);
    gate.open();
    person.clone(&server.url(&repository), &arguments).assert_success();
    assert_clean(&person.tree());
    assert_whole(&person.tree(), &repository, &repository.resolve("main"), 0);
    person.assert_tree_alone();
}

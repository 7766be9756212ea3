//! The same tree, byte for byte, over every transport and with every kind of credential.

use std::path::PathBuf;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::program::Program;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::tree::assert_times;

/// Clones with the command-line tool, given secret keys and their values, and compares with git.
fn assert_clones(repository: &Repository, url: &str, secret: &[(&str, &str)]) {
    let program = Program::cli();
    let directory = program.home().join("secret");
    std::fs::create_dir(&directory).unwrap();
    for (key, value) in secret {
        std::fs::write(directory.join(key), value).unwrap();
    }
    let target: PathBuf = program.home().join("tree");
    let arguments = ["clone", url, "tree", "--secret-dir", "secret"];
    program.run(arguments).assert_success();
    let commit = repository.resolve("HEAD");
    assert_same_tree(repository, &commit, ".", &target);
    assert_times(&target, repository.commit_time(&commit));
}

#[test]
fn tree_is_exact_over_http_for_everything_git_can_hold() {
    let repository = fixtures::everything().repository;
    let server = HttpServer::start(&repository);
    assert_clones(&repository, &server.url(&repository), &[]);
    assert_eq!(server.packs(), 1);
    assert_eq!(server.connections(), 1, "resolving and fetching share a connection");
}

#[test]
fn tree_is_exact_over_http_for_three_thousand_files() {
    let repository = fixtures::many(3000);
    let server = HttpServer::start(&repository);
    assert_clones(&repository, &server.url(&repository), &[]);
}

#[test]
fn tree_is_exact_over_http_from_a_server_that_closes_connections() {
    let repository = fixtures::many(20);
    let server = HttpServer::builder().serve(&repository).close_connections().start();
    assert_clones(&repository, &server.url(&repository), &[]);
}

#[test]
fn tree_is_exact_over_https_with_an_own_authority_and_each_credential() {
    let repository = fixtures::everything().repository;
    let authority = Authority::new();
    let (basic, bearer) = (Credential::Basic("alice", "pass:word"), Credential::Bearer("token"));
    let serve = |credential| {
        let server = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback());
        server.accept(credential).start()
    };
    let ca = authority.ca_pem();
    let server = serve(basic);
    let secret = [("ca.crt", ca.as_str()), ("username", "alice"), ("password", "pass:word")];
    assert_clones(&repository, &server.url(&repository), &secret);
    let server = serve(bearer);
    assert_clones(&repository, &server.url(&repository), &[("ca.crt", &ca), ("token", "token")]);
}

#[test]
fn tree_is_exact_over_ssh_with_each_kind_of_key() {
    if !require::tool("sshd") {
        return;
    }
    let (everything, small) = (fixtures::everything().repository, fixtures::many(5));
    for (number, (_, _, key)) in ClientKey::all_kinds().into_iter().enumerate() {
        let repository = if number == 0 { &everything } else { &small };
        let server = SshServer::start(&key);
        let known_hosts = server.known_hosts();
        let mut secret = vec![("ssh-privatekey", key.private.as_str()), ("known_hosts", &known_hosts)];
        secret.extend(key.passphrase.map(|passphrase| ("ssh-passphrase", passphrase)));
        assert_clones(repository, &server.url(repository), &secret);
        assert_eq!(server.connections(), 1, "resolving and fetching share a connection");
    }
}

#[test]
fn tree_is_exact_over_the_git_protocol() {
    let repository = fixtures::everything().repository;
    assert_clones(&repository, &GitDaemon::start().url(&repository), &[]);
}

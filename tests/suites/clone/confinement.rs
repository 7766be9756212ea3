//! Clones by root, by an ordinary user, and by a user who may not create user namespaces. All get the same tree.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use gitrepo_tests::tree;

use super::assert_clones_head;
use super::assert_tree;

/// Whether the worker ran in namespaces, by the log.
fn namespaces(outcome: &Outcome) -> bool {
    let (yes, no) = (outcome.stderr.contains("namespaces=true"), outcome.stderr.contains("namespaces=false"));
    assert!(yes != no, "the log says which: {}", outcome.stderr);
    yes
}

#[test]
fn root_clones_with_a_worker_in_namespaces() {
    if !require::root("to be root") {
        return;
    }
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let person = Person::new();
    let outcome = person.clone(&server.url(&fixture.repository), &["-v"]).assert_success();
    assert!(namespaces(&outcome));
    assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
}

#[test]
fn ordinary_user_clones_and_owns_the_tree() {
    if !require::root("to become an ordinary user") {
        return;
    }
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let person = Person::nobody();
    person.clone(&server.url(&fixture.repository), &["-v"]).assert_success();
    assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
    tree::assert_owner(&person.tree(), gitrepo_tests::person::NOBODY);
    person.assert_tree_alone();
}

#[test]
fn ordinary_user_clones_over_https_and_ssh() {
    if !require::root("to become an ordinary user") || !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let https = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
    let key = ClientKey::new();
    let ssh = SshServer::start(&key);
    for restricted in [false, true] {
        let person = if restricted { Person::nobody().without_namespaces() } else { Person::nobody() };
        let trust = person.secret(&[("ca.crt", &authority.ca_pem())]);
        let by_name = https.url(&repository).replace("127.0.0.1", "localhost");
        assert_clones_head(&person, &by_name, &[&trust], &repository);
        let identity = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &ssh.known_hosts())]);
        assert_clones_head(&person, &ssh.url(&repository), &[&identity], &repository);
    }
}

#[test]
fn user_who_may_not_create_namespaces_clones_with_landlock_alone() {
    if !require::root("to become an ordinary user") {
        return;
    }
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let person = Person::nobody().without_namespaces();
    let outcome = person.clone(&server.url(&fixture.repository), &["-v"]).assert_success();
    assert!(!namespaces(&outcome));
    assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
    person.assert_tree_alone();
}

#[test]
fn root_of_a_container_that_may_not_create_namespaces_clones_too() {
    if !require::root("to be root") {
        return;
    }
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let person = Person::new().without_namespaces();
    let outcome = person.clone(&server.url(&fixture.repository), &["-v"]).assert_success();
    assert!(!namespaces(&outcome));
    assert!(outcome.stderr.contains("CAP_SYS_ADMIN"), "{}", outcome.stderr);
    assert_tree(&person.tree(), &fixture.repository, &fixture.commit);
}

/// As in a container with any `runAsUser`, for which git over SSH needs an entry in the user database.
#[test]
fn user_without_a_name_a_home_or_a_shell_clones() {
    const UID: u32 = 123_456;
    if !require::root("to become an unknown user") || !require::tool("sshd") {
        return;
    }
    let (repository, commit) = fixtures::small();
    let authority = Authority::new();
    let https = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
    let key = ClientKey::new();
    let ssh = SshServer::start(&key);
    let person = Person::of(UID);
    let trust = person.secret(&[("ca.crt", &authority.ca_pem())]);
    let identity = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &ssh.known_hosts())]);
    let alone = person.secret(&[("ssh-privatekey", &key.private)]);
    let trusting = person.configuration(r#"{"hostKeys": {"checking": "accept-new"}}"#);
    let clone = |url: &str, more: &[&str]| -> Outcome {
        let mut command = person.program().command([&["clone", url, "tree"], more].concat());
        command.env_remove("HOME").output().unwrap().into()
    };
    for (url, secret) in [(https.url(&repository), &trust), (ssh.url(&repository), &identity)] {
        clone(&url, &[secret]).assert_success();
        assert_tree(&person.tree(), &repository, &commit);
        tree::assert_owner(&person.tree(), UID);
        person.discard_tree();
    }
    let unknown = clone(&ssh.url(&repository), &[&alone]).assert_code(77);
    assert!(unknown.stderr.contains("known_hosts"), "{}", unknown.stderr);
    let nowhere = clone(&ssh.url(&repository), &[&alone, &trusting]).assert_code(64);
    assert!(nowhere.stderr.contains("hostKeys.file"), "{}", nowhere.stderr);
    assert_eq!(ssh.sessions(), 1);
    person.assert_nothing_left();
}

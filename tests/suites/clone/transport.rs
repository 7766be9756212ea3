//! Every transport fetches every fixture, byte for byte.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::namespace;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Program;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;

use super::Fixtures;
use super::assert_clones_head;
use super::assert_refused;
use super::assert_tree;

fn serve(fixtures: &Fixtures) -> HttpServerBuilder {
    fixtures.all().fold(HttpServer::builder(), HttpServerBuilder::serve)
}

#[test]
fn http_brings_every_fixture_byte_for_byte() {
    let fixtures = Fixtures::new();
    let server = serve(&fixtures).start();
    let person = Person::new();
    for repository in fixtures.all() {
        let (connections, packs) = (server.connections(), server.packs());
        assert_clones_head(&person, &server.url(repository), &[], repository);
        assert_eq!(server.packs(), packs + 1);
        assert_eq!(server.connections(), connections + 1, "resolving and fetching share a connection");
    }
}

#[test]
fn http_server_that_closes_connections_brings_the_tree_too() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).close_connections().start();
    assert_clones_head(&Person::new(), &server.url(&repository), &[], &repository);
}

#[test]
fn https_with_an_own_authority_brings_every_fixture_byte_for_byte() {
    let fixtures = Fixtures::new();
    let authority = Authority::new();
    let server = serve(&fixtures).tls(authority.issue_for_loopback()).start();
    let person = Person::new();
    let secret = person.secret(&[("ca.crt", &authority.ca_pem())]);
    for repository in fixtures.all() {
        assert_clones_head(&person, &server.url(repository), &[&secret], repository);
    }
    let by_name = server.url(&fixtures.others[0]).replace("127.0.0.1", "localhost");
    assert_clones_head(&person, &by_name, &[&secret], &fixtures.others[0]);
}

#[test]
fn https_trusts_the_authority_of_the_configuration() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
    let person = Person::new();
    let configuration = person.configuration(&format!("{{\"caFile\": {:?}}}", authority.ca_file()));
    assert_clones_head(&person, &server.url(&repository), &[&configuration], &repository);
}

#[test]
fn https_sends_the_password_or_token_that_the_server_asks_for() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder()
        .serve(&repository)
        .tls(authority.issue_for_loopback())
        .accept(Credential::Basic("alice", "pass:word"))
        .accept(Credential::Bearer("token-1"))
        .start();
    let person = Person::new();
    let (url, ca) = (server.url(&repository), authority.ca_pem());
    let basic = [("ca.crt", &*ca), ("username", "alice"), ("password", "pass:word")];
    let bearer = [("ca.crt", &*ca), ("token", "token-1")];
    let of_the_host = [("ca.crt", &*ca), ("127.0.0.1.token", "token-1")];
    // A file written by hand ends with a newline.
    let by_hand = [("ca.crt", &*ca), ("username", "alice\n"), ("password", "pass:word\n")];
    for keys in [&basic[..], &bearer, &of_the_host, &by_hand] {
        assert_clones_head(&person, &url, &[&person.secret(keys)], &repository);
    }
}

#[test]
fn ssh_brings_every_fixture_byte_for_byte() {
    if !require::tool("sshd") {
        return;
    }
    let fixtures = Fixtures::new();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    for repository in fixtures.all() {
        assert_clones_head(&person, &server.url(repository), &[&secret], repository);
    }
}

#[test]
fn https_trusts_configured_authorities_instead_of_the_systems_and_the_secrets_in_addition() {
    let (repository, _) = fixtures::small();
    let (ours, other) = (Authority::new(), Authority::new());
    let server = HttpServer::builder().serve(&repository).tls(ours.issue_for_loopback()).start();
    let person = Person::new();
    let configured =
        |authority: &Authority| person.configuration(&format!("{{\"caFile\": {:?}}}", authority.ca_file()));
    let secret = |authority: &Authority| person.secret(&[("ca.crt", &authority.ca_pem())]);
    for (system, more, code) in [
        (&ours, None, 0),
        (&other, None, 77),
        (&ours, Some(configured(&other)), 77),
        (&other, Some(configured(&ours)), 0),
        (&ours, Some(secret(&other)), 0),
        (&other, Some(secret(&ours)), 0),
    ] {
        // The variable replaces the system's authorities.
        let program = Program::cli().env("SSL_CERT_FILE", system.ca_file());
        let tree = program.home().join("tree").display().to_string();
        let url = server.url(&repository);
        let outcome = program.run(["clone", &url, &tree].into_iter().chain(more.as_deref()));
        assert_eq!(outcome.code(), code, "system {:?}, {more:?}: {outcome:?}", system.ca_file());
    }
}

#[test]
fn ssh_accepts_keys_of_every_algorithm_and_format_with_and_without_passphrase() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let keys = ClientKey::all_kinds();
    let server = keys.iter().fold(SshServer::builder(), |server, (_, _, key)| server.authorize(key)).start();
    let person = Person::new();
    for (algorithm, format, key) in &keys {
        let known_hosts = server.known_hosts();
        let mut entries = vec![("ssh-privatekey", &*key.private), ("known_hosts", &known_hosts)];
        entries.extend(key.passphrase.map(|passphrase| ("ssh-passphrase", passphrase)));
        let outcome = person.clone(&server.url(&repository), &[&person.secret(&entries)]);
        assert!(outcome.status.success(), "{algorithm:?} {format:?} {:?}: {outcome:?}", key.passphrase);
        person.discard_tree();
    }
    assert_eq!(server.sessions(), keys.len());
}

#[test]
fn ssh_trusts_the_known_hosts_of_the_user() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private)]);
    let url = server.url(&repository);
    person.clone(&url, &[&secret]).assert_code(77);
    person.assert_nothing_left();

    let ssh = person.home().join(".ssh");
    std::fs::create_dir(&ssh).unwrap();
    std::fs::write(ssh.join("known_hosts"), server.known_hosts()).unwrap();
    person.clone(&url, &[&secret]).assert_success();
}

#[test]
fn ssh_accepts_a_new_host_once_if_the_configuration_says_so() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let (server, other) = (SshServer::start(&key), SshServer::start(&key));
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private)]);
    let known = person.scratch().join("known_hosts");
    let configuration =
        person.configuration(&format!("{{\"hostKeys\": {{\"checking\": \"accept-new\", \"file\": {known:?}}}}}"));
    person.clone(&server.url(&repository), &[&secret, &configuration]).assert_success();
    let remembered = std::fs::read_to_string(&known).unwrap();
    assert!(remembered.contains(&format!("[127.0.0.1]:{} ", server.port())), "{remembered}");

    let changed = remembered.replace(&server.port().to_string(), &other.port().to_string());
    std::fs::write(&known, changed).unwrap();
    person.discard_tree();
    let refused = person.clone(&other.url(&repository), &[&secret, &configuration]).assert_code(77);
    assert!(refused.stderr.contains("has changed"), "{}", refused.stderr);
}

#[test]
fn git_protocol_brings_every_fixture_byte_for_byte() {
    let fixtures = Fixtures::new();
    let daemon = GitDaemon::start();
    let person = Person::new();
    for repository in fixtures.all() {
        assert_clones_head(&person, &daemon.url(repository), &[], repository);
    }
}

#[test]
fn file_url_brings_every_fixture_byte_for_byte() {
    let fixtures = Fixtures::new();
    let person = Person::new();
    for repository in fixtures.all() {
        assert_clones_head(&person, &format!("file://{}", repository.path().display()), &[], repository);
    }
}

/// The first of the two forms of git-sync's tests over SSH, which leads to port 22.
#[test]
fn ssh_in_the_form_of_scp_reaches_paths_of_every_kind() {
    if !require::root("gives the test a network of its own") || !require::tool("sshd") {
        return;
    }
    namespace::private_network();
    let (repository, commit) = fixtures::small();
    let (key, home) = (ClientKey::new(), repository.root().display().to_string());
    // sshd takes the home from the user database.
    let as_there = format!("cd {home} && HOME={home} exec sh -c \"$SSH_ORIGINAL_COMMAND\"");
    let server = SshServer::builder().authorize(&key).force_command(&as_there);
    let server = server.at((std::net::Ipv4Addr::LOCALHOST, 22).into()).start();
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    let user = gitrepo_tests::ssh::user();
    let absolute = repository.path().display().to_string();
    // Only a relative path needs this form.
    for (url, origin) in [
        (format!("{user}@127.0.0.1:small.git"), format!("{user}@127.0.0.1:small.git")),
        (format!("{user}@127.0.0.1:~/small.git"), format!("ssh://{user}@127.0.0.1/~/small.git")),
        (format!("{user}@127.0.0.1:{absolute}"), format!("ssh://{user}@127.0.0.1{absolute}")),
        (format!("ssh://{user}@127.0.0.1/~/small.git"), format!("ssh://{user}@127.0.0.1/~/small.git")),
        (format!("ssh://{user}@127.0.0.1:22{absolute}"), format!("ssh://{user}@127.0.0.1{absolute}")),
    ] {
        person.clone(&url, &[&secret, "--git-dir=keep"]).assert_success();
        let said = |words: &[&str]| gitrepo_tests::working_repository::line(&person.tree(), words);
        assert_eq!((said(&["rev-parse", "HEAD"]), said(&["status", "--porcelain"])), (commit.clone(), String::new()));
        assert_eq!(said(&["config", "remote.origin.url"]), origin, "{url}");
        person.discard_tree();
        person.clone(&url, &[&secret]).assert_success();
        assert_tree(&person.tree(), &repository, &commit);
        person.discard_tree();
    }
    let sessions = server.sessions();
    assert_refused(&person, person.clone(&format!("{user}@127.0.0.1:x/../small.git"), &[&secret]), 64, "..");
    assert_eq!(server.sessions(), sessions);
}

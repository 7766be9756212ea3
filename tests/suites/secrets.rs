//! A canary in every secret key: no output, file, argument list or environment of ours contains one (S13).

use std::path::Path;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::canaries::Canaries;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::namespace;
use gitrepo_tests::person::Person;
use gitrepo_tests::process;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::Algorithm;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::Format;
use gitrepo_tests::ssh::SshServer;

const USERNAME: &str = "canary-user-4Wq7";
const PASSWORD: &str = "canary-password-9bXz";
const TOKEN: &str = "canary-token-2LmP";
const PASSPHRASE: &str = "canary-passphrase-7GhT";
/// A comment among certificates and host keys, which are public but not shown either.
const COMMENT: &str = "canary-comment-5RsV";

fn canaries(key: Option<&ClientKey>) -> Canaries {
    let canaries = Canaries::new(&[USERNAME, PASSWORD, TOKEN, PASSPHRASE, COMMENT]).with_login(USERNAME, PASSWORD);
    key.into_iter().fold(canaries, |canaries, key| canaries.with_key(&key.private))
}

/// Asserts that no canary is in the program's output or files.
fn assert_unseen(canaries: &Canaries, person: &Person, outcome: &Outcome) {
    canaries.assert_absent("standard output", outcome.stdout.as_bytes());
    canaries.assert_absent("standard error", outcome.stderr.as_bytes());
    assert_absent_on_disk(canaries, person);
}

fn assert_absent_on_disk(canaries: &Canaries, person: &Person) {
    canaries.assert_absent_below(person.home());
    canaries.assert_absent_below(&person.scratch());
    canaries.assert_absent_below(Path::new("/run/gitrepo"));
}

/// A TLS server that accepts the canaries, and a user who trusts it.
struct Bench {
    repository: Repository,
    authority: Authority,
    person: Person,
}

impl Bench {
    fn new() -> Self {
        Self { repository: fixtures::small().0, authority: Authority::new(), person: Person::new() }
    }

    fn server(&self) -> HttpServerBuilder {
        HttpServer::builder()
            .serve(&self.repository)
            .tls(self.authority.issue_for_loopback())
            .accept(Credential::Basic(USERNAME, PASSWORD))
            .accept(Credential::Bearer(TOKEN))
    }

    fn ca(&self) -> String {
        format!("{COMMENT}\n{}", self.authority.ca_pem())
    }

    /// The secrets that log in to the server.
    fn secrets(&self) -> [String; 2] {
        let ca = self.ca();
        [
            self.person.secret(&[("ca.crt", &ca), ("username", USERNAME), ("password", PASSWORD)]),
            self.person.secret(&[("ca.crt", &ca), ("token", TOKEN)]),
        ]
    }

    /// Clones with each secret and with the most output, and asserts that no canary shows up.
    fn assert_secret(&self, url: &str, more: &[&str], code: i32) {
        for secret in self.secrets() {
            for talkative in ["-vv", "--json"] {
                let outcome = self.person.clone(url, &[&[&*secret, talkative], more].concat()).assert_code(code);
                assert_unseen(&canaries(None), &self.person, &outcome);
                if code == 0 {
                    self.person.discard_tree();
                }
            }
        }
    }
}

#[test]
fn secrets_do_not_leak_when_a_clone_succeeds() {
    let bench = Bench::new();
    let server = bench.server().start();
    bench.assert_secret(&server.url(&bench.repository), &[], 0);
}

#[test]
fn secrets_do_not_leak_when_the_server_answers_with_errors() {
    let bench = Bench::new();
    let url = |server: &HttpServer| server.url(&bench.repository);
    bench.assert_secret(&url(&bench.server().answer(|_| Answer::status(403)).start()), &[], 77);
    bench.assert_secret(&url(&bench.server().answer(|_| Answer::status(500)).start()), &[], 69);
    bench.assert_secret(&url(&bench.server().answer(hostile::unauthorized_for_ever()).start()), &[], 77);
    bench.assert_secret(&url(&bench.server().answer(hostile::pack_is_garbage()).start()), &[], 65);
    bench.assert_secret(&url(&bench.server().answer(hostile::pack_ends_midway(Ending::Broken)).start()), &[], 69);
    bench.assert_secret(&bench.server().start().url_at("missing.git"), &[], 66);
}

#[test]
fn secrets_do_not_leak_when_the_server_refuses_them() {
    let bench = Bench::new();
    let server = bench.server().start();
    server.accept_only(&[Credential::Basic("somebody", "else")]);
    bench.assert_secret(&server.url(&bench.repository), &[], 77);
}

#[test]
fn secrets_do_not_leak_when_the_server_stalls_or_the_time_is_up() {
    let bench = Bench::new();
    let stalling = bench.server().answer(hostile::pack_ends_midway(Ending::Silent)).start();
    let impatient = bench.person.configuration(r#"{"limits": {"stall": "2s"}}"#);
    bench.assert_secret(&stalling.url(&bench.repository), &[&impatient], 69);
    bench.assert_secret(&stalling.url(&bench.repository), &["--timeout=2s"], 75);
}

#[test]
fn secrets_do_not_leak_when_the_certificate_is_wrong() {
    let bench = Bench::new();
    let other = Authority::new().issue_for_loopback();
    let server = bench.server().tls(other).start();
    bench.assert_secret(&server.url(&bench.repository), &[], 77);
    assert!(server.requests().is_empty());
}

#[test]
fn secrets_are_not_sent_to_the_target_of_a_redirect() {
    let bench = Bench::new();
    let second = bench.server().start();
    let elsewhere = second.url_at("").replace("127.0.0.1", "localhost");
    for status in [301, 302, 307, 308] {
        let first = bench.server().answer(hostile::redirects_to(&elsewhere, status)).start();
        bench.assert_secret(&first.url(&bench.repository), &[], 77);
        let shown = first.requests().iter().filter(|request| request.authorization().is_some()).count();
        assert!(shown > 0, "the first host gets the credential");
    }
    assert_eq!(second.connections(), 0);
}

#[test]
fn no_process_has_secrets_in_its_arguments_or_environment() {
    let bench = Bench::new();
    let server = bench.server().start();
    for secret in bench.secrets() {
        let gate = server.hold(|request| Request::is_upload_pack(request) && request.authorization().is_some());
        let running = bench.person.spawn_clone(&server.url(&bench.repository), &[&secret]);
        gate.wait_for(1);
        let canaries = canaries(None);
        let processes = process::with_descendants(running.id());
        assert!(processes.len() >= 2, "the program and its worker: {processes:?}");
        for pid in processes {
            canaries.assert_absent("a process", &process::arguments_and_environment(pid));
        }
        assert_absent_on_disk(&canaries, &bench.person);
        gate.open();
        running.wait().assert_success();
        bench.person.discard_tree();
    }
}

#[test]
fn secrets_of_ssh_do_not_leak() {
    if !require::tool("sshd") {
        return;
    }
    let bench = Bench::new();
    let key = ClientKey::generate(Algorithm::Ed25519, Format::OpenSsh, Some(PASSPHRASE));
    let canaries = canaries(Some(&key));
    let (server, other) = (SshServer::start(&key), SshServer::start(&ClientKey::new()));
    let person = &bench.person;
    let clone = |server: &SshServer, known_hosts: &str, key: &str, passphrase: &str, code: i32| {
        let known_hosts = format!("# {COMMENT}\n{known_hosts}");
        let keys = [("ssh-privatekey", key), ("ssh-passphrase", passphrase), ("known_hosts", &known_hosts)];
        let outcome = person.clone(&server.url(&bench.repository), &[&person.secret(&keys), "-vv"]).assert_code(code);
        assert_unseen(&canaries, person, &outcome);
        canaries.assert_absent("the server's log", server.log().as_bytes());
        outcome
    };
    clone(&server, &server.known_hosts(), &key.private, PASSPHRASE, 0);
    person.discard_tree();
    // An unknown and a changed host key, an unauthorized key, a wrong passphrase, a damaged key.
    clone(&server, &other.known_hosts(), &key.private, PASSPHRASE, 77);
    let lie = other.known_hosts_at(&format!("[127.0.0.1]:{}", server.port()));
    clone(&server, &lie, &key.private, PASSPHRASE, 77);
    clone(&other, &other.known_hosts(), &key.private, PASSPHRASE, 77);
    clone(&server, &server.known_hosts(), &key.private, TOKEN, 77);
    let damaged = key.private.replacen('\n', "\n!", 3);
    clone(&server, &server.known_hosts(), &damaged, PASSPHRASE, 64);
}

#[test]
fn invalid_secrets_are_named_and_not_quoted() {
    let bench = Bench::new();
    let person = &bench.person;
    let ca = bench.ca();
    for keys in [
        &[("ca.crt", COMMENT)][..],
        &[("ca.crt", &ca), ("token", "canary-token-2LmP\nX-Header: 1")],
        &[("token", TOKEN), ("username", USERNAME), ("password", PASSWORD)],
        &[("username", USERNAME)],
        &[("password", PASSWORD)],
        &[("ssh-privatekey", COMMENT)],
        &[("known_hosts", COMMENT)],
        &[("pasword", PASSWORD)],
    ] {
        let secret = person.secret(keys);
        let outcome = person.clone("https://127.0.0.1/a", &[&secret, "-vv"]).assert_code(64);
        assert_unseen(&canaries(None), person, &outcome);
        assert!(keys.iter().any(|(key, _)| outcome.stderr.contains(key)), "{keys:?}: {}", outcome.stderr);
    }
}

#[test]
fn secrets_in_a_url_are_refused_and_not_repeated() {
    let person = Person::new();
    for url in [
        "https://user:canary-password-9bXz@host.example/a",
        "https://canary-token-2LmP:x-oauth-basic@host.example/a",
        "https://host.example/a?access_token=canary-token-2LmP",
        "http://user:canary-password-9bXz@host.example/a",
        "ssh://git:canary-password-9bXz@host.example/a",
        "https://user:canary-password-9bXz@/a",
        "https://user:canary-password-9bXz@host.example:99999/a",
        "https://user:canary-password-9bXz@host.example/a\nb",
    ] {
        for talkative in ["-vv", "--json"] {
            let outcome = person.clone(url, &[talkative]).assert_code(64);
            assert_unseen(&canaries(None), &person, &outcome);
        }
    }
}

#[test]
fn no_file_of_the_store_contains_a_secret() {
    if !require::root("to mount") {
        return;
    }
    namespace::private_mounts();
    let bench = Bench::new();
    let server = bench.server().start();
    let url = server.url(&bench.repository);
    let person = &bench.person;
    for (number, secret) in bench.secrets().iter().enumerate() {
        let target = format!("target-{number}");
        let mount = ["mount", &url, &target, "--store=store", secret, "-vv"];
        let outcome = person.run(&mount).assert_success();
        assert_unseen(&canaries(None), person, &outcome);
        let outcome = person.run(&["unmount", &target, "--store=store", "-vv"]).assert_success();
        assert_unseen(&canaries(None), person, &outcome);
    }
    assert!(person.home().join("store/repositories").is_dir(), "the store was searched");
}

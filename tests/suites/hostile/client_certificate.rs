//! Servers that ask for a client certificate and do not say that they refuse it.
//!
//! In TLS 1.3 the client has sent its request when a server refuses its certificate. A server that closes the connection
//! without reading the request resets it, and what it said may be lost on the way.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::authority::Identity;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;

use super::assert_ends;

/// Words for a server that wants a certificate and got none, or another one.
const MISSING: &str = "wants a credential (tls.crt and tls.key)";
const REFUSED: &str = "refused the credential (tls.crt)";

/// A repository, and the authorities of the servers and of their clients.
struct Scene {
    servers: Authority,
    clients: Authority,
    repository: Repository,
}

impl Scene {
    fn new() -> Self {
        Self { servers: Authority::new(), clients: Authority::new(), repository: fixtures::small().0 }
    }

    /// A server that asks for a certificate.
    fn asking(&self) -> Identity {
        self.servers.issue_for_loopback().for_clients_of(&self.clients)
    }

    fn server(&self, identity: Identity) -> HttpServerBuilder {
        HttpServer::builder().serve(&self.repository).tls(identity)
    }

    /// A secret without a certificate for clients.
    fn nothing(&self, person: &Person) -> String {
        person.secret(&[("ca.crt", &self.servers.ca_pem())])
    }

    fn certificate(&self, person: &Person, identity: &Identity) -> String {
        let (certificate, key) = (identity.pem(), identity.key_pem());
        person.secret(&[("ca.crt", &self.servers.ca_pem()), ("tls.crt", &certificate), ("tls.key", &key)])
    }
}

/// People whose worker reaches the server through the relay, and by itself.
fn people() -> Vec<Person> {
    let mut people = vec![Person::new()];
    if require::root("to be root without namespaces") {
        people.push(Person::new().without_namespaces());
    }
    people
}

#[test]
fn server_that_asks_for_a_certificate_and_resets_twice_refuses_it() {
    let scene = Scene::new();
    let shown = scene.clients.issue(&["client.example"]);
    for person in people() {
        for identity in [scene.asking(), scene.asking().until_tls_1_2()] {
            for (secret, words) in [(scene.nothing(&person), MISSING), (scene.certificate(&person, &shown), REFUSED)] {
                let server = scene.server(identity.clone()).reset_first(2).start();
                let outcome = assert_ends(&person, &server.url(&scene.repository), &[&secret, "-vv"], 77, words);
                let cause = "the server asked for a client certificate and hung up, twice: ";
                assert!(outcome.stderr.contains(cause), "{}", outcome.stderr);
                assert_eq!(server.connections(), 2);
            }
        }
    }
}

#[test]
fn server_that_asks_for_a_certificate_and_resets_once_is_asked_again() {
    let scene = Scene::new();
    let shown = scene.clients.issue(&["client.example"]);
    for person in people() {
        for identity in [scene.asking(), scene.asking().until_tls_1_2()] {
            let server = scene.server(identity).reset_first(1).start();
            let secret = scene.certificate(&person, &shown);
            person.clone(&server.url(&scene.repository), &[&secret]).assert_success();
            person.discard_tree();
            assert_eq!(server.connections(), 2);
        }
    }
}

#[test]
fn server_that_resets_without_asking_for_a_certificate_is_unavailable() {
    let scene = Scene::new();
    let shown = scene.clients.issue(&["client.example"]);
    for person in people() {
        let secret = scene.certificate(&person, &shown);
        let server = scene.server(scene.servers.issue_for_loopback()).reset_first(1).start();
        assert_ends(&person, &server.url(&scene.repository), &[&secret], 69, &server.url(&scene.repository));
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn server_that_hangs_up_after_it_took_the_certificate_is_unavailable() {
    let scene = Scene::new();
    let shown = scene.clients.issue(&["client.example"]);
    for person in people() {
        let secret = scene.certificate(&person, &shown);
        let server = scene
            .server(scene.asking())
            .close_connections()
            .answer(|request| if request.is_info_refs() { Answer::Git } else { Answer::raw(|_| Ok(Ending::Broken)) })
            .start();
        assert_ends(&person, &server.url(&scene.repository), &[&secret], 69, &server.url(&scene.repository));
    }
}

#[test]
fn alert_of_tls_1_2_about_the_certificate_is_understood() {
    let scene = Scene::new();
    let stranger = Authority::new().issue(&["client.example"]);
    let server = scene.server(scene.asking().until_tls_1_2()).start();
    for person in people() {
        for (secret, words) in [(scene.nothing(&person), MISSING), (scene.certificate(&person, &stranger), REFUSED)] {
            assert_ends(&person, &server.url(&scene.repository), &[&secret], 77, words);
        }
    }
}

#[test]
fn server_that_asks_for_a_certificate_and_has_an_untrusted_one_itself_is_not_asked_again() {
    let scene = Scene::new();
    let shown = scene.clients.issue(&["client.example"]);
    for person in people() {
        for identity in [scene.asking(), scene.asking().until_tls_1_2()] {
            let server = scene.server(identity).start();
            let other = Authority::new().ca_pem();
            let (certificate, key) = (shown.pem(), shown.key_pem());
            let secret = person.secret(&[("ca.crt", &other), ("tls.crt", &certificate), ("tls.key", &key)]);
            let outcome = assert_ends(&person, &server.url(&scene.repository), &[&secret], 77, "certificate");
            assert!(!outcome.stderr.contains("credential"), "{}", outcome.stderr);
            assert!(server.requests().is_empty());
            assert_eq!(server.connections(), 1);
        }
    }
}

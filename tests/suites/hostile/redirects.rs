//! Redirects are followed on the same host alone, without a credential where the origin changes. Others break nothing,
//! and the message names the URL to write instead.

use std::io::Write;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::require;
use gitrepo_tests::tree;

use super::assert_ends;

const NOT_FOLLOWED: &str = "which is not followed";
const PAGE: &str = "redirects to a page that is no repository";
const ITSELF: &str = "redirects to itself";
const UNCLEAR: &str = "redirects to an address that cannot be read";

/// A user who trusts the authority and has a password.
struct Scene {
    person: Person,
    authority: Authority,
    secret: String,
}

impl Scene {
    fn new() -> Self {
        Self::of(Person::new())
    }

    fn of(person: Person) -> Self {
        let authority = Authority::new();
        let secret =
            person.secret(&[("ca.crt", &authority.ca_pem()), ("username", "alice"), ("password", "canary-password")]);
        Self { person, authority, secret }
    }

    /// A server with or without TLS.
    fn server(&self, tls: bool) -> HttpServerBuilder {
        if tls { HttpServer::builder().tls(self.authority.issue_for_loopback()) } else { HttpServer::builder() }
    }

    /// Asserts that a clone of `/r.git` from a server with these answers ends with `words`.
    fn assert_redirected(&self, tls: bool, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static, words: &str) {
        let (repository, _) = fixtures::small();
        let server = self.server(tls).serve_at("r.git", &repository).answer(answer).start();
        let outcome = assert_ends(&self.person, &server.url_at("r.git"), &[&self.secret], 77, words);
        for secret in ["canary", "Permission denied", "SIG"] {
            assert!(!outcome.stderr.contains(secret), "{}", outcome.stderr);
        }
    }
}

/// A redirect with exactly these header fields.
fn head(status: u16, fields: &str) -> Answer {
    let head = format!("HTTP/1.1 {status} Found\r\n{fields}Content-Length: 0\r\n\r\n");
    Answer::raw(move |wire| {
        wire.write_all(head.as_bytes())?;
        Ok(Ending::Complete)
    })
}

/// `Location`s, and words of the message for each.
fn locations() -> Vec<(String, &'static str)> {
    let table = [
        ("/x/info/refs", "/x; write that as the repository's URL"),
        // Followed, to the same answer.
        ("/x/info/refs?service=git-upload-pack&token=canary", ITSELF),
        ("../group/x.git/info/refs?service=git-upload-pack", "/group/x.git/group/x.git; write that as"),
        ("login", PAGE),
        ("/users/sign_in?token=canary", PAGE),
        ("?x", ITSELF),
        ("", ITSELF),
        ("//", UNCLEAR),
        ("http://", UNCLEAR),
        ("https:///info/refs", UNCLEAR),
        ("http:info/refs", UNCLEAR),
        ("ssh://git@127.0.0.1/x", UNCLEAR),
        ("ftp://127.0.0.1/x/info/refs", UNCLEAR),
        ("file:///etc/passwd", UNCLEAR),
        (":", PAGE),
        ("/%/info/refs", UNCLEAR),
        ("/%zz/info/refs", UNCLEAR),
        ("/a b/info/refs", UNCLEAR),
        ("https://127.0.0.1:99999/x/info/refs", UNCLEAR),
        (
            "https://alice:canary@other.example.com/x/info/refs",
            "another host, https://other.example.com/x, which is not followed",
        ),
        ("//other.example.com/x", "//other.example.com, which is not followed"),
        ("https://[::1]/x/info/refs", "another host, https://[::1]/x, which"),
    ];
    let mut locations: Vec<_> = table.map(|(location, words)| (location.to_owned(), words)).into();
    locations.push((format!("/{}/info/refs", "x".repeat(20_000)), UNCLEAR));
    locations
}

#[test]
fn the_message_for_every_location_says_what_to_write() {
    let scene = Scene::new();
    for tls in [false, true] {
        for (location, words) in locations() {
            let fields = format!("Location: {location}\r\n");
            scene.assert_redirected(tls, move |_| head(302, &fields), words);
        }
    }
}

#[test]
fn every_3xx_status_and_spelling_of_the_field_is_a_redirect() {
    let scene = Scene::new();
    for tls in [false, true] {
        for status in [300, 301, 302, 303, 305, 307, 308, 399] {
            scene.assert_redirected(tls, move |_| head(status, "Location: /x/info/refs\r\n"), "/x; write that");
        }
        for (fields, words) in [
            ("location:/x/info/refs\r\n", "/x; write that"),
            ("LOCATION: \t /x/info/refs \r\n", "/x; write that"),
            ("", UNCLEAR),
            ("Location: /x/info/refs\r\nLocation: /x/info/refs\r\n", UNCLEAR),
            ("Location: /x\r\n /info/refs\r\n", UNCLEAR),
            ("Location: /x\x01/info/refs\r\n", UNCLEAR),
        ] {
            let (repository, _) = fixtures::small();
            let server = scene.server(tls).serve_at("r.git", &repository).answer(move |_| head(302, fields)).start();
            assert_ends(&scene.person, &server.url_at("r.git"), &[&scene.secret], 77, words);
        }
    }
}

#[test]
fn a_redirect_of_the_negotiation_is_reported_in_the_same_way() {
    let scene = Scene::new();
    for tls in [false, true] {
        for (location, words) in [
            ("/x/git-upload-pack", "/x; write that"),
            ("/x/info/refs", PAGE),
            ("login", PAGE),
            ("", ITSELF),
            ("https://other.example.com/x/git-upload-pack", "another host, https://other.example.com/x,"),
        ] {
            let answer = move |request: &Request| match request.is_upload_pack() {
                true => head(307, &format!("Location: {location}\r\n")),
                false => Answer::Git,
            };
            scene.assert_redirected(tls, answer, words);
        }
    }
}

#[test]
fn redirect_is_refused_and_its_target_not_contacted() {
    let (repository, _) = fixtures::small();
    let target = HttpServer::start(&repository);
    let scene = Scene::new();
    let to_http = target.url_at("");
    let elsewhere = to_http.replace("http://127.0.0.1", "https://localhost");
    for (base, status) in [301, 302, 307, 308].into_iter().flat_map(|status| [(&to_http, status), (&elsewhere, status)])
    {
        let server = scene.server(true).serve(&repository).answer(hostile::redirects_to(base, status)).start();
        assert_ends(&scene.person, &server.url(&repository), &[&scene.secret], 77, NOT_FOLLOWED);
        // If the server needs a credential, the redirect answers a request with one.
        server.accept_only(&[Credential::Basic("alice", "canary-password")]);
        assert_ends(&scene.person, &server.url(&repository), &[&scene.secret], 77, NOT_FOLLOWED);
    }
    assert_eq!(target.connections(), 0);
}

/// The worker may not connect to another port, so another one goes there.
#[test]
fn redirect_to_another_port_or_to_https_is_followed_without_the_credential() {
    let (repository, commit) = fixtures::small();
    let mut people = vec![Person::new()];
    if require::root("to become an ordinary user") {
        people.extend([Person::nobody(), Person::nobody().without_namespaces()]);
    }
    for scene in people.into_iter().map(Scene::of) {
        let target = scene.server(true).serve(&repository).start();
        for tls in [false, true] {
            let answer = hostile::redirects_to(target.url_at("").trim_end_matches('/'), 302);
            let server = scene.server(tls).serve(&repository).answer(answer).start();
            scene.person.clone(&server.url(&repository), &[&scene.secret]).assert_success();
            tree::assert_same_tree(&repository, &commit, ".", &scene.person.tree());
            scene.person.discard_tree();
            assert_eq!(server.requests().iter().any(|request| request.authorization().is_some()), tls);
        }
        assert!(target.requests().iter().all(|request| request.authorization().is_none()));
    }
}

#[test]
fn redirect_to_a_url_that_the_policy_denies_is_not_followed() {
    let (repository, _) = fixtures::small();
    let scene = Scene::new();
    let target = scene.server(true).serve(&repository).start();
    let answer = hostile::redirects_to(target.url_at("").trim_end_matches('/'), 302);
    let server = scene.server(false).serve(&repository).answer(answer).start();
    let config = scene.person.configuration(r#"{ "allowedSchemes": ["http"], "allowLoopback": true }"#);
    assert_ends(&scene.person, &server.url(&repository), &[&config], 77, "https");
    assert_eq!(target.connections(), 0);
}

//! Redirects that git follows, and those that it does not.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;

use super::assert_git;
use super::assert_we_clone;
use super::assert_we_refuse;
use super::git_clones;
use super::words;

const QUERY: &str = "service=git-upload-pack";

fn to(status: u16, location: &str) -> Answer {
    Answer::Status { status, headers: vec![("Location".to_owned(), location.to_owned())] }
}

/// Redirects requests for the refs of `/r.git` with the authority replaced in `location`, and answers no other request
/// for it.
fn from_r(status: u16, location: &str) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let location = location.to_owned();
    move |request| match &*request.path {
        "/r.git/info/refs" => {
            let host = request.header("host").unwrap_or_default();
            to(status, &location.replace("HOST", host))
        }
        path if path.starts_with("/r.git/") => Answer::status(422),
        _ => Answer::Git,
    }
}

#[test]
fn a_redirect_to_another_path_is_followed_and_sticks() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    for status in [301, 302, 303, 307, 308] {
        for location in [
            "/plain.git/info/refs?service=git-upload-pack",
            "http://HOST/plain.git/info/refs?service=git-upload-pack",
            "HTTP://HOST/plain.git/info/refs?service=git-upload-pack",
            "//HOST/plain.git/info/refs?service=git-upload-pack",
            "../../plain.git/info/refs?service=git-upload-pack",
            "/x/../plain.git/./info/refs?service=git-upload-pack",
            // git does not, because of the fragment.
            "/plain.git/info/refs?service=git-upload-pack#fragment",
            "/%70lain.git/info/refs?service=git-upload-pack",
        ] {
            let serve = || {
                let server = HttpServer::builder().serve_at("r.git", &repository).serve_at("plain.git", &repository);
                server.answer(from_r(status, location)).start()
            };
            let case = format!("{status} {location}");
            assert_git(!location.contains('#'), &[], &serve().url_at("r.git"), &case);
            let server = serve();
            assert_we_clone(&person, &server.url_at("r.git"), &[], &repository, &commit, &case);
            assert_eq!(server.requests().iter().filter(|request| request.path.starts_with("/r.git")).count(), 1);
            assert_eq!(server.connections(), 1, "{case}");
        }
    }
}

/// `/<number>.git` redirects to the next, and `/9.git` is there.
#[test]
fn a_chain_of_redirects_is_followed_and_a_loop_ends() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let chain = |request: &Request| {
        let number: u32 = request.path[1..].split('.').next().unwrap().parse().unwrap();
        match number {
            9 => Answer::Git,
            30 => to(302, &format!("/31.git/info/refs?{QUERY}")),
            31 => to(302, &format!("/30.git/info/refs?{QUERY}")),
            40 => to(302, &format!("/40.git/info/refs?{QUERY}")),
            number => to(301, &format!("/{}.git/info/refs?{QUERY}", number + 1)),
        }
    };
    let serve = || HttpServer::builder().serve_at("9.git", &repository).answer(chain).start();
    let server = serve();
    assert_git(true, &[], &server.url_at("1.git"), "8 redirects");
    assert_we_clone(&person, &server.url_at("1.git"), &[], &repository, &commit, "8 redirects");
    for start in ["30.git", "40.git", "100.git"] {
        let server = serve();
        assert_git(false, &[], &server.url_at(start), start);
        let before = server.requests().len();
        assert_we_refuse(&person, &server.url_at(start), &[], 77, &["redirects to"], start);
        assert!(server.requests().len() - before <= 12, "{start}");
    }
}

#[test]
fn a_redirect_that_cannot_be_followed_says_which_url_to_write() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    for (location, words) in [
        ("/plain.git/info/refs", "/plain.git; write that as the repository's URL"),
        ("http://HOST/plain.git/info/refs", "/plain.git; write that as the repository's URL"),
        ("/plain.git/info/refs?service=git-upload-pac", "/plain.git; write that"),
        ("/plain.git/info/refs?x=1#service=git-upload-pack", "/plain.git; write that"),
        ("/x/info/refs", "/x; write that as the repository's URL"),
        ("login", "a page that is no repository"),
        ("/users/sign_in?service=git-upload-pack", "a page that is no repository"),
        ("?x", "redirects to itself"),
        ("", "redirects to itself"),
        (
            "http://other.example.com/plain.git/info/refs?service=git-upload-pack",
            "another host, http://other.example.com/plain.git",
        ),
        (
            "https://alice:canary@other.example.com/a/info/refs?token=canary",
            "another host, https://other.example.com/a",
        ),
        ("ftp://HOST/plain.git/info/refs?service=git-upload-pack", "an address that cannot be read"),
        ("file:///etc/passwd", "an address that cannot be read"),
        ("http:///info/refs", "an address that cannot be read"),
    ] {
        for status in [301, 302, 307] {
            let serve = || {
                let server = HttpServer::builder().serve_at("r.git", &repository).serve_at("plain.git", &repository);
                server.answer(from_r(status, location)).start()
            };
            let case = format!("{status} {location}");
            assert_git(false, &[], &serve().url_at("r.git"), &case);
            let server = serve();
            let outcome = assert_we_refuse(&person, &server.url_at("r.git"), &[], 77, &[words], &case);
            for secret in ["canary", "SIG", "Permission denied"] {
                assert!(!outcome.stderr.contains(secret), "{}", outcome.stderr);
            }
        }
    }
}

/// As git, which follows none after the first request.
#[test]
fn a_redirect_of_the_second_request_is_not_followed() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    for status in [302, 307, 308] {
        let answer = move |request: &Request| match request.is_upload_pack() {
            true if request.path.starts_with("/r.git") => to(status, "/plain.git/git-upload-pack"),
            _ => Answer::Git,
        };
        let server = HttpServer::builder().serve_at("r.git", &repository).serve_at("plain.git", &repository);
        let server = server.answer(answer).start();
        let url = server.url_at("r.git");
        assert_git(false, &[], &url, "POST");
        assert_we_refuse(&person, &url, &[], 77, &["/plain.git; write that"], "POST");
        assert!(server.requests().iter().all(|request| !request.path.starts_with("/plain.git")));
    }
}

/// git follows to any host, and to any port. We go on to none that the policy and the sandbox have not seen.
#[test]
fn another_host_and_another_port_never_see_a_credential() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let authority = Authority::new();
    let trust = format!("http.sslCAInfo={}", authority.ca_file().display());
    let more = [
        person.configuration("{\"credentialsOverHttp\": true}"),
        person.secret(&[("username", "alice"), ("password", "canary-s3cret"), ("ca.crt", &authority.ca_pem())]),
    ];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let other = HttpServer::builder().serve_at("plain.git", &repository).start();
    let encrypted =
        HttpServer::builder().serve_at("plain.git", &repository).tls(authority.issue_for_loopback()).start();
    for (there, host) in
        [(&other, "127.0.0.1"), (&other, "localhost"), (&encrypted, "127.0.0.1"), (&encrypted, "localhost")]
    {
        let target = there.url_by(host, "plain.git");
        let answer = from_r(302, &format!("{target}/info/refs?{QUERY}"));
        let server = HttpServer::builder().serve_at("r.git", &repository).answer(answer).start();
        let output = git_clones(&["-c", &trust], &server.url_at("r.git"), &[]);
        assert!(output.status.success(), "git, {target}: {}", words(&output));
        let before = there.requests().len();
        let outcome = person.clone(&server.url_at("r.git"), &more);
        for request in &there.requests()[before..] {
            assert_eq!(request.authorization(), None, "{target}");
        }
        if outcome.status.success() {
            assert!(host == "127.0.0.1", "{target} is another host");
            person.discard_tree();
        } else {
            let outcome = outcome.assert_code(77);
            assert!(outcome.stderr.contains(&target), "{target} is not in: {}", outcome.stderr);
        }
    }
}

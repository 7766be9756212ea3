//! Servers that stall, lie, break off or never end: the clone ends in time, says why, and leaves nothing.

use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::hostile::SilentServer;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Outcome;

mod client_certificate;
mod identity;
mod redirects;

/// Far more than any of these takes on a busy machine, and far less than the default limits.
const PROMPT: Duration = Duration::from_secs(40);

const IMPATIENT: &str = r#"{"limits": {"stall": "2s"}}"#;

/// Asserts that the clone of `url` ends soon with `code` and `words`, and leaves nothing.
fn assert_ends(person: &Person, url: &str, arguments: &[&str], code: i32, words: &str) -> Outcome {
    let begun = Instant::now();
    let outcome = person.clone(url, arguments);
    let lasted = begun.elapsed();
    assert_eq!(outcome.status.code(), Some(code), "{url}: {outcome:?}");
    assert!(outcome.stderr.contains(words), "{words:?} is not in: {}", outcome.stderr);
    assert!(lasted < PROMPT, "{url}: after {lasted:?}: {}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    person.assert_nothing_left();
    outcome
}

/// The same, for a clone from a server with these answers.
fn assert_answer_ends(
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    configuration: &str,
    code: i32,
    words: &str,
) {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).answer(answer).start();
    let person = Person::new();
    let configuration = person.configuration(configuration);
    assert_ends(&person, &server.url(&repository), &[&configuration], code, words);
}

#[test]
fn server_that_accepts_and_stays_silent_is_given_up_in_every_protocol() {
    let server = SilentServer::start();
    let person = Person::new();
    let impatient = person.configuration(IMPATIENT);
    for scheme in ["http", "https", "ssh", "git"] {
        let url = server.url(scheme).replace("ssh://", "ssh://git@");
        assert_ends(&person, &url, &[&impatient], 69, "went silent");
    }
}

#[test]
fn server_that_goes_silent_after_its_greeting_is_given_up() {
    let person = Person::new();
    let impatient = person.configuration(IMPATIENT);
    let ssh = SilentServer::start_after(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert_ends(&person, &ssh.url("ssh").replace("ssh://", "ssh://git@"), &[&impatient], 69, "went silent");
    let http = SilentServer::start_after(b"HTTP/1.1 200 OK\r\n");
    assert_ends(&person, &http.url("http"), &[&impatient], 69, "went silent");
}

#[test]
fn answer_that_stops_in_its_headers_is_given_up() {
    assert_answer_ends(hostile::headers_end_midway(Ending::Silent), IMPATIENT, 69, "went silent");
}

#[test]
fn advertisement_that_stops_midway_is_given_up() {
    assert_answer_ends(hostile::advertisement_ends_midway(Ending::Silent), IMPATIENT, 69, "went silent");
}

#[test]
fn pack_that_stops_midway_is_given_up() {
    assert_answer_ends(hostile::pack_ends_midway(Ending::Silent), IMPATIENT, 69, "went silent");
}

#[test]
fn request_that_is_never_answered_is_given_up() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    let impatient = person.configuration(IMPATIENT);
    let phases: [fn(&Request) -> bool; 2] = [Request::is_info_refs, Request::is_upload_pack];
    for phase in phases {
        let _gate = server.hold(phase);
        assert_ends(&person, &server.url(&repository), &[&impatient], 69, "went silent");
    }
}

#[test]
fn pack_that_trickles_is_ended_by_the_timeout() {
    let answer = hostile::pack_trickles(Duration::from_millis(100));
    assert_answer_ends(answer, r#"{"limits": {"timeout": "3s"}}"#, 75, "given up");
}

/// The server is given up five seconds after it began, long before it is silent for one.
#[test]
fn s26_pack_that_trickles_is_ended_by_the_minimum_rate() {
    let answer = hostile::pack_trickles(Duration::from_millis(100));
    assert_answer_ends(answer, r#"{"limits": {"stall": "1s"}}"#, 69, "limits.minimumRate");
}

#[test]
fn pack_without_end_is_ended_by_the_limit_on_bytes() {
    assert_answer_ends(hostile::pack_never_ends(), r#"{"limits": {"fetchBytes": "2Mi"}}"#, 73, "limits.fetchBytes");
}

#[test]
fn progress_without_end_is_ended_by_the_limit_on_bytes() {
    assert_answer_ends(hostile::progress_never_ends(), r#"{"limits": {"fetchBytes": "2Mi"}}"#, 73, "limits.fetchBytes");
}

#[test]
fn advertisement_without_end_is_bounded() {
    let configuration = r#"{"limits": {"fetchBytes": "2Mi"}, "worker": {"memory": "512Mi"}}"#;
    assert_answer_ends(hostile::advertisement_never_ends(), configuration, 73, "");
}

#[test]
fn connection_that_breaks_off_is_reported_as_such() {
    assert_answer_ends(hostile::headers_end_midway(Ending::Broken), "{}", 69, "");
    assert_answer_ends(hostile::advertisement_ends_midway(Ending::Broken), "{}", 69, "");
    assert_answer_ends(hostile::pack_ends_midway(Ending::Broken), "{}", 69, "");
}

#[test]
fn answer_that_claims_to_be_complete_but_is_not_is_refused() {
    assert_answer_ends(hostile::advertisement_ends_midway(Ending::Complete), "{}", 69, "as a git server should");
    assert_answer_ends(hostile::pack_ends_midway(Ending::Complete), "{}", 69, "as a git server should");
}

#[test]
fn pack_of_garbage_is_refused() {
    assert_answer_ends(hostile::pack_is_garbage(), "{}", 65, "is damaged");
}

#[test]
fn server_that_does_not_speak_git_is_reported_as_such() {
    assert_answer_ends(|_| Answer::status(200), "{}", 69, "as a git server should");
    assert_answer_ends(|_| Answer::status(500), "{}", 69, "500");
    assert_answer_ends(|_| Answer::status(503), "{}", 69, "503");
    assert_answer_ends(|_| Answer::status(404), "{}", 66, "no such repository");
    assert_answer_ends(|_| Answer::status(403), "{}", 77, "forbids access");
}

#[test]
fn escapes_of_the_server_do_not_reach_the_terminal() {
    const ESCAPES: &str = "\x1b[2Jowned\x07";
    let answer = |request: &Request| {
        if !request.is_info_refs() {
            return Answer::Git;
        }
        Answer::raw(|wire| {
            use std::io::Write;
            let error = gitrepo_tests::pktline::packet(format!("ERR {ESCAPES}\n"));
            let service = gitrepo_tests::pktline::packet("# service=git-upload-pack\n");
            let body = [&service[..], gitrepo_tests::pktline::FLUSH, &error].concat();
            write!(wire, "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n")?;
            write!(wire, "Content-Length: {}\r\n\r\n", body.len())?;
            wire.write_all(&body)?;
            Ok(Ending::Complete)
        })
    };
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).answer(answer).start();
    let person = Person::new();
    let outcome = person.clone(&server.url(&repository), &["-vv"]);
    assert!(!outcome.status.success());
    assert!(!outcome.stderr.contains(['\x1b', '\x07']), "{:?}", outcome.stderr);
    person.assert_nothing_left();
}

#[test]
fn commit_of_another_repository_announced_as_its_own_is_not_served() {
    let (repository, _) = fixtures::small();
    let other = fixtures::many(3);
    let foreign = other.resolve("main");
    let without_objects = HttpServer::builder().serve(&repository).answer(hostile::announces(&foreign)).start();
    let without_answer =
        HttpServer::builder().serve(&repository).answer(hostile::announces_without_serving(&foreign)).start();
    let person = Person::new();
    for server in [&without_objects, &without_answer] {
        for revision in ["main", &foreign] {
            let outcome = person.clone(&server.url(&repository), &["--revision", revision]);
            assert!([65, 66, 69].contains(&outcome.code()), "{outcome:?}");
            person.assert_nothing_left();
        }
    }
}

#[test]
fn port_that_refuses_connections_is_unavailable_in_every_protocol() {
    let closed = ClosedPort::reserve();
    let person = Person::new();
    for scheme in ["http", "https", "ssh", "git"] {
        let url = closed.url(scheme).replace("ssh://", "ssh://git@");
        assert_ends(&person, &url, &[], 69, "cannot reach");
    }
}

#[test]
fn host_that_does_not_exist_is_unavailable() {
    let person = Person::new();
    assert_ends(&person, "https://host.invalid/a.git", &[], 69, "cannot resolve the name of the host host.invalid");
}

//! HTTP answers that are written in odd ways.

use std::io::Write;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::odd;
use gitrepo_tests::person::Person;

use super::assert_git;
use super::assert_we_clone;
use super::assert_we_refuse;

#[test]
fn an_answer_that_git_reads_is_read_over_every_protocol() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    for oddity in odd::ALL {
        let url = |server: &HttpServer| server.url(&repository);
        assert_git(true, &[], &url(&oddity.serve(&repository)), oddity.name);
        for protocol in [0, 2] {
            let server = oddity.over(HttpServer::builder().serve(&repository).protocol(protocol)).start();
            let case = format!("{} over version {protocol}", oddity.name);
            assert_we_clone(&person, &url(&server), &[], &repository, &commit, &case);
        }
    }
}

/// Answers the first `count` requests like this, and then as git does.
fn at_first(count: usize, head: &str, body: &str) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    move |request| if request.number <= count { raw(&text) } else { Answer::Git }
}

fn raw(text: &str) -> Answer {
    let text = text.to_owned();
    Answer::raw(move |wire| {
        wire.write_all(text.as_bytes())?;
        Ok(Ending::Complete)
    })
}

#[test]
fn a_server_that_asks_to_wait_is_asked_again() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let soon =
        |seconds: u64| httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(seconds));
    for (count, status, retry) in [
        (2, "429 Too Many Requests", "1".to_owned()),
        (1, "429", " 1 ".to_owned()),
        (1, "503 Service Unavailable", "0".to_owned()),
        (1, "503 Service Unavailable", soon(2)),
        (1, "429 Too Many Requests", "Fri, 31 Dec 1999 23:59:59 GMT".to_owned()),
    ] {
        let head = format!("{status}\r\nRetry-After: {retry}\r\nContent-Type: text/plain");
        let serve = || HttpServer::builder().serve(&repository).answer(at_first(count, &head, "slow down\n")).start();
        assert_git(false, &[], &serve().url(&repository), &head);
        let server = serve();
        assert_we_clone(&person, &server.url(&repository), &[], &repository, &commit, &head);
    }
}

#[test]
fn a_server_that_asks_to_wait_too_long_or_without_a_time_is_not_asked_again() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    for (status, fields) in [
        ("429 Too Many Requests", "Retry-After: 999999\r\n"),
        ("429 Too Many Requests", "Retry-After: tomorrow\r\n"),
        ("429 Too Many Requests", "Retry-After: -1\r\n"),
        ("503 Service Unavailable", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT\r\n"),
        ("503 Service Unavailable", ""),
        ("500 Internal Server Error", "Retry-After: 1\r\n"),
    ] {
        let head = format!("{status}\r\n{fields}Content-Type: text/plain");
        let answer = at_first(usize::MAX, &head, "\r\n  slow \x07down\nsecret details\n");
        let server = HttpServer::builder().serve(&repository).answer(answer).start();
        let words = [&status[..3], "slow"];
        let outcome = assert_we_refuse(&person, &server.url(&repository), &[], 69, &words, &head);
        assert!(!outcome.stderr.contains("secret details") && !outcome.stderr.contains('\x07'), "{}", outcome.stderr);
        assert_eq!(server.requests().len(), 1, "{head}");
    }
}

#[test]
fn what_is_not_gits_answer_is_named() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let id = "0123456789012345678901234567890123456789";
    let dumb = format!("{id}\trefs/heads/main\n");
    for (head, body, code, words) in [
        (
            "200 OK\r\nContent-Type: text/html; charset=utf-8",
            "<html><title>Sign in</title></html>",
            64,
            &["web page", "Sign in"][..],
        ),
        ("200 OK\r\nContent-Type: TEXT/HTML", "<HTML><TITLE>\n Sign\n in </TITLE>", 64, &["web page", "Sign in"]),
        ("200 OK\r\nContent-Type: application/xhtml+xml", "<html/>", 64, &["web page"]),
        ("200 OK\r\nContent-Type: text/html", "", 64, &["web page"]),
        ("200 OK\r\nContent-Type: text/plain", &dumb, 65, &["dumb"]),
        ("200 OK\r\nContent-Type: text/plain", "maintenance until noon\n", 69, &["maintenance until noon"]),
        ("200 OK\r\nContent-Type: application/json", "{\"a\": 1}", 69, &["application/json"]),
        ("403 Forbidden\r\nContent-Type: text/plain", "not from this network\n", 77, &["not from this network"]),
        (
            "404 Not Found\r\nContent-Type: text/plain",
            "it has moved to the attic\n",
            66,
            &["it has moved to the attic"],
        ),
        ("410 Gone\r\nContent-Type: text/html", "<h1>gone</h1>", 66, &["410"]),
        ("502 Bad Gateway\r\nContent-Type: text/html", "<h1>secret</h1>", 69, &["502"]),
        ("204 No Content", "", 69, &["204"]),
        ("206 Partial Content", "", 69, &["206"]),
        ("422 Unprocessable Entity", "", 69, &["422"]),
        ("600 Beyond", "", 69, &["600"]),
        (
            "200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Encoding: deflate",
            "x",
            69,
            &["deflate"],
        ),
        ("200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Encoding: gzip", "x", 69, &[]),
        ("200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement", "hello", 69, &["hell"]),
        ("200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement", "", 69, &[]),
    ] {
        let serve = || HttpServer::builder().serve(&repository).answer(at_first(usize::MAX, head, body)).start();
        assert_git(false, &[], &serve().url(&repository), head);
        let server = serve();
        let outcome = assert_we_refuse(&person, &server.url(&repository), &[], code, words, head);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
    }
}

/// A deadline of the test bounds each case, not a sleep.
#[test]
fn an_answer_that_breaks_off_is_an_error_and_never_hangs() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let git = "Content-Type: application/x-git-upload-pack-advertisement";
    for text in [
        String::new(),
        "HTTP/1.1 200 OK".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{git}\r\n"),
        format!("HTTP/1.1 200 OK\r\n{git}\r\nContent-Length: 100\r\n\r\n001e# service"),
        format!("HTTP/1.1 200 OK\r\n{git}\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n001e"),
        format!("HTTP/1.1 200 OK\r\n{git}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n001e"),
        format!("HTTP/1.1 200 OK\r\n{git}\r\n\r\n001e# service=git-upload-pack\n0000"),
        "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        "ICY 200 OK\r\n\r\n".to_owned(),
    ] {
        let case = text.clone();
        let serve = || {
            let text = text.clone();
            let broken = Answer::raw(move |wire| {
                wire.write_all(text.as_bytes())?;
                Ok(Ending::Broken)
            });
            HttpServer::builder().serve(&repository).answer(move |_| broken.clone()).start()
        };
        assert_git(false, &[], &serve().url(&repository), &case);
        let server = serve();
        assert_we_refuse(&person, &server.url(&repository), &[], 69, &[], &case);
    }
}

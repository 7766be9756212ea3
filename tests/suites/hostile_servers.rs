//! The harness's hostile servers, tested with git itself.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::hostile;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::hostile::SilentServer;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use tempfile::TempDir;

/// A clone by git, in libgit2's protocol version 0.
fn clone(place: &TempDir, options: &[&str], url: &str) -> Command {
    let mut command = git::command(place.path());
    command.args(["-c", "protocol.version=0"]).args(options);
    command.args(["clone", "--quiet", "--bare", "--depth=1", url, "clone.git"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The message of a clone that fails.
fn failure(options: &[&str], url: &str) -> String {
    let place = TempDir::new().unwrap();
    words(clone(&place, options, url).output().unwrap())
}

fn words(output: Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "git clones: {words}");
    words
}

fn serve(repository: &Repository, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> HttpServer {
    HttpServer::builder().serve(repository).answer(answer).start()
}

/// Makes git give up after two seconds with less than a byte per second.
fn patience() -> [&'static str; 4] {
    ["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=2"]
}

/// Asserts that git gives up on `url` only by its own timeout.
fn assert_stalls(url: &str) {
    let start = Instant::now();
    let words = failure(&patience(), url);
    assert!(words.contains("Operation too slow"), "{words}");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[test]
fn servers_stay_silent_after_accept_and_after_tls() {
    let silent = SilentServer::start();
    assert_stalls(&silent.url("http"));
    assert_eq!(silent.connections(), 1);
    let authority = Authority::new();
    let silent = SilentServer::start_after_tls(authority.issue_for_loopback());
    let trust = format!("http.sslCAInfo={}", authority.ca_file().display());
    let words = failure(&[&patience()[..], &["-c", &trust]].concat(), &silent.url("https"));
    assert!(words.contains("Operation too slow"), "{words}");
}

#[test]
fn servers_go_silent_in_headers_advertisement_and_pack() {
    let repository = fixtures::many(50);
    assert_stalls(&serve(&repository, hostile::headers_end_midway(Ending::Silent)).url(&repository));
    assert_stalls(&serve(&repository, hostile::advertisement_ends_midway(Ending::Silent)).url(&repository));
    let server = serve(&repository, hostile::pack_ends_midway(Ending::Silent));
    assert_stalls(&server.url(&repository));
    assert_eq!(server.packs(), 1);
}

#[test]
fn silent_server_can_be_dropped_while_a_client_waits() {
    let silent = SilentServer::start();
    let place = TempDir::new().unwrap();
    let client = clone(&place, &[], &silent.url("http")).spawn().unwrap();
    while silent.connections() == 0 {
        std::thread::yield_now();
    }
    drop(silent);
    assert!(words(client.wait_with_output().unwrap()).contains("Empty reply"));
}

#[test]
fn broken_answers_break_in_the_right_place() {
    let repository = fixtures::many(50);
    let clone_from = |server: HttpServer| failure(&[], &server.url(&repository));
    clone_from(serve(&repository, hostile::headers_end_midway(Ending::Broken)));
    clone_from(serve(&repository, hostile::advertisement_ends_midway(Ending::Broken)));
    let words = clone_from(serve(&repository, hostile::pack_ends_midway(Ending::Broken)));
    assert!(words.contains("transfer closed"), "{words}");
    let words = clone_from(serve(&repository, hostile::pack_ends_midway(Ending::Complete)));
    assert!(words.contains("early EOF") || words.contains("invalid index-pack output"), "{words}");
    let words = clone_from(serve(&repository, hostile::pack_is_garbage()));
    assert!(words.contains("inflate") || words.contains("unknown object type"), "{words}");
}

#[test]
fn git_understands_refusals() {
    let (repository, _) = fixtures::small();
    for (status, expected) in [(403, "error: 403"), (404, "not found"), (500, "error: 500")] {
        let server = serve(&repository, move |_| Answer::status(status));
        let words = failure(&[], &server.url(&repository));
        assert!(words.contains(expected), "{status}: {words}");
    }
    let server = serve(&repository, hostile::unauthorized_for_ever());
    let words = failure(&[], &server.url(&repository).replace("//", "//alice:secret@"));
    assert!(words.contains("Authentication failed"), "{words}");
    assert!(server.requests().iter().any(|request| request.authorization().is_some()));
}

#[test]
fn redirect_leads_to_a_server_that_records_requests() {
    let (repository, commit) = fixtures::small();
    let target = HttpServer::start(&repository);
    let base = format!("http://127.0.0.1:{}", target.port());
    let server = serve(&repository, hostile::redirects_to(&base, 302));
    let place = TempDir::new().unwrap();
    let header = ["-c", "http.extraHeader=X-Canary: seen", "-c", "http.extraHeader=Authorization: Bearer canary"];
    git::output(&mut clone(&place, &header, &server.url(&repository)));
    assert_eq!(git::line(git::command(&place.path().join("clone.git")).args(["rev-parse", "HEAD"])), commit);
    assert_eq!((server.info_refs(), target.info_refs()), (1, 1));
    assert_eq!(server.requests()[0].authorization(), Some("Bearer canary"));
    assert_eq!(target.requests()[0].header("x-canary"), Some("seen"));
    assert_eq!(target.requests()[0].authorization(), None, "curl does not send it to another port");
}

/// Kills the client once the server has sent `bytes`; panics if the client ends before.
fn outlast(mut client: Child, server: &HttpServer, bytes: u64) {
    let start = Instant::now();
    while server.bytes_sent() < bytes {
        assert!(start.elapsed() < Duration::from_secs(60), "only {} bytes were sent", server.bytes_sent());
        assert!(client.try_wait().unwrap().is_none(), "the client ended by itself");
        std::thread::yield_now();
    }
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn endless_answers_outlast_git() {
    const PLENTY: u64 = 16 << 20;
    let (repository, _) = fixtures::small();
    let attack = |server: HttpServer, bytes: u64| {
        let place = TempDir::new().unwrap();
        // Its messages may be endless too, and are not read.
        let client = clone(&place, &[], &server.url(&repository)).stderr(Stdio::null()).spawn().unwrap();
        outlast(client, &server, bytes);
    };
    attack(serve(&repository, hostile::advertisement_never_ends()), PLENTY);
    attack(serve(&repository, hostile::pack_never_ends()), PLENTY);
    attack(serve(&repository, hostile::progress_never_ends()), PLENTY);
    attack(serve(&repository, hostile::pack_trickles(Duration::from_millis(1))), 2000);
}

#[test]
fn foreign_commit_is_announced_but_not_served() {
    let (repository, commit) = fixtures::small();
    let announced = |server: &HttpServer| {
        let mut list = git::command(repository.root());
        git::line(list.args(["-c", "protocol.version=0", "ls-remote", &server.url(&repository)]))
    };
    let liar = serve(&repository, hostile::announces(&commit));
    assert_eq!(announced(&liar), format!("{commit}\tHEAD\n{commit}\trefs/heads/main"));
    let words = failure(&[], &liar.url(&repository));
    assert!(words.contains("bad object") || words.contains("did not send all necessary objects"), "{words}");

    let liar = serve(&repository, hostile::announces_without_serving(&commit));
    assert_eq!(announced(&liar).lines().count(), 2);
    let words = failure(&[], &liar.url(&repository));
    assert!(words.contains("not our ref"), "{words}");
}

#[test]
fn closed_port_refuses_while_it_is_held() {
    let closed = ClosedPort::reserve();
    for _ in 0..2 {
        let error = std::net::TcpStream::connect(("127.0.0.1", closed.port())).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    std::net::TcpListener::bind(("127.0.0.1", closed.port())).unwrap_err();
}

#[test]
fn ssh_server_goes_silent_in_the_right_place() {
    if !require::tool("sshd") || !require::tool("ssh") {
        return;
    }
    let repository = fixtures::many(50);
    let key = ClientKey::new();
    let honest = git::output(&mut repository.git(["upload-pack", "--http-backend-info-refs", "."])).len();
    for bytes in [0, honest / 2, honest + 1000] {
        let server = SshServer::builder().authorize(&key).force_command(&hostile::ssh_command_cut_after(bytes)).start();
        let place = TempDir::new().unwrap();
        let mut client = clone(&place, &[], &server.url(&repository));
        let mut client = client.env("GIT_SSH_COMMAND", server.client_command(&key)).spawn().unwrap();
        while server.sessions() == 0 {
            assert!(client.try_wait().unwrap().is_none(), "{}", server.log());
            std::thread::yield_now();
        }
        drop(server);
        words(client.wait_with_output().unwrap());
    }
}

#[test]
fn server_goes_silent_after_an_ssh_greeting() {
    if !require::tool("ssh") {
        return;
    }
    let silent = SilentServer::start_after(b"SSH-2.0-OpenSSH_9.2\r\n");
    let mut client = Command::new("ssh");
    client.args(["-v", "-F", "none", "-o", "BatchMode=yes", "-p", &silent.port().to_string(), "127.0.0.1"]);
    let mut client = client.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(client.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("remote software version OpenSSH_9.2")));
    assert!(client.try_wait().unwrap().is_none());
    drop(silent);
    assert!(said.any(|line| line.contains("Connection closed") || line.contains("Connection reset")));
    assert!(!client.wait().unwrap().success());
}

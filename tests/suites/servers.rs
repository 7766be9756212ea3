//! The harness's honest servers, tested with git.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::authority::Identity;
use gitrepo_tests::daemon::GitDaemon;
use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::repository::Files;
use gitrepo_tests::require;
use gitrepo_tests::ssh::Algorithm;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::Format;
use gitrepo_tests::ssh::SshServer;
use tempfile::TempDir;

/// `git <options> clone --bare --depth 1 <url>`, with the environment changed.
fn clone(place: &Path, options: &[&str], url: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = git::command(place);
    command.args(options).args(["clone", "--quiet", "--bare", "--depth=1", "--no-tags", url, "clone.git"]);
    command.envs(environment.iter().copied());
    command
}

/// Clones, and returns the commit.
fn cloned(options: &[&str], url: &str, environment: &[(&str, &str)]) -> String {
    let place = TempDir::new().unwrap();
    git::output(&mut clone(place.path(), options, url, environment));
    git::line(git::command(&place.path().join("clone.git")).args(["rev-parse", "HEAD"]))
}

/// git's message when it cannot clone.
fn refused(options: &[&str], url: &str) -> String {
    let place = TempDir::new().unwrap();
    let output = clone(place.path(), options, url, &[]).output().unwrap();
    assert!(!output.status.success(), "git clones {url}");
    String::from_utf8(output.stderr).unwrap()
}

/// Versions of the protocol, with the number of requests for a pack that a shallow clone makes: version 0 first asks for
/// the shallow boundary alone.
const PROTOCOLS: [(&str, usize); 2] = [("protocol.version=0", 2), ("protocol.version=2", 1)];

#[test]
fn http_server_serves_a_repository_in_both_protocols_and_counts() {
    let fixture = fixtures::everything();
    for (protocol, requests) in PROTOCOLS {
        let server = HttpServer::start(&fixture.repository);
        assert_eq!(cloned(&["-c", protocol], &server.url(&fixture.repository), &[]), fixture.commit);
        server.settle();
        assert_eq!(server.info_refs(), 1);
        assert_eq!(server.upload_packs(), requests, "{protocol}");
        assert_eq!(server.packs(), 1, "{protocol}");
        assert!(server.bytes_sent() > u64::try_from(fixtures::LARGE).unwrap(), "incompressible bytes were sent");
        let per_request: u64 = server.requests().iter().map(|request| request.sent()).sum();
        assert_eq!(per_request, server.bytes_sent());
        assert_eq!(server.connections(), 1, "the connection is reused");
    }
}

#[test]
fn http_server_that_closes_connections_serves_too() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).close_connections().start();
    assert_eq!(cloned(&["-c", PROTOCOLS[0].0], &server.url(&repository), &[]), commit);
    assert_eq!(server.connections(), 3, "one for each request");
}

#[test]
fn http_server_understands_compressed_requests() {
    let (repository, _) = fixtures::small();
    // Enough `want` lines that git compresses them.
    for number in 0..40 {
        let commit = repository.commit("main", &Files::new());
        repository.set_branch(&format!("branch-{number}"), &commit);
    }
    let server = HttpServer::start(&repository);
    let place = TempDir::new().unwrap();
    let mut mirror = git::command(place.path());
    mirror.args(["-c", PROTOCOLS[0].0, "clone", "--quiet", "--mirror", &server.url(&repository), "clone.git"]);
    git::output(&mut mirror);
    assert!(server.requests().iter().any(|request| request.header("content-encoding") == Some("gzip")));
    let branches = git::line(git::command(&place.path().join("clone.git")).arg("branch"));
    assert_eq!(branches.lines().count(), 41);
}

#[test]
fn http_server_understands_a_chunked_body_and_expect() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let wish = format!("0032want {commit}\n00000009done\n");
    let head = "POST /small.git/git-upload-pack HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n\
                Content-Type: application/x-git-upload-pack-request\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    client.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (start, end) = wish.split_at(10);
    write!(client, "{:x}\r\n{start}\r\n{:x}\r\n{end}\r\n0\r\n\r\n", start.len(), end.len()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
    assert!(server.requests()[0].brought_pack());
    assert_eq!(server.requests()[0].body, wish.as_bytes());
}

#[test]
fn http_server_serves_commits_by_id_only_if_the_repository_allows_it() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let fetch = || {
        let place = TempDir::new().unwrap();
        git::output(git::command(place.path()).args(["init", "--quiet", "--bare"]));
        let mut command = git::command(place.path());
        command.args(["-c", PROTOCOLS[0].0, "fetch", "--quiet", "--depth=1"]);
        command.args([&server.url(&fixture.repository), &fixture.unreachable]).output().unwrap().status.success()
    };
    assert!(fetch());
    fixture.repository.refuse_commits_by_id();
    assert!(!fetch());
}

#[test]
fn http_server_accepts_only_its_credentials() {
    let (repository, commit) = fixtures::small();
    let (basic, bearer) = (Credential::Basic("alice", "pass:word"), Credential::Bearer("token-1"));
    let server = HttpServer::builder().serve(&repository).accept(basic.clone()).accept(bearer.clone()).start();
    let url = server.url(&repository);
    for credential in [&basic, &bearer] {
        let header = format!("http.extraHeader=Authorization: {}", credential.header());
        assert_eq!(cloned(&["-c", &header], &url, &[]), commit);
    }
    let wrong = format!("http.extraHeader=Authorization: {}", Credential::Bearer("token-2").header());
    for options in [&[][..], &["-c", &wrong]] {
        assert!(refused(options, &url).contains("terminal prompts disabled"));
    }
    server.accept_only(&[basic]);
    refused(&["-c", &format!("http.extraHeader=Authorization: {}", bearer.header())], &url);
}

#[test]
fn http_server_sends_a_challenge_before_it_gets_a_password() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).accept(Credential::Basic("alice", "secret")).start();
    let place = TempDir::new().unwrap();
    let helper = place.path().join("askpass");
    std::fs::write(&helper, "#!/bin/sh\ncase $1 in Username*) echo alice;; *) echo secret;; esac\n").unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(cloned(&[], &server.url(&repository), &[("GIT_ASKPASS", helper.to_str().unwrap())]), commit);
    let shown: Vec<bool> = server.requests().iter().map(|request| request.authorization().is_some()).collect();
    assert_eq!(shown[..2], [false, true]);
}

#[test]
fn http_server_serves_only_its_repositories() {
    let (one, commit) = fixtures::small();
    let two = fixtures::many(10);
    let server = HttpServer::builder().serve_at("group/with space/one", &one).start();
    assert_eq!(cloned(&[], &server.url_at("group/with%20space/one"), &[]), commit);
    assert!(refused(&[], &server.url(&two)).contains("not found"));
    server.add(&two);
    assert_eq!(cloned(&[], &server.url(&two), &[]), two.resolve("main"));
}

#[test]
fn http_server_shows_a_push_at_once() {
    let (repository, first) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let second = repository.commit("main", &Files::new().file("second", "2\n"));
    assert_eq!(cloned(&[], &url, &[]), second);
    repository.set_branch("main", &first);
    assert_eq!(cloned(&[], &url, &[]), first);
    repository.delete_branch("main");
    let place = TempDir::new().unwrap();
    let output = clone(place.path(), &[], &url, &[]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("empty repository"));
}

#[test]
fn https_server_is_trusted_only_with_its_authority() {
    let (repository, commit) = fixtures::small();
    let authority = Authority::new();
    let options = ["-c", &format!("http.sslCAInfo={}", authority.ca_file().display())];
    let serve = |identity: Identity| HttpServer::builder().serve(&repository).tls(identity).start();

    let honest = serve(authority.issue_for_loopback());
    let url = honest.url(&repository);
    assert!(url.starts_with("https://127.0.0.1:"));
    assert_eq!(cloned(&options, &url, &[]), commit);
    assert_eq!(cloned(&options, &url.replace("127.0.0.1", "localhost"), &[]), commit);
    assert!(refused(&[], &url).contains("certificate"));

    let liars = [
        ("a wrong name", serve(authority.issue(&["elsewhere.example.com"]))),
        ("an unknown signer", serve(Identity::self_signed(&["localhost", "127.0.0.1"]))),
        ("another authority", serve(Authority::new().issue_for_loopback())),
        ("an expired certificate", serve(authority.issue_expired(&["localhost", "127.0.0.1"]))),
    ];
    for (what, server) in liars {
        assert!(refused(&options, &server.url(&repository)).contains("certificate"), "{what}");
        assert!(server.requests().is_empty(), "{what}: no request before the certificate is trusted");
    }
}

#[test]
fn gate_holds_requests_until_it_is_opened() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(Request::is_upload_pack);
    let url = server.url(&repository);
    std::thread::scope(|scope| {
        let clones: Vec<_> = (0..3).map(|_| scope.spawn(|| cloned(&["-c", PROTOCOLS[0].0], &url, &[]))).collect();
        gate.wait_for(3);
        assert!(clones.iter().all(|clone| !clone.is_finished()));
        gate.open();
        assert!(clones.into_iter().all(|clone| clone.join().unwrap() == commit));
    });
    assert_eq!(server.packs(), 3);
}

#[test]
fn dropped_server_disconnects_its_clients() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let gate = server.hold(|_| true);
    let place = TempDir::new().unwrap();
    let mut client = clone(place.path(), &[], &server.url(&repository), &[]).stderr(Stdio::null()).spawn().unwrap();
    gate.wait_for(1);
    let port = server.port();
    drop(server);
    assert!(!client.wait().unwrap().success());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn ssh_server_serves_an_authorized_key() {
    if !require::tool("sshd") || !require::tool("ssh") {
        return;
    }
    let fixture = fixtures::everything();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let url = server.url(&fixture.repository);
    let ssh = server.client_command(&key);
    for (protocol, _) in PROTOCOLS {
        assert_eq!(cloned(&["-c", protocol], &url, &[("GIT_SSH_COMMAND", &ssh)]), fixture.commit, "{}", server.log());
    }
    assert_eq!(server.sessions(), 2);
    assert_eq!(server.connections(), 2);

    let place = TempDir::new().unwrap();
    let stranger = server.client_command(&ClientKey::new());
    let output = clone(place.path(), &[], &url, &[("GIT_SSH_COMMAND", &stranger)]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("Permission denied"));
    assert_eq!(server.sessions(), 2);
}

#[test]
fn ssh_server_has_its_own_host_keys_of_three_kinds() {
    if !require::tool("sshd") || !require::tool("ssh") {
        return;
    }
    let (repository, commit) = fixtures::small();
    let key = ClientKey::new();
    let (server, other) = (SshServer::start(&key), SshServer::start(&key));
    let ssh = server.client_command(&key);
    for kind in ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256"] {
        let ssh = format!("{ssh} -o HostKeyAlgorithms={kind}");
        assert_eq!(cloned(&[], &server.url(&repository), &[("GIT_SSH_COMMAND", &ssh)]), commit);
    }
    assert!(server.public_host_key(Algorithm::Ed25519).starts_with("ssh-ed25519 AAAA"));

    let place = TempDir::new().unwrap();
    let known_hosts = place.path().join("known_hosts");
    std::fs::write(&known_hosts, other.known_hosts_at(&format!("[127.0.0.1]:{}", server.port()))).unwrap();
    let ssh = format!("ssh -o UserKnownHostsFile={} {}", known_hosts.display(), &ssh[4..]);
    let output = clone(place.path(), &[], &server.url(&repository), &[("GIT_SSH_COMMAND", &ssh)]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("Host key verification failed"));
}

#[test]
fn client_keys_have_the_right_kind() {
    if !require::tool("ssh-keygen") {
        return;
    }
    for (algorithm, format, key) in ClientKey::all_kinds() {
        let first = key.private.lines().next().unwrap();
        let expected = match (format, algorithm) {
            (Format::OpenSsh, _) => "-----BEGIN OPENSSH PRIVATE KEY-----",
            (Format::Pem, Algorithm::Ecdsa) => "-----BEGIN EC PRIVATE KEY-----",
            (Format::Pem, _) => "-----BEGIN RSA PRIVATE KEY-----",
        };
        assert_eq!(first, expected);
        let place = TempDir::new().unwrap();
        let file = place.path().join("key");
        std::fs::write(&file, &key.private).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let opens = |passphrase: &str| {
            let mut command = Command::new("ssh-keygen");
            command.args(["-y", "-P", passphrase, "-f"]).arg(&file).output().unwrap().status.success()
        };
        assert!(opens(key.passphrase.unwrap_or_default()));
        assert_eq!(opens("wrong"), key.passphrase.is_none());
    }
}

#[test]
fn git_daemon_serves_a_repository() {
    let (repository, commit) = fixtures::small();
    let daemon = GitDaemon::start();
    assert_eq!(cloned(&[], &daemon.url(&repository), &[]), commit);
    assert_eq!(daemon.connections(), 1);
}

//! Servers that are not who they claim to be, or ask for credentials that they must not get.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::authority::Identity;
use gitrepo_tests::fixtures;
use gitrepo_tests::hostile;
use gitrepo_tests::hostile::SilentServer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;

use super::IMPATIENT;
use super::assert_ends;

#[test]
fn silent_tls_server_is_given_up() {
    let authority = Authority::new();
    let server = SilentServer::start_after_tls(authority.issue_for_loopback());
    let person = Person::new();
    let trust = person.secret(&[("ca.crt", &authority.ca_pem())]);
    let impatient = person.configuration(IMPATIENT);
    assert_ends(&person, &server.url("https"), &[&trust, &impatient], 69, "went silent");
}

#[test]
fn untrusted_certificate_is_refused_before_any_request() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let person = Person::new();
    let trust = person.secret(&[("ca.crt", &authority.ca_pem()), ("token", "secret")]);
    let ours = &["localhost", "127.0.0.1"];
    let unknown =
        "is signed by no trusted authority; a private authority's certificate belongs into the secret key ca.crt";
    for (identity, reason) in [
        (
            authority.issue(&["elsewhere.example.com", "127.0.0.2"]),
            "is for another host; write the URL with a host name",
        ),
        (Identity::self_signed(ours), unknown),
        (Authority::new().issue_for_loopback(), unknown),
        (authority.issue_expired(ours), "has expired; it must be renewed on the server"),
        (authority.issue_for_the_future(ours), "is not valid yet; is the clock of this node"),
    ] {
        let server = HttpServer::builder().serve(&repository).tls(identity).start();
        let url = server.url(&repository);
        for url in [&url, &url.replace("127.0.0.1", "localhost")] {
            let outcome = assert_ends(&person, url, &[&trust], 77, &format!("the certificate of {url} {reason}"));
            assert_eq!(outcome.stderr.contains("ca.crt"), reason == unknown, "{}", outcome.stderr);
        }
        assert!(server.requests().is_empty(), "{reason}");
    }
}

#[test]
fn certificate_of_names_alone_is_refused_for_an_address() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let person = Person::new();
    let trust = person.secret(&[("ca.crt", &authority.ca_pem()), ("token", "secret")]);
    let server = HttpServer::builder().serve(&repository).tls(authority.issue(&["localhost"])).start();
    assert_ends(&person, &server.url(&repository), &[&trust], 77, "is for another host");
    assert!(server.requests().is_empty());
}

#[test]
fn certificate_without_any_address_is_refused_for_an_address() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let person = Person::new();
    let trust = person.secret(&[("ca.crt", &authority.ca_pem()), ("token", "secret")]);
    let server = HttpServer::builder().serve(&repository).tls(authority.issue(&["localhost"])).start();
    let outcome = person.clone(&server.url(&repository), &[&trust]);
    assert!([69, 77].contains(&outcome.code()), "{outcome:?}");
    assert!(server.requests().is_empty());
    person.assert_nothing_left();
}

#[test]
fn unknown_authority_is_refused_and_the_message_names_the_key_to_add() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder().serve(&repository).tls(authority.issue_for_loopback()).start();
    let person = Person::new();
    assert_ends(&person, &server.url(&repository), &[], 77, "ca.crt");
}

#[test]
fn ssh_host_key_that_is_unknown_or_changed_is_refused_and_the_message_shows_it() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let (server, other) = (SshServer::start(&key), SshServer::start(&key));
    let person = Person::new();
    let url = server.url(&repository);
    let here = format!("[127.0.0.1]:{}", server.port());
    let revoked: String = server.known_hosts().lines().map(|line| format!("@revoked {line}\n")).collect();
    for (known_hosts, words) in
        [(other.known_hosts(), "is unknown"), (other.known_hosts_at(&here), "has changed"), (revoked, "is revoked")]
    {
        let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &known_hosts)]);
        let outcome = assert_ends(&person, &url, &[&secret], 77, words);
        assert!(outcome.stderr.contains("SHA256:"), "no fingerprint: {}", outcome.stderr);
        assert!(outcome.stderr.contains(&here), "no host: {}", outcome.stderr);
    }
    assert_eq!(server.sessions(), 0, "there was no login");
}

#[test]
fn known_hosts_line_in_the_message_works() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let person = Person::new();
    let secret = person.secret(&[("ssh-privatekey", &key.private)]);
    let outcome = assert_ends(&person, &server.url(&repository), &[&secret], 77, "add this line to known_hosts");
    let offered = outcome.stderr.lines().next().unwrap().rsplit_once(": ").unwrap().1;
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", offered)]);
    person.clone(&server.url(&repository), &[&secret]).assert_success();
}

#[test]
fn ssh_key_that_the_server_does_not_know_is_refused() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let server = SshServer::start(&ClientKey::new());
    let person = Person::new();
    let stranger = ClientKey::new();
    let secret = person.secret(&[("ssh-privatekey", &stranger.private), ("known_hosts", &server.known_hosts())]);
    let url = server.url(&repository);
    assert_ends(&person, &url, &[&secret], 77, "refused the credential (ssh-privatekey)");
    let keyless = person.secret(&[("known_hosts", &server.known_hosts())]);
    assert_ends(&person, &url, &[&keyless], 77, "ssh-privatekey");
}

#[test]
fn ssh_session_that_stops_anywhere_is_given_up() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let person = Person::new();
    let impatient = person.configuration(IMPATIENT);
    for bytes in [0, 40, 700] {
        let command = hostile::ssh_command_cut_after(bytes);
        let server = SshServer::builder().authorize(&key).force_command(&command).start();
        let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
        assert_ends(&person, &server.url(&repository), &[&secret, &impatient], 69, "went silent");
    }
}

#[test]
fn server_that_accepts_no_credential_gets_each_once() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder()
        .serve(&repository)
        .tls(authority.issue_for_loopback())
        .answer(hostile::unauthorized_for_ever())
        .start();
    let person = Person::new();
    let ca = authority.ca_pem();
    let basic = [("ca.crt", &*ca), ("username", "alice"), ("password", "secret")];
    let bearer = [("ca.crt", &*ca), ("token", "secret")];
    for (keys, words) in [(&basic[..], "refused the credential"), (&bearer, "credential")] {
        let before = server.requests().len();
        assert_ends(&person, &server.url(&repository), &[&person.secret(keys)], 77, words);
        let shown = server.requests()[before..].iter().filter(|request| request.authorization().is_some()).count();
        assert!(shown <= 1, "{shown} times");
    }
    let before = server.requests().len();
    let nothing = person.secret(&[("ca.crt", &ca)]);
    assert_ends(&person, &server.url(&repository), &[&nothing], 77, "wants a credential");
    assert_eq!(server.requests().len() - before, 1);
}

#[test]
fn credential_is_not_sent_over_plain_http_unless_configured() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::builder().serve(&repository).accept(Credential::Basic("alice", "secret")).start();
    let person = Person::new();
    let secret = person.secret(&[("username", "alice"), ("password", "secret")]);
    let url = server.url(&repository);
    assert_ends(&person, &url, &[&secret], 77, "plain http");
    assert!(server.requests().iter().all(|request| request.authorization().is_none()));
    let allowed = person.configuration(r#"{"credentialsOverHttp": true}"#);
    person.clone(&url, &[&secret, &allowed]).assert_success();
}

#[test]
fn credential_for_another_host_is_not_sent() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let server = HttpServer::builder()
        .serve(&repository)
        .tls(authority.issue_for_loopback())
        .accept(Credential::Bearer("secret"))
        .start();
    let person = Person::new();
    let secret = person.secret(&[("ca.crt", &authority.ca_pem()), ("other.example.com.token", "secret")]);
    assert_ends(&person, &server.url(&repository), &[&secret], 77, "wants a credential");
    assert!(server.requests().iter().all(|request| request.authorization().is_none()));
}

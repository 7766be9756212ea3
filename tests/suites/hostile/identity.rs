//! Servers that are not who they claim to be, or ask for credentials that they must not get.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
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
fn server_that_wants_a_client_certificate_gets_the_secrets_or_none() {
    let (repository, _) = fixtures::small();
    let (servers, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let identity = servers.issue_for_loopback().for_clients_of(&clients);
    let server = HttpServer::builder().serve(&repository).tls(identity).start();
    let (url, ca) = (server.url(&repository), servers.ca_pem());
    let person = Person::new();
    let (right, stranger) = (clients.issue(&["client.example"]), others.issue(&["client.example"]));
    let secret = |host: &str, certificate: &str, key: &str| {
        let (certificate_key, key_key) = (format!("{host}tls.crt"), format!("{host}tls.key"));
        person.secret(&[("ca.crt", &ca), (&certificate_key, certificate), (&key_key, key)])
    };
    for host in ["", "127.0.0.1."] {
        person.clone(&url, &[&secret(host, &right.pem(), &right.key_pem())]).assert_success();
        person.discard_tree();
    }
    let pasted = format!("\u{feff}{}", right.pem().replace('\n', "\r\n  "));
    person.clone(&url, &[&secret("", &pasted, &right.key_pem().replace('\n', "\n  "))]).assert_success();
    person.discard_tree();
    let elsewhere = secret("git.example.com.", &right.pem(), &right.key_pem());
    for (secret, words) in [
        (person.secret(&[("ca.crt", &ca)]), "wants a credential (tls.crt and tls.key)"),
        (elsewhere, "wants a credential (tls.crt and tls.key)"),
        (secret("", &stranger.pem(), &stranger.key_pem()), "refused the credential (tls.crt)"),
        (secret("", &right.pem(), &stranger.key_pem()), "tls.key is not the private key of the first certificate"),
    ] {
        let outcome = assert_ends(&person, &url, &[&secret, "-vv"], 77, words);
        for line in right.key_pem().lines().chain(stranger.key_pem().lines()).filter(|line| !line.starts_with('-')) {
            assert!(!outcome.stderr.contains(line), "{}", outcome.stderr);
        }
    }
}

#[test]
fn certificate_of_any_kind_is_a_trust_anchor_however_it_was_pasted() {
    let (repository, _) = fixtures::small();
    let root = Authority::new();
    let intermediate = root.intermediate();
    let identity = intermediate.issue_for_loopback();
    let server = HttpServer::builder().serve(&repository).tls(identity.clone()).start();
    let url = server.url(&repository);
    let person = Person::new();
    let other = Authority::new().ca_pem();
    let joined = format!("{}{}", other.trim_end(), intermediate.ca_pem());
    let indented = format!("  {}", joined.replace('\n', "\n  "));
    let with_text = format!("# an authority\n{other}\nsubject=CN = x\n{}the end", intermediate.ca_pem());
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("ca.pem");
    for bundle in [
        intermediate.ca_pem(),
        identity.pem(),
        root.ca_pem() + &intermediate.ca_pem(),
        joined.clone(),
        indented,
        with_text,
        format!("\u{feff}{joined}"),
        joined.replace('\n', "\r\n"),
    ] {
        std::fs::write(&file, &bundle).unwrap();
        let configured = person.configuration(&format!("{{\"caFile\": {file:?}}}"));
        for more in [person.secret(&[("ca.crt", &bundle)]), configured] {
            person.clone(&url, &[&more]).assert_success();
            person.discard_tree();
        }
    }
    assert_ends(&person, &url, &[&person.secret(&[("ca.crt", &root.ca_pem())])], 77, "no trusted authority");
}

#[test]
fn lines_of_known_hosts_that_are_malformed_are_skipped_with_a_warning() {
    if !require::tool("sshd") {
        return;
    }
    let (repository, _) = fixtures::small();
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let url = server.url(&repository);
    let person = Person::new();
    let bad = "# hosts\n@revokd host ssh-rsa AAAA\nhalf line\n";
    let mixed = format!("\u{feff}{bad}{}", server.known_hosts());
    let with_bom = format!("\u{feff}{}", key.private);
    let in_secret = person.secret(&[("ssh-privatekey", &with_bom), ("known_hosts", &mixed)]);
    let outcome = person.clone(&url, &[&in_secret, "-v"]).assert_success();
    assert!(outcome.stderr.contains("lines of known_hosts are skipped"), "{}", outcome.stderr);
    person.discard_tree();

    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("known_hosts");
    let configured = person.configuration(&format!("{{\"hostKeys\": {{\"file\": {file:?}}}}}"));
    let private = person.secret(&[("ssh-privatekey", &key.private)]);
    std::fs::write(&file, &mixed).unwrap();
    let outcome = person.clone(&url, &[&private, &configured, "-v"]).assert_success();
    assert!(outcome.stderr.contains("known_hosts file are skipped"), "{}", outcome.stderr);
    person.discard_tree();

    std::fs::write(&file, bad).unwrap();
    let words = "no line in the format of known_hosts: line 2 has an unknown marker";
    for more in [vec![&*private, &configured], vec![&*person.secret(&[("known_hosts", bad)])]] {
        let outcome = person.clone(&url, &more).assert_code(64);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

#[test]
fn private_key_that_is_encoded_twice_is_told() {
    let person = Person::new();
    let encoded = BASE64_STANDARD.encode(ClientKey::new().private);
    let outcome = person.clone("git@127.0.0.1:x", &[&person.secret(&[("ssh-privatekey", &encoded)])]).assert_code(64);
    assert!(outcome.stderr.contains("encoded as base64 twice"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(&encoded[..20]), "{}", outcome.stderr);
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

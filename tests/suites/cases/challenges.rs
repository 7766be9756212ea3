//! Servers that ask for a credential in odd ways.

use std::io::Write;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::person::Person;

use super::assert_git;
use super::assert_we_clone;
use super::assert_we_refuse;

const OVER_HTTP: &str = "{\"credentialsOverHttp\": true}";
const PASSWORD: &[(&str, &str)] = &[("username", "alice"), ("password", "canary-s3cret")];
const TOKEN: &[(&str, &str)] = &[("token", "canary-t0ken")];
/// Gives git the password.
const HELPER: &str = "credential.helper=!f() { echo username=alice; echo password=canary-s3cret; }; f";

/// Fields of a challenge as they are sent, and whether git finds the Basic in it.
const WITH_BASIC: &[(&[&str], bool)] = &[
    (&["WWW-Authenticate: Basic realm=\"x\""], true),
    (&["WWW-Authenticate: Basic realm=\"x\", charset=\"UTF-8\""], true),
    (&["WWW-Authenticate: basic realm=x"], true),
    (&["www-authenticate:BASIC"], true),
    (&["WWW-Authenticate: Basic realm=\"a, Negotiate b\""], true),
    (&["WWW-Authenticate: Basic realm=\"a \\\" b\", charset=\"UTF-8\""], true),
    (&["WWW-Authenticate: Bearer realm=\"a\", Basic realm=\"b\""], true),
    (&["WWW-Authenticate: Bearer realm=\"a\",scope=\"x\",Basic realm=\"b\""], true),
    (&["WWW-Authenticate: Basic realm=\"b\", Bearer realm=\"a\", error=\"invalid_token\""], true),
    (&["WWW-Authenticate: Basic realm=\"x\"", "WWW-Authenticate: Basic realm=\"y\""], true),
    (
        &[
            "WWW-Authenticate: Bearer authorization_uri=https://login.example/x",
            "WWW-Authenticate: Basic realm=\"https://x\"",
            "WWW-Authenticate: TFS-Federated",
        ],
        true,
    ),
    (&["WWW-Authenticate:", "WWW-Authenticate: Basic realm=\"x\""], true),
    (&["WWW-Authenticate: Negotiate", "WWW-Authenticate: Basic realm=\"x\""], true),
    (&["WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM", "WWW-Authenticate: Basic realm=\"x\""], false),
    (
        &[
            "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\", qop=\"auth, Basic\", algorithm=MD5",
            "WWW-Authenticate: Basic realm=\"x\"",
        ],
        false,
    ),
];

/// Answers 401 with these fields to every request that `is_asked` and has not this header.
fn asking(
    fields: &[&str],
    credential: &Credential,
    is_asked: fn(&Request) -> bool,
) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let right = credential.header();
    move |request| {
        if !is_asked(request) || request.authorization() == Some(&right) {
            return Answer::Git;
        }
        let text = format!("HTTP/1.1 401 Unauthorized\r\n{fields}Content-Length: 12\r\n\r\nwho are you\n");
        Answer::raw(move |wire| {
            wire.write_all(text.as_bytes())?;
            Ok(Ending::Complete)
        })
    }
}

#[test]
fn basic_is_found_among_all_that_a_server_offers() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let (config, password, token) = (person.configuration(OVER_HTTP), person.secret(PASSWORD), person.secret(TOKEN));
    let alice = Credential::Basic("alice", "canary-s3cret");
    let as_password = Credential::Basic("x-access-token", "canary-t0ken");
    for (fields, git_finds) in WITH_BASIC {
        for is_asked in [(|_| true) as fn(&Request) -> bool, Request::is_upload_pack] {
            let serve = |credential| {
                HttpServer::builder().serve(&repository).answer(asking(fields, credential, is_asked)).start()
            };
            let case = format!("{fields:?}");
            assert_git(*git_finds, &["-c", HELPER], &serve(&alice).url(&repository), &case);
            for (secret, credential) in [(&password, &alice), (&token, &as_password)] {
                let server = serve(credential);
                let more = [config.as_str(), secret];
                assert_we_clone(&person, &server.url(&repository), &more, &repository, &commit, &case);
                assert!(server.requests().iter().all(|request| request.authorization().is_some()), "{case}");
            }
        }
    }
}

#[test]
fn a_token_is_sent_as_bearer_first() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let more = [&*person.configuration(OVER_HTTP), &person.secret(TOKEN)];
    let bearer = Credential::Bearer("canary-t0ken");
    let server = HttpServer::builder()
        .serve(&repository)
        .answer(asking(&["WWW-Authenticate: Bearer realm=\"a\", Basic realm=\"b\""], &bearer, |_| true))
        .start();
    assert_we_clone(&person, &server.url(&repository), &more, &repository, &commit, "Bearer");
    let right = Some(bearer.header());
    assert!(server.requests().iter().all(|request| request.authorization().map(str::to_owned) == right));
}

#[test]
fn the_message_names_what_the_server_offers_and_what_was_tried() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let config = person.configuration(OVER_HTTP);
    let (password, token) = (person.secret(PASSWORD), person.secret(TOKEN));
    let nobody = Credential::Basic("nobody", "nothing");
    for (fields, secret, words) in [
        (
            &["WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM"][..],
            Some(&password),
            &["Negotiate, NTLM", "username, password"][..],
        ),
        (
            &["WWW-Authenticate: Digest realm=\"Basic, x\", qop=\"auth,Basic\""],
            Some(&password),
            &["Digest", "username, password"],
        ),
        (&["WWW-Authenticate: Negotiate"], Some(&token), &["Negotiate", "token"]),
        (&["WWW-Authenticate: Basic realm=\"x\""], Some(&token), &["Basic", "token"]),
        (&[], Some(&token), &["token"]),
        (&["WWW-Authenticate: Basic realm=\"x\""], None, &["wants a credential (username and password, or token)"]),
        (&["WWW-Authenticate: Bearer realm=\"x\""], None, &["wants a credential (token)"]),
        (&["WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM"], None, &["Negotiate, NTLM"]),
    ] {
        for is_asked in [(|_| true) as fn(&Request) -> bool, Request::is_upload_pack] {
            let server = HttpServer::builder().serve(&repository).answer(asking(fields, &nobody, is_asked)).start();
            let mut more = vec![config.as_str()];
            more.extend(secret.map(String::as_str));
            let case = format!("{fields:?} {}", secret.is_some());
            let outcome = assert_we_refuse(&person, &server.url(&repository), &more, 77, words, &case);
            assert!(!outcome.stderr.contains("canary"), "{}", outcome.stderr);
            assert!(server.requests().len() <= 4, "{case}: {}", server.requests().len());
        }
    }
}

#[test]
fn a_public_repository_gets_the_credential_too_and_no_other_server_does() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let more = [&*person.configuration(OVER_HTTP), &person.secret(PASSWORD)];
    let server = HttpServer::start(&repository);
    assert_we_clone(&person, &server.url(&repository), &more, &repository, &commit, "public");
    let right = Credential::Basic("alice", "canary-s3cret").header();
    assert!(server.requests().iter().all(|request| request.authorization() == Some(&right)));

    let plain = HttpServer::start(&repository);
    assert_we_clone(&person, &plain.url(&repository), &more[1..], &repository, &commit, "not over plain http");
    assert!(plain.requests().iter().all(|request| request.authorization().is_none()));
    let elsewhere = person.secret(&[("git.example.com.token", "canary-t0ken")]);
    assert_we_clone(&person, &plain.url(&repository), &[more[0], &elsewhere], &repository, &commit, "another host's");
    assert!(plain.requests().iter().all(|request| request.authorization().is_none()));
}

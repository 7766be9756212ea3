//! `gitrepo-cli resolve`: the commit of a revision, and the ref that names it.

use gitrepo_tests::authority::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::require;
use gitrepo_tests::ssh::ClientKey;
use gitrepo_tests::ssh::SshServer;
use serde_json::Value;
use serde_json::json;

#[test]
fn resolve_prints_the_commit_and_its_ref() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let url = server.url(&fixture.repository);
    let person = Person::new();
    let main = "refs/heads/main";
    for (revision, commit, reference) in [
        ("HEAD", &fixture.commit, main),
        ("main", &fixture.commit, main),
        ("refs/heads/main", &fixture.commit, main),
        ("old", &fixture.parent, "refs/heads/old"),
        ("v1", &fixture.commit, "refs/tags/v1"),
        ("v2", &fixture.commit, "refs/tags/v2"),
        ("v3", &fixture.commit, "refs/tags/v3"),
        ("orphan", &fixture.orphan, "refs/tags/orphan"),
        ("same", &fixture.same_branch, "refs/heads/same"),
        ("refs/tags/same", &fixture.same_tag, "refs/tags/same"),
        ("refs/changes/01/1/1", &fixture.parent, "refs/changes/01/1/1"),
    ] {
        let outcome = person.run(&["resolve", &url, revision]).assert_success();
        assert_eq!(outcome.stdout, format!("{commit}\t{reference}\n"), "{revision}");
        assert_eq!(outcome.stderr, "");
    }
    let default = person.run(&["resolve", &url]).assert_success();
    assert_eq!(default.stdout, format!("{}\t{main}\n", fixture.commit));
    let by_id = person.run(&["resolve", &url, &fixture.unreachable]).assert_success();
    assert_eq!(by_id.stdout, format!("{}\n", fixture.unreachable), "no ref names it");
    assert_eq!(server.upload_packs(), 0, "nothing is fetched");
    person.assert_nothing_left();
}

#[test]
fn resolve_follows_head_of_the_remote_to_any_branch() {
    let fixture = fixtures::everything();
    fixture.repository.set_head("old");
    let server = HttpServer::start(&fixture.repository);
    let outcome = Person::new().run(&["resolve", &server.url(&fixture.repository)]).assert_success();
    assert_eq!(outcome.stdout, format!("{}\trefs/heads/old\n", fixture.parent));
}

#[test]
fn resolve_prints_one_json_object_on_request() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let person = Person::new();
    let resolve = |revision: &str| -> Value {
        let outcome = person.run(&["resolve", "--json", &url, revision]).assert_success();
        assert_eq!(outcome.stderr, "");
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let by_name = json!({"repository": url, "revision": "main", "commit": commit, "reference": "refs/heads/main"});
    assert_eq!(resolve("main"), by_name);
    let by_id = json!({"repository": url, "revision": commit, "commit": commit, "reference": null});
    assert_eq!(resolve(&commit), by_id);
}

#[test]
fn resolve_suggests_the_most_similar_ref() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let url = server.url(&fixture.repository);
    let person = Person::new();
    for (revision, nearest) in [("mainn", "\"main\""), ("feature/with/slash", "\"feature/with/slashes\"")] {
        let outcome = person.run(&["resolve", &url, revision]).assert_code(66);
        assert!(outcome.stderr.contains(&format!("did you mean {nearest}?")), "{}", outcome.stderr);
    }
    let outcome = person.run(&["resolve", &url, "nothing-like-it-at-all"]).assert_code(66);
    assert!(outcome.stderr.contains("has no branch, tag or ref"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("did you mean"), "{}", outcome.stderr);
}

#[test]
fn an_abbreviated_commit_id_is_told_from_a_name() {
    let (repository, commit) = fixtures::small();
    repository.set_branch("deadbeef", &commit);
    repository.tag("20240101", &commit);
    repository.annotated_tag("1234567", &commit, "digits");
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let person = Person::new();
    for (name, reference) in
        [("deadbeef", "refs/heads/deadbeef"), ("20240101", "refs/tags/20240101"), ("1234567", "refs/tags/1234567")]
    {
        let outcome = person.run(&["resolve", &url, name]).assert_success();
        assert_eq!(outcome.stdout, format!("{commit}\t{reference}\n"));
    }
    for digits in [&commit[..7], &commit[..39]] {
        let outcome = person.run(&["resolve", &url, digits]).assert_code(66);
        assert!(outcome.stderr.contains("abbreviated commit id: write all 40 digits"), "{}", outcome.stderr);
    }
}

#[test]
fn the_exit_status_of_resolve_tells_the_kind_of_failure() {
    let (repository, commit) = fixtures::small();
    let empty = fixtures::empty();
    let authority = Authority::new();
    let server = HttpServer::builder()
        .serve(&repository)
        .serve(&empty)
        .tls(authority.issue_for_loopback())
        .accept(Credential::Bearer("right"))
        .start();
    let person = Person::new();
    let ca = authority.ca_pem();
    let right = person.secret(&[("ca.crt", &ca), ("token", "right")]);
    let wrong = person.secret(&[("ca.crt", &ca), ("token", "wrong")]);
    let none = person.secret(&[("ca.crt", &ca)]);
    let (url, gone) = (server.url(&repository), server.url_at("gone.git"));
    person.run(&["resolve", &url, &right]).assert_success();
    for (arguments, code) in [
        ([&*url, "main", &wrong], 77),
        ([&url, "main", &none], 77),
        ([&url, "missing", &right], 66),
        ([&url, "refs/heads/missing", &right], 66),
        ([&url, "main~1", &right], 64),
        ([&url, &commit[..10], &right], 66),
        ([&gone, "main", &right], 66),
        ([&server.url(&empty), "HEAD", &right], 66),
    ] {
        let outcome = person.run(&[&["resolve"], &arguments[..]].concat()).assert_code(code);
        assert_eq!(outcome.stdout, "", "{arguments:?}");
        assert!(outcome.stderr.starts_with("error: "), "{}", outcome.stderr);
    }
}

#[test]
fn resolve_asks_over_ssh_and_files_too() {
    let (repository, commit) = fixtures::small();
    let person = Person::new();
    let answer = format!("{commit}\trefs/heads/main\n");
    let file = format!("file://{}", repository.path().display());
    assert_eq!(person.run(&["resolve", &file]).assert_success().stdout, answer);
    if !require::tool("sshd") {
        return;
    }
    let key = ClientKey::new();
    let server = SshServer::start(&key);
    let secret = person.secret(&[("ssh-privatekey", &key.private), ("known_hosts", &server.known_hosts())]);
    assert_eq!(person.run(&["resolve", &server.url(&repository), &secret]).assert_success().stdout, answer);
}

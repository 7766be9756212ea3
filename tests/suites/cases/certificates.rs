//! Certificates that are trusted as curl trusts them.

use std::path::Path;

use gitrepo_tests::authority::Authority;
use gitrepo_tests::authority::Identity;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Repository;
use tempfile::NamedTempFile;

use super::assert_git;
use super::assert_we_clone;
use super::assert_we_refuse;

fn serve(repository: &Repository, identity: Identity) -> HttpServer {
    HttpServer::builder().serve(repository).tls(identity).start()
}

fn trust(file: &Path) -> String {
    format!("http.sslCAInfo={}", file.display())
}

/// Asserts that git and we trust the server with these certificates.
fn assert_trusted(server: &HttpServer, repository: &Repository, pem: &str, case: &str) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    assert_git(true, &["-c", &trust(file.path())], &server.url(repository), case);
    assert_we_trust(server, repository, pem, case);
}

fn assert_we_trust(server: &HttpServer, repository: &Repository, pem: &str, case: &str) {
    let person = Person::new();
    let secret = person.secret(&[("ca.crt", pem)]);
    assert_we_clone(&person, &server.url(repository), &[&secret], repository, &repository.resolve("main"), case);
}

#[test]
fn an_intermediate_or_a_leaf_alone_is_a_trust_anchor() {
    let (repository, _) = fixtures::small();
    let root = Authority::new();
    let intermediate = root.intermediate();
    let server = serve(&repository, intermediate.issue_for_loopback());
    assert_trusted(&server, &repository, &intermediate.ca_pem(), "the intermediate alone");
    let both = format!("{}{}", intermediate.ca_pem(), root.ca_pem());
    assert_trusted(&server, &repository, &both, "the whole chain");
    let own = Identity::self_signed(&["127.0.0.1"]);
    assert_trusted(&serve(&repository, own.clone()), &repository, &own.pem(), "a certificate that signs itself");
    let leaf = root.issue_for_loopback();
    assert_trusted(&serve(&repository, leaf.clone()), &repository, &leaf.pem(), "a leaf alone");
}

#[test]
fn certificates_are_read_however_they_were_pasted() {
    let (repository, _) = fixtures::small();
    let (ours, other) = (Authority::new(), Authority::new());
    let server = serve(&repository, ours.issue_for_loopback());
    let (ours, other) = (ours.ca_pem(), other.ca_pem());
    for (case, pem) in [
        ("joined without a newline", format!("{}{}", other.trim_end(), ours.trim_end())),
        ("indented", ours.lines().map(|line| format!("    {line}\n")).collect()),
        ("with a byte order mark", format!("\u{feff}{ours}")),
        ("with returns", ours.replace('\n', "\r\n")),
        ("with comments", format!("# ours\nCN = ours\n{other}\n\nand\n{ours}\n# end")),
    ] {
        assert_we_trust(&server, &repository, &pem, case);
    }
}

#[test]
fn certificates_that_are_not_trusted_are_told_apart() {
    let (repository, _) = fixtures::small();
    let authority = Authority::new();
    let person = Person::new();
    let secret = person.secret(&[("ca.crt", &authority.ca_pem())]);
    for (identity, words) in [
        (authority.issue_expired(&["127.0.0.1"]), "expired"),
        (authority.issue_for_the_future(&["127.0.0.1"]), "not valid yet"),
        (authority.issue(&["git.example.com"]), "another host"),
        (Authority::new().issue_for_loopback(), "authority"),
        (authority.intermediate().issue_for_loopback(), "authority"),
    ] {
        let server = serve(&repository, identity);
        assert_git(false, &["-c", &trust(authority.ca_file())], &server.url(&repository), words);
        assert_we_refuse(&person, &server.url(&repository), &[&secret], 77, &[words], words);
    }
}

//! Names that look like something else.

use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;

use super::assert_we_clone;
use super::assert_we_refuse;
use super::git_clones;

#[test]
fn a_name_of_hexadecimal_digits_is_a_name() {
    let repository = Repository::new("app");
    let first = repository.commit("main", &Files::new().file("f", "1\n"));
    repository.tag("20240101", &first);
    let second = repository.commit("main", &Files::new().file("f", "2\n"));
    repository.set_branch("deadbeef", &second);
    repository.set_branch("0123456", &first);
    repository.annotated_tag("abcdefabcdefabcdefabcdefabcdefabcdefabc", &second, "39 digits");
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    for (name, commit) in [
        ("20240101", &first),
        ("deadbeef", &second),
        ("0123456", &first),
        ("abcdefabcdefabcdefabcdefabcdefabcdefabc", &second),
    ] {
        assert!(git_clones(&[], &url, &["--branch", name]).status.success(), "git, {name}");
        assert_we_clone(&person, &url, &["--revision", name], &repository, commit, name);
    }
    let short = &second[..10];
    assert_we_refuse(&person, &url, &["--revision", short], 66, &[short], "an abbreviation");
    for (revision, meant) in
        [("origin/main", "main"), ("heads/main", "main"), ("tags/20240101", "20240101"), ("refs/heads/mian", "main")]
    {
        let words = ["did you mean", meant];
        assert_we_refuse(&person, &url, &["--revision", revision], 66, &words, revision);
    }
}

#[test]
fn a_port_in_scp_form_is_named_with_the_url_to_write() {
    let person = Person::new();
    let outcome = person.clone("git@git.example.com:7999/group/repo", &[]).assert_code(64);
    assert!(outcome.stderr.contains("ssh://git@git.example.com:7999/group/repo"), "{}", outcome.stderr);
    for url in ["https://git.example.com/a b", "https://git.example.com/a\nb", " https://git.example.com/a"] {
        person.clone(url, &[]).assert_code(64);
    }
    person.assert_nothing_left();
}

/// Only here we differ from git, which takes anything after `--branch` for a name.
#[test]
fn a_branch_that_is_named_like_a_commit_is_served_by_its_full_name() {
    let repository = Repository::new("app");
    let first = repository.commit("main", &Files::new().file("f", "1\n").file("0123456789", "a file\n"));
    let name = "0123456789abcdef".repeat(3)[..40].to_owned();
    git::output(&mut repository.git(["update-ref", &format!("refs/heads/{name}"), &first]));
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    assert!(git_clones(&[], &url, &["--branch", &name]).status.success());
    assert_we_refuse(&person, &url, &["--revision", &name], 66, &[&name], "an id of no commit");
    let full = format!("refs/heads/{name}");
    assert_we_clone(&person, &url, &["--revision", &full], &repository, &first, "the full name");
}

//! Requests and repositories that must be refused promptly, with a clear message, and without leftovers. The names of
//! the tests begin with the row of the threat table that they test.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::fixtures::hostile;
use gitrepo_tests::fixtures::hostile::Trap;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree;

mod policy;

/// A refusal takes far less than a second; this allows for a busy machine.
const PROMPT: Duration = Duration::from_secs(20);

/// Asserts that `clone` is refused promptly with `code` and `words`, and leaves nothing.
fn assert_refused(person: &Person, what: &str, code: i32, words: &str, clone: impl FnOnce() -> Outcome) {
    let begun = Instant::now();
    let outcome = clone();
    let lasted = begun.elapsed();
    assert_eq!(outcome.status.code(), Some(code), "{what:?}: {outcome:?}");
    assert!(outcome.stderr.contains(words), "{what:?}: {words:?} is not in: {}", outcome.stderr);
    assert!(!outcome.stderr.contains(|letter: char| letter.is_control() && letter != '\n'), "{:?}", outcome.stderr);
    assert!(lasted < PROMPT, "{what:?}: after {lasted:?}");
    person.assert_nothing_left();
}

#[test]
fn s2_url_that_does_not_name_a_remote_repository_is_refused() {
    let person = Person::new();
    for (url, words) in [
        ("/etc", "local path"),
        ("../x", "local path"),
        ("./x", "local path"),
        ("x", "local path"),
        ("~/x", "local path"),
        ("ext::sh -c touch% /tmp/owned", "character"),
        ("ext::touch", "remote helpers"),
        ("fd::3", "remote helpers"),
        ("ext::https://host.example/a", "remote helpers"),
        ("C:\\x", "Windows drive"),
        ("c:/x", "Windows drive"),
        ("ssh://-oProxyCommand=touch", "the host"),
        ("ssh://-oProxyCommand=touch@host.example/a", "begins with -"),
        ("-oProxyCommand=touch@host.example:a", ""),
        ("git@host.example:-a", "begins with -"),
        ("git@host.example:7999/group/repo", "ssh://git@host.example:7999/group/repo"),
        ("https://host.example/a ", "ends with a space"),
        ("https://host.example/a\n", "ends with a line break"),
        (" https://host.example/a", "begins with a space"),
        ("ftp://host.example/a", "ftp"),
        ("https:/host.example/a", "two slashes"),
        ("https://", ""),
        ("https:///a", ""),
        ("https://host.example", "path"),
        ("https://host.example/", "path"),
        ("https://host.example:0/a", "port"),
        ("https://host.example:99999/a", "port"),
        ("https://host.example/a\rb", "character"),
        ("https://host.example/a\nb", "character"),
        ("https://host.example/a\u{202e}b", ""),
        ("https://host.example/a\\b", "backslash"),
        ("https://host.example/../../etc", "path"),
        ("https://host.example/%2e%2e/etc", "path"),
        ("https://host.example/a%00b", "path"),
        ("https://host.example/a?b", "query"),
        ("https://host.example/a#b", "fragment"),
        ("https://ho st.example/a", ""),
        ("https://host%2eexample/a", ""),
        ("file://host.example/a", "file URL has no host"),
        ("file:a", "two slashes"),
        ("", "repository is missing"),
    ] {
        assert_refused(&person, url, 64, words, || person.run(&["clone", "--", url, "tree"]));
    }
    let long = format!("https://host.example/{}", "a".repeat(10_000));
    assert_refused(&person, "a long URL", 64, "at most 4096", || person.clone(&long, &[]));
    assert!(!Path::new("/tmp/owned").exists());
}

#[test]
fn s2_local_repository_is_not_reached_by_a_path() {
    let (repository, _) = fixtures::small();
    let person = Person::new();
    let path = repository.path();
    assert_refused(&person, "a path", 64, "file:///", || person.clone(path.to_str().unwrap(), &[]));
    let missing = format!("file://{}", repository.root().join("missing").display());
    assert_refused(&person, "a missing repository", 66, "no such repository", || person.clone(&missing, &[]));
    let no_repository = format!("file://{}", person.scratch().display());
    assert_refused(&person, "no repository", 66, "", || person.clone(&no_repository, &[]));
}

#[test]
fn revision_that_is_not_a_valid_name_is_refused() {
    let (repository, _) = fixtures::small();
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    for (revision, words) in [
        (&*"ab".repeat(32), "SHA-256"),
        ("main~1", "main~1"),
        ("main^{tree}", "main^{tree}"),
        (":/text", ":/text"),
        ("main:README.md", "main:README.md"),
        ("@{upstream}", "@{upstream}"),
        ("a..b", "a..b"),
        ("a b", "a b"),
        ("-main", "-main"),
        ("--upload-pack=touch", ""),
        ("refs/", "refs/"),
        ("refs/heads/", "refs/heads/"),
        ("refs/heads/*", "refs/heads/*"),
        ("a.lock", "a.lock"),
        ("/main", "/main"),
        ("main/", "main/"),
        ("ma\u{7}in", ""),
        ("+refs/heads/main:refs/heads/main", ""),
    ] {
        let clone = || person.clone(&url, &[&format!("--revision={revision}")]);
        assert_refused(&person, revision, 64, words, clone);
    }
    assert!(server.requests().is_empty(), "the server is not asked");
}

#[test]
fn s9_directory_that_leaves_the_volume_is_refused() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let (url, person) = (server.url(&fixture.repository), Person::new());
    for path in [
        "..", "../x", "a/../..", "a/../b", "/etc", "//", "a\\b", ".git", "a/.GIT/b", ".Git", "git~1", "a\nb",
        "a\u{7f}b",
    ] {
        for key in ["directory", "subdirectory"] {
            let setting = format!("{key}={path}");
            assert_refused(&person, &setting, 64, key, || person.clone(&url, &["--set", &setting]));
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn s9_subdirectory_lookup_does_not_follow_links() {
    let repository = Repository::new("links");
    repository.commit("main", &Files::new().symlink("link", "/etc").symlink("up", "..").file("dir/file", ""));
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    for path in ["link", "link/ssh", "up", "up/up"] {
        assert_refused(&person, path, 66, "is not a directory", || person.clone(&url, &["--subdirectory", path]));
    }
}

fn assert_traps_refused(repository: &Repository, traps: &[Trap]) {
    let server = HttpServer::start(repository);
    let (url, person) = (server.url(repository), Person::new());
    for trap in traps {
        let clone = || person.clone(&url, &["--revision", &trap.branch]);
        let outcome = clone();
        let refused = outcome.stderr.contains("which is refused") || outcome.stderr.contains("as a git server should");
        assert!(refused, "{}: {outcome:?}", trap.what);
        assert_refused(&person, trap.what, outcome.code(), "", clone);
    }
}

#[test]
fn s7_names_that_git_does_not_check_out_are_refused() {
    let (repository, traps) = hostile::names();
    assert_traps_refused(&repository, &traps);
    assert!(!Path::new("/tmp/hook-ran").exists());
}

#[test]
fn s4_duplicate_names_are_refused_and_nothing_is_written_through_them() {
    let escape = tempfile::TempDir::new().unwrap();
    let (repository, traps) = hostile::duplicates(escape.path().to_str().unwrap());
    assert_traps_refused(&repository, &traps);
    assert_eq!(std::fs::read_dir(escape.path()).unwrap().count(), 0);
}

#[test]
fn s11_links_that_no_file_system_can_store_are_refused() {
    let (repository, traps) = hostile::links();
    assert_traps_refused(&repository, &traps);
}

#[test]
fn s8_modes_that_git_never_writes_become_0644_or_0755_or_are_refused() {
    let (repository, traps) = hostile::modes();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    for trap in traps {
        let clone = || person.clone(&server.url(&repository), &["--revision", &trap.branch]);
        if clone().status.success() {
            tree::assert_same_tree(&repository, &trap.branch, ".", &person.tree());
            person.discard_tree();
        } else {
            assert_refused(&person, trap.what, 77, "mode", clone);
        }
    }
}

#[test]
fn s1_nothing_in_a_repository_is_ever_run() {
    let canaries = tempfile::TempDir::new().unwrap();
    std::fs::set_permissions(canaries.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let touch = |name: &str| format!("touch {}", canaries.path().join(name).display());
    let hook = |name: &str| format!("#!/bin/sh\n{}\n", touch(name));
    let repository = Repository::new("traps");
    let commit = repository.commit(
        "main",
        &Files::new()
            .executable("hooks/post-checkout", hook("tree-hook"))
            .file("HEAD", "ref: refs/heads/main\n")
            .file("config", format!("[core]\n\tfsmonitor = {}\n", touch("fsmonitor")))
            .file("objects/info/alternates", "/\n")
            .file(".gitattributes", "* filter=evil diff=evil merge=evil text eol=crlf ident\n")
            .file(".gitconfig", format!("[filter \"evil\"]\n\tsmudge = {}\n", touch("smudge")))
            .file(".lfsconfig", "[lfs]\n\turl = http://127.0.0.1:1/\n")
            .file(".gitmodules", format!("[submodule \"x\"]\n\tpath = x\n\turl = ext::{}\n", touch("submodule")))
            .submodule("x", &"5ca1ab1e".repeat(5))
            .file("text", "line\n$Id$\n"),
    );
    // Commands that the server's repository or the user has configured do not run either.
    repository.configure("filter.evil.smudge", &touch("server-smudge"));
    let person = Person::new();
    let global = format!(
        "[core]\n\thooksPath = {0}\n\tfsmonitor = {1}\n[filter \"evil\"]\n\tsmudge = {1}\n\trequired = true\n",
        canaries.path().display(),
        touch("person")
    );
    std::fs::write(person.home().join(".gitconfig"), global).unwrap();
    let server = HttpServer::start(&repository);
    for url in [server.url(&repository), format!("file://{}", repository.path().display())] {
        person.clone(&url, &[]).assert_success();
        tree::assert_same_tree(&repository, &commit, ".", &person.tree());
        person.discard_tree();
    }
    assert_eq!(std::fs::read_dir(canaries.path()).unwrap().count(), 0, "something was run");
}

#[test]
fn s15_bombs_are_refused_before_they_go_off() {
    let bombs = [
        (hostile::bomb(10), "{}", "entries"),
        (hostile::nested(4096), "{}", "path"),
        (hostile::long_path(), "{}", "path"),
        (hostile::wide(30_000), r#"{"limits": {"entries": 20000}}"#, "entries"),
        (hostile::huge_blob(64 << 20), r#"{"limits": {"treeBytes": "32Mi"}}"#, "treeBytes"),
    ];
    for (repository, configuration, words) in bombs {
        let server = HttpServer::start(&repository);
        let person = Person::new();
        let configuration = person.configuration(configuration);
        let clone = || person.clone(&server.url(&repository), &[&configuration]);
        assert_refused(&person, repository.name(), 73, words, clone);
    }
}

//! Options that choose a part of the tree, place it, and refuse links.

use std::os::unix::process::CommandExt;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree;

use super::assert_refused;
use super::assert_tree;

#[test]
fn subdirectory_becomes_the_root_of_the_tree() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let (url, person) = (server.url(&fixture.repository), Person::new());
    for subdirectory in [".", "bin", "links", "names", "only/one/chain", "modules"] {
        person.clone(&url, &["--subdirectory", subdirectory]).assert_success();
        tree::assert_same_tree(&fixture.repository, &fixture.commit, subdirectory, &person.tree());
        tree::assert_times(&person.tree(), fixture.repository.commit_time(&fixture.commit));
        person.assert_tree_alone();
        person.discard_tree();
    }
}

#[test]
fn subdirectory_that_is_missing_or_not_a_directory_is_refused() {
    let fixture = fixtures::everything();
    let server = HttpServer::start(&fixture.repository);
    let (url, person) = (server.url(&fixture.repository), Person::new());
    for (subdirectory, code, words) in [
        ("missing", 66, "missing"),
        ("bin/missing", 66, "bin/missing"),
        ("README.md", 66, "README.md is not a directory"),
        ("README.md/deeper", 66, "README.md/deeper is not a directory"),
        ("links/to-directory", 66, "links/to-directory is not a directory"),
        ("links/to-root/bin", 66, "links/to-root/bin is not a directory"),
        ("modules/sub", 66, "modules/sub is not a directory"),
    ] {
        let refused = person.clone(&url, &["--subdirectory", subdirectory]);
        assert_refused(&person, refused, code, words);
    }
}

#[test]
fn directory_places_the_tree_deeper() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let person = Person::new();
    person.clone(&server.url(&repository), &["--set", "directory=a/b"]).assert_success();
    assert_tree(&person.tree().join("a/b"), &repository, &commit);
    let only = |path: &str| std::fs::read_dir(person.tree().join(path)).unwrap().count();
    assert_eq!((only("."), only("a")), (1, 1));
    person.assert_tree_alone();
}

#[test]
fn links_that_leave_the_tree_are_refused_on_request() {
    let repository = Repository::new("links");
    let inside = Files::new().file("bin/run", "").symlink("lib/run", "../bin/run").symlink("self", ".");
    repository.commit("inside", &inside);
    let outside = [("absolute", "/etc/passwd"), ("parent", "../outside"), ("climbing", "bin/../../outside")];
    for (branch, target) in outside {
        repository.commit(branch, &inside.clone().symlink("bin/link", target).symlink("link", target));
    }
    let server = HttpServer::start(&repository);
    let (url, person) = (server.url(&repository), Person::new());
    let clone = |branch, policy| person.clone(&url, &["--revision", branch, "--symlinks", policy]);

    clone("inside", "reject-escaping").assert_success();
    assert_tree(&person.tree(), &repository, &repository.resolve("inside"));
    person.discard_tree();
    for (branch, _) in outside {
        assert_refused(&person, clone(branch, "reject-escaping"), 77, "which leaves the volume");
        clone(branch, "keep").assert_success();
        assert_tree(&person.tree(), &repository, &repository.resolve(branch));
        person.discard_tree();
    }
}

#[test]
fn umask_of_the_user_does_not_change_the_tree() {
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    for umask in ["077", "000"] {
        let person = Person::new();
        let command = person.program().command(["clone", &url, "tree"]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask $0; exec \"$@\"", umask]).arg(command.get_program()).args(command.get_args());
        shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let status = shell.current_dir(person.home()).process_group(0).output().unwrap().status;
        assert!(status.success());
        assert_tree(&person.tree(), &repository, &commit);
    }
}

//! Repositories of this machine, by a `file` URL: working trees, those of others, and what only points to a repository.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;

use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::person::Person;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::volumes::files_below;
use gitrepo_tests::working_repository::line;

use super::assert_clones_head;
use super::assert_refused;

/// The remotes of git-sync's own tests.
#[test]
fn a_work_tree_of_this_machine_is_a_repository_and_what_only_points_to_one_is_named() {
    let (repository, person) = (Repository::new("app"), Person::new());
    let first = repository.commit("main", &Files::new().file("f", "1\n").file("g", "1\n"));
    let second = repository.commit("main", &Files::new().file("f", "2\n"));
    let place = repository.root().join("work");
    let run = |words: &[&str]| git::output(git::command(repository.root()).args(words));
    run(&["clone", "--quiet", "app.git", "work"]);
    std::fs::write(place.join("f"), "not committed\n").unwrap();
    let url = format!("file://{}", place.display());
    assert_clones_head(&person, &url, &[], &repository);
    run(&["-C", "work", "checkout", "--quiet", "--force", "--detach", &first]);
    person.clone(&url, &["--git-dir=keep"]).assert_success();
    assert_eq!(line(&person.tree(), &["rev-parse", "HEAD"]), first);
    person.discard_tree();

    // git follows these to another repository, which is not in the sight of the process that reads this one.
    run(&["-C", "work", "worktree", "add", "--quiet", "--detach", "../linked", &second]);
    let linked = format!("file://{}/linked", repository.root().display());
    assert_refused(&person, person.clone(&linked, &[]), 66, "its .git is a file");
    run(&["clone", "--quiet", "--shared", "app.git", "borrowing"]);
    run(&["clone", "--quiet", "--shared", "--bare", "app.git", "borrowing.git"]);
    for name in ["borrowing", "borrowing.git"] {
        let url = format!("file://{}/{name}", repository.root().display());
        for more in [&[][..], &["--revision", &second]] {
            assert_refused(&person, person.clone(&url, more), 66, "objects/info/alternates");
        }
    }
    // The clone's own commit is there, and what came before is elsewhere, or a file that it did not change.
    let borrowing = repository.root().join("borrowing");
    std::fs::write(borrowing.join("f"), "3\n").unwrap();
    run(&["-C", "borrowing", "commit", "--all", "--quiet", "--message=own"]);
    let url = format!("file://{}", borrowing.display());
    for more in [&["--git-dir=keep", "--depth=0"][..], &[]] {
        let refused = person.clone(&url, more);
        assert!(refused.stderr.contains("objects/info/alternates"), "{more:?}: {refused:?}");
        person.assert_nothing_left();
    }
    // As the message says.
    run(&["-C", "borrowing", "repack", "-a", "-d", "--quiet"]);
    person.clone(&url, &["--git-dir=keep", "--depth=0"]).assert_success();
    assert_eq!(std::fs::read(person.tree().join("f")).unwrap(), b"3\n");
}

#[test]
fn another_users_repository_is_read_by_whom_its_permissions_let_and_by_root() {
    if !require::root("to become an ordinary user") {
        return;
    }
    let (repository, _) = fixtures::small();
    std::fs::set_permissions(repository.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let files = files_below(repository.root());
    for path in files.iter().flat_map(|file| file.ancestors()).filter(|path| path.starts_with(repository.path())) {
        chown(path, Some(1234), Some(1234)).unwrap();
    }
    let url = format!("file://{}", repository.path().display());
    let others = [Person::of(123_456), Person::of(123_456).without_namespaces()];
    for person in others.iter().chain([&Person::new(), &Person::of(1234)]) {
        person.clone(&url, &[]).assert_success();
        assert_eq!(std::fs::read(person.tree().join("README.md")).unwrap(), b"# Small\n");
        person.assert_tree_alone();
        person.discard_tree();
    }
    std::fs::set_permissions(repository.path(), PermissionsExt::from_mode(0o700)).unwrap();
    for person in &others {
        assert_refused(person, person.clone(&url, &[]), 66, "no such repository");
    }
    assert_eq!(Person::new().clone(&url, &[]).code(), 0);
}

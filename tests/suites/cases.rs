//! What git reads, we read: odd servers and odd repositories, with git beside us. And where we part from git, on purpose,
//! the message says why.

use std::path::Path;
use std::process::Output;

use gitrepo_tests::git;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree;
use tempfile::TempDir;

mod answers;
mod certificates;
mod challenges;
mod names;
mod objects;
mod redirects;
mod repositories;

/// Runs `git <options> clone --depth 1 <more> <url>`, which may fail.
fn git_clones(options: &[&str], url: &str, more: &[&str]) -> Output {
    let place = TempDir::new().unwrap();
    git_clones_to(place.path(), options, url, more)
}

/// The same, into `tree` below `place`.
fn git_clones_to(place: &Path, options: &[&str], url: &str, more: &[&str]) -> Output {
    let mut command = git::command(place);
    command.args(["-c", "advice.detachedHead=false"]).args(options);
    command.args(["clone", "--quiet", "--depth=1"]).args(more).args([url, "tree"]);
    command.output().unwrap()
}

/// What git says on standard error.
fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that git gets a tree, or does not: what is not a repository may be an empty one to it.
fn assert_git(clones: bool, options: &[&str], url: &str, case: &str) {
    let place = TempDir::new().unwrap();
    let output = git_clones_to(place.path(), options, url, &[]);
    let tree = place.path().join("tree");
    let has_files = output.status.success() && gitrepo_tests::volumes::entries(&tree).len() > 1;
    assert_eq!(has_files, clones, "git, {case}: {}", words(&output));
}

/// Asserts that we clone `commit`.
fn assert_we_clone(person: &Person, url: &str, more: &[&str], repository: &Repository, commit: &str, case: &str) {
    let outcome = person.clone(url, more);
    assert!(outcome.status.success(), "{case}: {}", outcome.stderr);
    tree::assert_same_tree(repository, commit, ".", &person.tree());
    person.discard_tree();
}

/// Asserts that we end with `code` and each of `words`, and leave nothing.
fn assert_we_refuse(person: &Person, url: &str, more: &[&str], code: i32, words: &[&str], case: &str) -> Outcome {
    let outcome = person.clone(url, more);
    assert_eq!(outcome.status.code(), Some(code), "{case}: {}", outcome.stderr);
    for words in words {
        assert!(outcome.stderr.contains(words), "{case}: {words:?} is not in: {}", outcome.stderr);
    }
    person.assert_nothing_left();
    outcome
}

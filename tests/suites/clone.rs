//! `gitrepo-cli clone`: an exact tree in a plain directory, or nothing.

use std::path::Path;

use gitrepo_tests::fixtures;
use gitrepo_tests::fixtures::Everything;
use gitrepo_tests::person::Person;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree;

mod confinement;
mod destination;
mod git_dir;
mod interruption;
mod local;
mod revision;
mod transport;
mod tree_content;

/// The repositories that every transport must fetch correctly.
struct Fixtures {
    everything: Everything,
    others: Vec<Repository>,
}

impl Fixtures {
    fn new() -> Self {
        let others =
            vec![fixtures::small().0, fixtures::empty_tree(), fixtures::empty_directories(), fixtures::many(3000)];
        Self { everything: fixtures::everything(), others }
    }

    fn all(&self) -> impl Iterator<Item = &Repository> {
        std::iter::once(&self.everything.repository).chain(&self.others)
    }
}

/// Clones HEAD with `arguments` and compares all names, contents, modes and times with the commit.
fn assert_clones_head(person: &Person, url: &str, arguments: &[&str], repository: &Repository) {
    person.clone(url, arguments).assert_success();
    assert_tree(&person.tree(), repository, &repository.resolve("main"));
    person.assert_tree_alone();
    person.discard_tree();
}

/// Asserts that `tree` is that of `commit`, with the commit's time on every entry.
fn assert_tree(tree: &Path, repository: &Repository, commit: &str) {
    tree::assert_same_tree(repository, commit, ".", tree);
    tree::assert_times(tree, repository.commit_time(commit));
}

/// Asserts that the clone was refused with `code` and `words`, and left nothing behind.
fn assert_refused(person: &Person, outcome: Outcome, code: i32, words: &str) {
    let outcome = outcome.assert_code(code);
    assert!(outcome.stderr.contains(words), "{words:?} is not in: {}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    person.assert_nothing_left();
}

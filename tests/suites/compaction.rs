//! A repository that many fetches added to is compacted by a sweep.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;

/// More fetches than a repository may have packs: `MANY` and a few.
const FETCHES: u64 = 36;

/// More than what changes, with all that is said about it, and less than what stays the same.
const LITTLE: u64 = 20_000;

#[test]
fn a_sweep_keeps_what_the_last_commit_has_and_what_is_shown() {
    let Some(shell) = Shell::new(256 << 20) else { return };
    let growing = Growing::new();
    let mut published = Vec::new();
    for number in 0..FETCHES {
        published.push(growing.publish(&shell, number));
    }
    let [segments, packs] = growing.files(&shell);
    let before = size(&segments);
    assert_eq!([segments.len(), packs.len()], [2 * FETCHES as usize; 2]);

    shell.run(&["sweep"]).assert_success();
    let [segments, packs] = growing.files(&shell);
    assert_eq!([segments.len(), packs.len()], [2; 2], "each is one file and its index");
    assert!(size(&segments) < before, "what older commits had is gone");
    assert_eq!(entries(&shell.store().join("staging")), [] as [PathBuf; 0]);

    // Later fetches build on it.
    published.push(growing.publish(&shell, FETCHES));
    for (target, commit) in published {
        assert_same_tree(&growing.repository, &commit, ".", &target);
        shell.unmount(&target).assert_success();
    }
    assert_eq!(shell.leftovers(), [] as [PathBuf; 0]);
}

#[test]
fn a_sweep_leaves_a_repository_of_few_fetches_alone() {
    let Some(shell) = Shell::new(256 << 20) else { return };
    let growing = Growing::new();
    (0..3).for_each(|number| drop(growing.publish(&shell, number)));
    let before = growing.files(&shell);
    shell.run(&["sweep"]).assert_success();
    assert_eq!(growing.files(&shell), before);
}

/// A repository of which one file changes with each commit, and another one never.
struct Growing {
    repository: Repository,
    server: HttpServer,
}

impl Growing {
    fn new() -> Self {
        let repository = Repository::new("growing");
        let server = HttpServer::start(&repository);
        Self { repository, server }
    }

    /// Publishes one more commit. Returns the target and the commit.
    fn publish(&self, shell: &Shell, number: u64) -> (PathBuf, String) {
        let constant = fixtures::noise(1, 100_000);
        let changing = fixtures::noise(number + 2, 5_000);
        let files = Files::new().file("constant", constant).file("a/b/changing", changing).symlink("c", "a/b");
        let commit = self.repository.commit("main", &files);
        let before = self.server.bytes_sent();
        let target = shell.target(&number.to_string());
        shell.mount(&self.server.url(&self.repository), &target, &["--revision", &commit]).assert_success();
        assert_same_tree(&self.repository, &commit, ".", &target);
        self.server.settle();
        let sent = self.server.bytes_sent() - before;
        assert!(number == 0 || sent < LITTLE, "fetch {number} took {sent} bytes: the constant file came again");
        (target, commit)
    }

    /// The files of the segments, and those of the packs.
    fn files(&self, shell: &Shell) -> [Vec<PathBuf>; 2] {
        let repositories = entries(&shell.store().join("repositories"));
        let [repository] = &repositories[..] else { panic!("{repositories:?}") };
        ["segments", "objects/pack"].map(|place| files_in(&repository.join(place)))
    }
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = entries(directory);
    files.sort();
    files
}

fn size(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| file.metadata().unwrap().len()).sum()
}

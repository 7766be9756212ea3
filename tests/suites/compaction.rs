//! A repository that many fetches added to is compacted by a sweep.

use std::fs;
use std::os::unix::fs::MetadataExt;
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

/// `checkout: git`: what is converted is content like any other, for whatever happens to it later.
#[test]
fn converted_files_outlive_compaction_eviction_and_their_remote() {
    const GIT: &str = "--set=checkout=git";
    let Some(shell) = Shell::new(256 << 20) else { return };
    let repository = Repository::new("converted");
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let assert_converted = |target: &Path, number: u64| {
        assert_eq!(fs::read_to_string(target.join("run.bat")).unwrap(), format!("{number}\r\n"));
        assert_eq!(fs::read_to_string(target.join("src/same.bat")).unwrap(), "same\r\n");
    };
    let mut published = Vec::new();
    for number in 0..FETCHES {
        let files = Files::new().file(".gitattributes", "*.bat eol=crlf\n").file("src/same.bat", "same\n");
        let commit = repository.commit("main", &files.file("run.bat", format!("{number}\n")));
        let target = shell.target(&number.to_string());
        shell.mount(&url, &target, &["--revision", &commit, GIT]).assert_success();
        published.push((target, commit, number));
    }
    shell.run(&["sweep"]).assert_success();
    let packs = entries(&entries(&shell.store().join("repositories"))[0].join("objects/pack"));
    assert_eq!(packs.len(), 2, "it was compacted: {packs:?}");
    shell.run(&["cache", "verify"]).assert_success();
    published.iter().for_each(|(target, _, number)| assert_converted(target, *number));

    // A view, a copy and another directory of the last commit need no fetch.
    let (_, commit, number) = published[published.len() - 1].clone();
    let before = server.packs();
    let more = |pod: &str, words: &[&str]| {
        let target = shell.target(pod);
        shell.mount(&url, &target, &[&["--revision", &commit, GIT], words].concat()).assert_success();
        target
    };
    let (view, copy) = (more("view", &["--group=2000"]), more("copy", &["--writable=copy"]));
    for target in [&view, &copy] {
        assert_converted(target, number);
    }
    assert_eq!(view.join("run.bat").metadata().unwrap().gid(), 2000);
    let part = more("part", &["--set=subdirectory=src"]);
    assert_eq!(fs::read_to_string(part.join("same.bat")).unwrap(), "same\r\n");
    assert_eq!(server.packs(), before);
    drop(server);
    let offline = more("offline", &[]);
    assert_converted(&offline, number);

    // What is not shown any more is evicted, and what is shown stays whole.
    for target in published.iter().map(|(target, ..)| target).chain([&view, &copy, &part]) {
        shell.unmount(target).assert_success();
    }
    let before = entries(&shell.store().join("snapshots")).len();
    shell.run(&["sweep", "--unreferenced"]).assert_success();
    let after = entries(&shell.store().join("snapshots")).len();
    assert!(after < before, "{before} {after}");
    shell.run(&["cache", "verify"]).assert_success();
    assert_converted(&offline, number);
    shell.unmount(&offline).assert_success();
    shell.run(&["sweep", "--unreferenced"]).assert_success();
    for kind in ["snapshots", "repositories"] {
        assert_eq!(entries(&shell.store().join(kind)), [] as [PathBuf; 0]);
    }
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

//! What narrow fetches brought is verified, evicted and added to like everything else in the store.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

use gitrepo_tests::shell::Shell;
use serde_json::Value;

use super::*;

/// More fetches than a repository may have packs, and a few.
const FETCHES: usize = 54;

/// Packs of a repository that a sweep leaves alone.
const MANY: usize = 32;

/// Most packs of a repository that a fetch adds one to.
const MOST_PACKS: usize = 50;

/// A shell with a store, and a server with a repository.
struct Kept {
    shell: Shell,
    server: HttpServer,
    repository: Repository,
}

impl Kept {
    fn new() -> Option<Self> {
        let shell = Shell::new(256 << 20)?;
        let repository = monorepo(3);
        Some(Self { server: HttpServer::start(&repository), shell, repository })
    }

    /// Mounts a directory of a commit. Returns the target.
    fn mount(&self, pod: &str, directory: &str, commit: &str) -> PathBuf {
        let target = self.shell.target(pod);
        let words = [format!("--subdirectory={directory}"), format!("--revision={commit}")];
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.shell.mount(&self.server.url(&self.repository), &target, &words).assert_success();
        assert_same_tree(&self.repository, commit, directory, &target);
        target
    }

    fn repository(&self) -> PathBuf {
        let repositories = entries(&self.shell.store().join("repositories"));
        let [repository] = &repositories[..] else { panic!("{repositories:?}") };
        repository.clone()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut segments = entries(&self.repository().join("segments"));
        segments.retain(|path| path.extension().is_some_and(|end| end == "content"));
        segments
    }
}

#[test]
fn r4_damage_of_what_a_directory_brought_is_found_and_it_is_fetched_anew() {
    let Some(kept) = Kept::new() else { return };
    let target = kept.mount("first", "parts/1", "main");
    kept.shell.run(&["cache", "verify"]).assert_success();
    kept.shell.unmount(&target).assert_success();
    for segment in kept.segments() {
        let modified = fs::metadata(&segment).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&segment).unwrap();
        file.write_all_at(b"?", 0).unwrap();
        file.set_modified(modified).unwrap();
    }
    kept.shell.run(&["cache", "verify"]).assert_code(70);
    kept.shell.run(&["cache", "verify", "--repair"]).assert_success();
    kept.mount("again", "parts/1", "main");
    let report = kept.shell.run(&["cache", "verify", "--json"]).assert_success();
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert!(report["damaged"].as_array().unwrap().is_empty(), "{report}");
}

#[test]
fn directories_of_many_commits_are_swept_and_go_on() {
    let Some(kept) = Kept::new() else { return };
    let mut most = 0;
    for number in 0..FETCHES {
        let content = format!("content of commit {number}\n");
        let commit = kept.repository.commit("main", &Files::new().file("parts/1/wanted/changing", content));
        kept.server.settle();
        let packs = kept.server.packs();
        let target = kept.mount(&number.to_string(), "parts/1", &commit);
        kept.server.settle();
        let expected = if number == 0 { 1 } else { 2 };
        assert_eq!(kept.server.packs() - packs, expected, "{number}: the trees, and the blob that changed");
        most = most.max(kept.segments().len());
        if number % 18 == 0 {
            // There is no commit that a compact copy could keep, so it keeps everything.
            let swept = kept.shell.run(&["sweep", "--json"]).assert_success();
            assert!(swept.stdout.contains("\"failures\":[]"), "{swept:?}");
            assert!(!swept.stderr.contains("cannot compact"), "{swept:?}");
            assert_eq!(kept.segments().len(), if number < MANY { number + 1 } else { 1 }, "after commit {number}");
        } else {
            kept.shell.unmount(&target).assert_success();
        }
    }
    assert_eq!(most, 37, "a sweep made one of them");
    kept.mount("whole", ".", "main");
    kept.shell.run(&["cache", "verify"]).assert_success();
}

#[test]
fn a_directory_does_not_replace_the_whole_commits_of_many_fetches() {
    let Some(kept) = Kept::new() else { return };
    let commit = |number: usize| kept.repository.commit("main", &Files::new().file("parts/1/new", number.to_string()));
    for number in 0..=MOST_PACKS {
        let target = kept.mount(&number.to_string(), ".", &commit(number));
        kept.shell.unmount(&target).assert_success();
    }
    let files = || ["objects/pack", "refs/commits", "segments"].map(|part| entries(&kept.repository().join(part)));
    let before = files();
    assert_eq!(before[1].len(), MOST_PACKS + 1);
    // There is no room for one more pack. A whole commit begins anew, and a directory leaves everything as it is.
    kept.mount("part", "parts/1", &commit(MOST_PACKS + 1));
    assert_eq!(files(), before);
    kept.mount("whole", ".", "main");
    assert_eq!(files()[1].len(), 1);
    kept.shell.run(&["cache", "verify"]).assert_success();
}

#[test]
fn what_a_directory_brought_is_evicted_with_its_snapshot() {
    let Some(kept) = Kept::new() else { return };
    let target = kept.mount("first", "parts/1", "main");
    kept.shell.run(&["cache", "gc", "--max-bytes=0"]).assert_success();
    assert_same_tree(&kept.repository, "main", "parts/1", &target);
    kept.shell.unmount(&target).assert_success();
    kept.shell.run(&["sweep", "--unreferenced"]).assert_success();
    assert_eq!(entries(&kept.shell.store().join("repositories")), [] as [&Path; 0]);
    kept.mount("again", "parts/1", "main");
    kept.mount("whole", ".", "main");
}

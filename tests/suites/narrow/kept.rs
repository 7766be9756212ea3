//! What narrow fetches brought is verified, evicted and added to like everything else in the store.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;

use gitrepo_tests::shell::Shell;
use serde_json::Value;

use super::*;

/// More fetches than a repository may have packs, and a few.
const FETCHES: usize = 54;

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
        let target = kept.mount(&number.to_string(), "parts/1", &commit);
        most = most.max(kept.segments().len());
        if number % 18 == 0 {
            // Many fetches are no reason to fail: there is no commit that a compact copy could keep.
            let swept = kept.shell.run(&["sweep", "--json"]).assert_success();
            assert!(swept.stdout.contains("\"failures\":[]"), "{swept:?}");
            assert!(!swept.stderr.contains("cannot compact"), "{swept:?}");
        } else {
            kept.shell.unmount(&target).assert_success();
        }
    }
    assert!((30..FETCHES).contains(&most), "{most} segments: at some time, everything is fetched anew");
    kept.mount("whole", ".", "main");
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

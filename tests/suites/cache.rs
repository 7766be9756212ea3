//! `gitrepo-cli cache`: what is in a store, and what is removed from it.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use serde_json::Value;

fn json(shell: &Shell, words: &[&str]) -> Value {
    let outcome = shell.run(&[words, &["--json"]].concat()).assert_success();
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// Mounts a branch of a server's repository, and unmounts it unless `stays`.
fn mount(shell: &Shell, url: &str, pod: &str, revision: &str, stays: bool) {
    let target = shell.target(pod);
    shell.mount(url, &target, &[&format!("--revision={revision}")]).assert_success();
    if !stays {
        shell.unmount(&target).assert_success();
    }
}

/// A repository with two commits that share a large file, and its server.
fn served() -> (Repository, [String; 2], HttpServer) {
    let repository = Repository::new("app");
    let large = gitrepo_tests::fixtures::text(1, 300_000);
    let first = repository.commit("main", &Files::new().file("large", &large).file("a", "first\n"));
    repository.tag("first", &first);
    let second = repository.commit("main", &Files::new().file("a", "second\n"));
    let server = HttpServer::start(&repository);
    (repository, [first, second], server)
}

/// Flips the first byte of every segment of the store's repositories, and leaves the file's times as they are.
pub(crate) fn damage_segments(store: &Path) -> usize {
    let mut damaged = 0;
    for repository in fs::read_dir(store.join("repositories")).unwrap() {
        for segment in fs::read_dir(repository.unwrap().path().join("segments")).unwrap() {
            let path: PathBuf = segment.unwrap().path();
            if path.extension().is_some_and(|end| end == "content") {
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                let file = File::options().read(true).write(true).open(&path).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, 0).unwrap();
                file.write_all_at(&[byte[0] ^ 1], 0).unwrap();
                file.set_modified(modified).unwrap();
                damaged += 1;
            }
        }
    }
    damaged
}

#[test]
fn cache_ls_and_du_count_shared_content_once() {
    let Some(shell) = Shell::new_with(64 << 20, Format::Image) else { return };
    let (repository, commits, server) = served();
    let url = server.url(&repository);
    mount(&shell, &url, "a", "first", true);
    mount(&shell, &url, "b", "main", false);

    let listed = json(&shell, &["cache", "ls"]);
    let snapshots = listed["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2, "{listed}");
    for snapshot in snapshots {
        let is_first = snapshot["commit"] == commits[0].as_str();
        assert_eq!(snapshot["repository"], url, "{snapshot}");
        assert_eq!((&snapshot["format"], &snapshot["state"]), (&"image".into(), &"good".into()), "{snapshot}");
        assert_eq!((&snapshot["uid"], &snapshot["volumes"]), (&0.into(), &usize::from(is_first).into()), "{snapshot}");
        assert!(snapshot["sharedBytes"].as_u64().unwrap() >= 300_000, "{snapshot}");
    }
    let usage = json(&shell, &["cache", "du"]);
    let content = usage["total"]["content"].as_u64().unwrap();
    // Both commits show the large file, which is on the disk once.
    assert!((300_000..330_000).contains(&content), "{usage}");
    let mut inodes = std::collections::BTreeSet::new();
    let names = gitrepo_tests::volumes::files_below(&shell.store().join("repositories"));
    let names = names.into_iter().chain(gitrepo_tests::volumes::files_below(&shell.store().join("snapshots")));
    let on_disk = names.map(|path| fs::metadata(path).unwrap()).filter(|file| inodes.insert(file.ino()));
    let on_disk: u64 = on_disk.map(|file| file.len()).sum();
    let total = usage["total"]["total"].as_u64().unwrap();
    // Refs and lists of a repository are not counted.
    assert!(total <= on_disk && total + 4096 >= on_disk, "{total} of {on_disk}: {usage}");
    assert_eq!(usage["repositories"][0]["total"], usage["total"]["total"]);

    let text = shell.run(&["cache", "ls"]).assert_success().stdout;
    assert!(text.starts_with("REPOSITORY") && text.contains(&commits[1][..12]), "{text}");
    assert!(shell.run(&["cache", "du"]).assert_success().stdout.contains("\ntotal "));
    shell.unmount(&shell.target("a")).assert_success();
}

#[test]
fn cache_gc_keeps_to_its_limits_and_spares_what_is_used() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, _, server) = served();
    let url = server.url(&repository);
    mount(&shell, &url, "a", "first", true);
    mount(&shell, &url, "b", "main", false);

    let refused = shell.run(&["cache", "gc"]).assert_code(64);
    assert!(refused.stderr.contains("--max-bytes"), "{}", refused.stderr);
    shell.run(&["cache", "gc", "--max-bytes=much"]).assert_code(64);
    let within = json(&shell, &["cache", "gc", "--max-bytes=1Gi", "--max-age=1d"]);
    assert_eq!((&within["snapshots"], &within["repositories"]), (&0.into(), &0.into()), "{within}");
    let planned = json(&shell, &["cache", "gc", "--max-bytes=0", "--dry-run"]);
    assert_eq!((&planned["snapshots"], &planned["dryRun"]), (&1.into(), &true.into()), "{planned}");
    assert_eq!(json(&shell, &["cache", "ls"])["snapshots"].as_array().unwrap().len(), 2);
    let collected = json(&shell, &["cache", "gc", "--max-bytes=0"]);
    assert_eq!((&collected["snapshots"], &collected["incomplete"]), (&1.into(), &false.into()), "{collected}");
    assert_eq!(fs::read(shell.target("a").join("a")).unwrap(), b"first\n");
    shell.unmount(&shell.target("a")).assert_success();
    json(&shell, &["cache", "gc", "--max-age=0s"]);
    assert_eq!(json(&shell, &["cache", "du"])["total"]["total"], 0);
}

#[test]
fn cache_rm_removes_what_is_named_and_refuses_what_is_in_use() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, commits, server) = served();
    let other = Repository::new("other");
    other.commit("main", &Files::new().file("a", "other\n"));
    server.add(&other);
    let url = server.url(&repository);
    mount(&shell, &url, "a", "first", true);
    mount(&shell, &url, "b", "main", false);
    mount(&shell, &server.url(&other), "c", "main", false);

    shell.run(&["cache", "rm", &format!("{url}@main")]).assert_code(64);
    shell.run(&["cache", "rm", &server.url_at("missing.git")]).assert_code(66);
    shell.run(&["cache", "rm", &format!("{url}@0000000")]).assert_code(66);
    let removed = json(&shell, &["cache", "rm", &format!("{url}@{}", &commits[1][..10])]);
    assert_eq!((&removed["snapshots"], &removed["snapshotsInUse"]), (&1.into(), &0.into()), "{removed}");
    let refused = shell.run(&["cache", "rm", &url, "--json"]).assert_code(64);
    let refused: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((&refused["snapshots"], &refused["snapshotsInUse"]), (&0.into(), &1.into()), "{refused}");
    assert_eq!(fs::read(shell.target("a").join("a")).unwrap(), b"first\n");
    shell.unmount(&shell.target("a")).assert_success();
    let removed = json(&shell, &["cache", "rm", &url]);
    assert_eq!((&removed["snapshots"], &removed["repositories"]), (&1.into(), &1.into()), "{removed}");
    let left = json(&shell, &["cache", "ls"]);
    assert_eq!(left["repositories"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["snapshots"][0]["repository"], server.url(&other));
}

fn damage_is_found_and_repaired(format: Format) {
    let Some(shell) = Shell::new_with(64 << 20, format) else { return };
    let (repository, _, server) = served();
    let url = server.url(&repository);
    mount(&shell, &url, "a", "main", false);
    let whole = json(&shell, &["cache", "verify"]);
    assert_eq!((&whole["repositories"], &whole["snapshots"]), (&1.into(), &1.into()), "{whole}");
    assert!(whole["bytes"].as_u64().unwrap() >= 300_000, "{whole}");

    assert!(damage_segments(&shell.store()) > 0);
    let report = shell.run(&["cache", "verify", "--json"]).assert_code(70);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let damaged = report["damaged"].as_array().unwrap();
    let shares = format == Format::Image;
    assert_eq!(damaged.len(), if shares { 2 } else { 1 }, "{report}");
    assert!(damaged.iter().all(|damaged| damaged["quarantined"] == false && damaged["repository"] == url), "{report}");
    let other = json(&shell, &["cache", "verify", "https://git.example.com/other"]);
    assert_eq!(other["repositories"], 0, "{other}");

    let text = shell.run(&["cache", "verify", "--repair"]).assert_success().stdout;
    assert!(text.contains("damaged: repository") && text.contains("quarantined"), "{text}");
    assert!(json(&shell, &["cache", "verify"])["damaged"].as_array().unwrap().is_empty());
    mount(&shell, &url, "a", "main", true);
    assert_eq!(fs::read(shell.target("a").join("a")).unwrap(), b"second\n");
    let large = fs::read(shell.target("a").join("large")).unwrap();
    assert_eq!(large, gitrepo_tests::fixtures::text(1, 300_000).as_bytes());
    shell.unmount(&shell.target("a")).assert_success();
}

#[test]
fn r4_cache_verify_finds_and_quarantines_damage_of_images() {
    damage_is_found_and_repaired(Format::Image);
}

#[test]
fn r4_cache_verify_finds_and_quarantines_damage_beside_plain_files() {
    damage_is_found_and_repaired(Format::Directory);
}

#[test]
fn r4_damage_that_a_volume_shows_stays_a_failure_after_the_repair() {
    let Some(shell) = Shell::new_with(64 << 20, Format::Image) else { return };
    let (repository, _, server) = served();
    let url = server.url(&repository);
    mount(&shell, &url, "a", "main", true);
    damage_segments(&shell.store());
    let report = shell.run(&["cache", "verify", "--repair", "--json"]).assert_code(70);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let damaged = report["damaged"].as_array().unwrap();
    assert!(damaged.iter().all(|damaged| damaged["quarantined"] == true), "{report}");
    assert!(damaged.iter().any(|damaged| damaged["volumes"] == 1), "{report}");
    mount(&shell, &url, "b", "main", true);
    assert_eq!(fs::read(shell.target("b").join("a")).unwrap(), b"second\n", "a new volume shows good content");
    let states = json(&shell, &["cache", "ls"]);
    let states: Vec<_> = states["snapshots"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert!(states.contains(&"quarantined".into()) && states.contains(&"good".into()), "{states:?}");
    for pod in ["a", "b"] {
        shell.unmount(&shell.target(pod)).assert_success();
    }
}

//! The store's budget: what exceeds it goes, and what is in use stays. And limits: what exceeds one is not fetched twice.

mod storm;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;

const DISK: u64 = 64 << 20;

/// A repository with 2 MiB of content, and its server.
fn large() -> (Repository, HttpServer) {
    let repository = Repository::new("large");
    repository.commit("main", &Files::new().file("noise", fixtures::noise(1, 2 << 20)));
    let server = HttpServer::start(&repository);
    (repository, server)
}

#[test]
fn r12_a_commit_whose_tree_exceeded_a_limit_is_not_fetched_again_until_the_limit_is_raised() {
    assert_not_fetched_again("treeBytes");
}

#[test]
fn r12_a_fetch_that_exceeded_a_limit_is_not_made_again_until_the_limit_is_raised() {
    assert_not_fetched_again("fetchBytes");
}

fn assert_not_fetched_again(limit: &str) {
    let Some(shell) = Shell::new(DISK) else { return };
    let (repository, server) = large();
    let url = server.url(&repository);
    let target = shell.target("pod");
    let limited = |bytes: &str| {
        shell.configure(&format!(r#"{{"cache": {{"reserveBytes": "0"}}, "limits": {{"{limit}": "{bytes}"}}}}"#))
    };
    limited("1Mi");
    let first = shell.mount(&url, &target, &[]).assert_code(73).stderr;
    assert!(first.contains(&format!("limits.{limit}")) && !first.contains("not fetched again"), "{first}");
    let packs = server.packs();
    for bytes in ["1Mi", "512Ki"] {
        limited(bytes);
        let again = shell.mount(&url, &target, &[]).assert_code(73).stderr;
        for words in [&*format!("limits.{limit}"), "ago, and not fetched again", "raise the limit"] {
            assert!(again.contains(words), "{words}: {again}");
        }
    }
    assert_eq!(server.packs(), packs, "{limit}");
    limited("1100Ki");
    let larger = shell.mount(&url, &target, &[]).assert_code(73).stderr;
    assert!(!larger.contains("not fetched again"), "a larger limit tries again: {larger}");
    limited("3Mi");
    shell.mount(&url, &target, &[]).assert_success();
    assert_same_tree(&repository, "main", ".", &target);
    shell.unmount(&target).assert_success();
    shell.run(&["sweep", "--unreferenced"]).assert_success();
}

#[test]
fn a_tree_that_is_larger_than_a_writable_volume_may_be_is_not_copied() {
    let Some(shell) = Shell::new(DISK) else { return };
    let (repository, server) = large();
    let url = server.url(&repository);
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "limits": {"writableBytes": "1Mi"}}"#);
    let target = shell.target("pod");
    let refused = shell.mount(&url, &target, &["--writable=copy"]).assert_code(73).stderr;
    assert!(refused.contains("limits.writableBytes"), "{refused}");
    assert_eq!(shell.leftovers(), [] as [std::path::PathBuf; 0]);
    // What is below a layer does not count.
    for kind in [&[][..], &["--writable=private"], &["--writable=shared"]] {
        shell.mount(&url, &target, kind).assert_success();
        assert_same_tree(&repository, "main", ".", &target);
        shell.unmount(&target).assert_success();
    }
    shell.configure(r#"{"cache": {"reserveBytes": "0"}, "limits": {"writableBytes": "2Mi"}}"#);
    shell.mount(&url, &target, &["--writable=copy"]).assert_success();
    assert_same_tree(&repository, "main", ".", &target);
    shell.unmount(&target).assert_success();
    assert_eq!(shell.leftovers(), [] as [std::path::PathBuf; 0]);
}

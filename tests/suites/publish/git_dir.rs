//! `gitDir: keep`: a working repository in the volume, as git sees it.

use std::fs;

use gitrepo_core::spec::GitDir;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::git;
use gitrepo_tests::working_repository::let_in;
use gitrepo_tests::working_repository::line;

use super::Bench;
use super::images::every_fixture;

/// The same request, with `.git`.
pub(super) fn keeping(request: VolumeRequest, depth: u32) -> VolumeRequest {
    with(request, |request| {
        request.spec.git_dir = GitDir::Keep;
        request.spec.depth = depth;
    })
}

/// A repository with a history of five commits on `main`, one of them of two parents, and another branch.
pub(super) fn with_history() -> Repository {
    let repository = Repository::new("history");
    for number in 0..4 {
        let text = format!("{number}\n").repeat(50);
        repository.commit("main", &Files::new().file("changes", &text).file(format!("d{number}/new"), "new\n"));
    }
    repository.set_branch("side", "main~1");
    repository.commit("side", &Files::new().file("secret-of-side", "side\n"));
    let tree = repository.resolve("main^{tree}");
    let merge = ["commit-tree", "-p", "main", "-p", "side~1", "-p", "side", "-m", "merge", &tree];
    let merge = gitrepo_tests::git::line(&mut repository.git(merge));
    repository.set_branch("main", &merge);
    repository.commit("other", &Files::new().file("secret-of-other", "other\n"));
    repository.tag("v1", "main~1");
    repository.annotated_tag("v2", "main", "Version 2");
    repository
}

pub(super) fn each_depth_is_that_of_gits_own_clone_whatever_came_before(bench: &Bench) {
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let commit = repository.resolve("main");
    // What another branch brings into the store is in no other volume.
    bench.node.publish(&at(read_only(&url, &bench.node.target("other")), "other")).unwrap();
    let mut requests = Vec::new();
    for (number, depth) in [1, 0, 3, 2, 1].into_iter().enumerate() {
        let request = keeping(read_only(&url, &bench.node.target(&format!("pod-{number}"))), depth);
        let published = bench.node.publish(&request).unwrap();
        assert_eq!(published.outcome == Outcome::Hit, number == 4, "{:?}", published.outcome);
        requests.push((request, depth));
    }
    // All of them beside each other.
    for (request, depth) in &requests {
        let tree = bench.node.shown(&request.target);
        assert_clean(&tree);
        assert_whole(&tree, &repository, &commit, *depth);
        assert_eq!(line(&tree, &["status", "--branch", "--porcelain"]), "## main...origin/main");
        assert_eq!(line(&tree, &["config", "remote.origin.url"]), url);
    }
    for (request, _) in &requests {
        bench.node.unpublish(request);
    }
}

pub(super) fn a_branch_is_checked_out_and_anything_else_is_detached(bench: &Bench) {
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let main = repository.resolve("main");
    for (number, (revision, branch)) in [
        ("HEAD", Some("main")),
        ("side", Some("side")),
        ("refs/heads/main", Some("main")),
        ("v1", None),
        ("v2", None),
        (main.as_str(), None),
    ]
    .into_iter()
    .enumerate()
    {
        let target = bench.node.target(&format!("pod-{number}"));
        let request = keeping(at(read_only(&url, &target), revision), 1);
        bench.node.publish(&request).unwrap();
        let tree = bench.node.shown(&request.target);
        assert_clean(&tree);
        assert_whole(&tree, &repository, &repository.resolve(&format!("{revision}^{{commit}}")), 1);
        assert_eq!(line(&tree, &["branch", "--show-current"]), branch.unwrap_or_default(), "{revision}");
        if let Some(branch) = branch {
            let upstream = line(&tree, &["rev-parse", "--symbolic-full-name", "@{upstream}"]);
            assert_eq!(upstream, format!("refs/remotes/origin/{branch}"));
        }
        bench.node.unpublish(&request);
    }
}

/// Attacks on the quoting of settings, and on paths that are made of names.
pub(super) fn odd_names_of_branches_are_names_and_nothing_else(bench: &Bench) {
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let long = "x/".repeat(100) + &"y".repeat(200);
    for (number, branch) in
        ["a\"]x=y;#", "$(touch${IFS}x)`x`'", "ü/日本語", "core.fsmonitor=x", "a/b/c", "!x|y&z", &long]
            .into_iter()
            .enumerate()
    {
        repository.set_branch(branch, "main");
        let request = keeping(at(read_only(&url, &bench.node.target(&format!("pod-{number}"))), branch), 1);
        bench.node.publish(&request).unwrap();
        let tree = bench.node.shown(&request.target);
        assert_clean(&tree);
        assert_eq!(line(&tree, &["branch", "--show-current"]), branch);
        assert_eq!(line(&tree, &["config", &format!("branch.{branch}.merge")]), format!("refs/heads/{branch}"));
        let settings = line(&tree, &["config", "--local", "--name-only", "--list"]);
        assert_eq!(settings.lines().count(), 8, "{settings}");
        assert_eq!(entries(&tree).len(), 6, "{:?}", entries(&tree));
        bench.node.unpublish(&request);
        repository.delete_branch(branch);
    }
}

pub(super) fn every_fixture_is_clean_with_its_repository(bench: &Bench) {
    for (number, repository) in every_fixture().iter().enumerate() {
        let server = HttpServer::start(repository);
        let commit = repository.resolve("main");
        for directory in [".", "x/y"] {
            let target = bench.node.target(&format!("{number}-{}", directory.len()));
            let mut request = keeping(read_only(&server.url(repository), &target), 0);
            request.spec.tree.directory = gitrepo_core::spec::RelativePath::parse(directory).unwrap();
            bench.node.publish(&request).unwrap();
            let tree = bench.node.shown(&request.target).join(directory);
            assert_clean(&tree);
            assert_whole(&tree, repository, &commit, 0);
            bench.node.unpublish(&request);
        }
    }
}

pub(super) fn without_a_repository_nothing_is_there_and_depths_share_a_tree(bench: &Bench) {
    for depth in [1, 3, 0] {
        let request = with(read_only(&bench.url(), &bench.node.target(&format!("pod-{depth}"))), |request| {
            request.spec.depth = depth;
        });
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
    }
    assert_eq!(bench.node.snapshots().len(), 1);
    bench.node.publish(&keeping(read_only(&bench.url(), &bench.node.target("kept")), 1)).unwrap();
    assert_eq!(bench.node.snapshots().len(), 2);
}

pub(super) fn a_snapshot_that_is_made_again_has_the_same_branch(bench: &Bench) {
    let request = keeping(read_only(&bench.url(), &bench.node.target("pod")), 0);
    bench.node.publish(&request).unwrap();
    let before = bench.node.snapshots();
    bench.repository.commit("main", &Files::new().file("later", "later\n"));
    for place in ["snapshots", "repositories"] {
        entries(&bench.node.store().join(place)).iter().for_each(|path| delete(path));
    }
    bench.node.reboot();
    bench.node.publish(&request).unwrap();
    let tree = bench.node.shown(&request.target);
    assert_clean(&tree);
    assert_whole(&tree, &bench.repository, &bench.commit, 0);
    assert_eq!(line(&tree, &["branch", "--show-current"]), "main");
    assert_eq!(bench.node.snapshots(), before);
    // A later volume follows the branch.
    let later = keeping(read_only(&bench.url(), &bench.node.target("later")), 0);
    bench.node.publish(&later).unwrap();
    assert_whole(&bench.node.shown(&later.target), &bench.repository, &bench.repository.resolve("main"), 0);
}

pub(super) fn the_owner_commits_fetches_and_collects_garbage(bench: &Bench) {
    if !require::root("gives a volume to another user") {
        return;
    }
    let repository = with_history();
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let target = |pod: &str| bench.node.target(pod);
    let requests = [
        keeping(writable(&url, &target("copy"), 1000), 1),
        keeping(with(shared(&url, "a volume", &target("shared")), |request| request.spec.uid = 1000), 0),
    ];
    for request in &requests {
        bench.node.publish(request).unwrap();
        let tree = bench.node.shown(&request.target);
        let_in(&tree.join(".git"));
        assert_clean(&tree);
        let first = line(&tree, &["rev-parse", "HEAD"]);
        fs::write(tree.join("changes"), "changed\n").unwrap();
        assert_eq!(line(&tree, &["status", "--porcelain"]), " M changes");
        gitrepo_tests::git::output(&mut git(&tree, &["commit", "--all", "--quiet", "--message=ours"]));
        assert_eq!(line(&tree, &["rev-parse", "HEAD~1"]), first);
        assert_eq!(line(&tree, &["status", "--porcelain"]), "");
        let theirs = repository.commit("main", &Files::new().file("theirs", "theirs\n"));
        for command in [&["fetch", "--quiet"][..], &["gc", "--quiet", "--prune=now"], &["fsck", "--full"]] {
            gitrepo_tests::git::output(&mut git(&tree, command));
        }
        assert_eq!(line(&tree, &["rev-parse", "origin/main"]), theirs);
        // What was written stays, as any other data.
        bench.node.publish(request).unwrap();
        assert_eq!(line(&tree, &["log", "-1", "--format=%s"]), "ours");
        bench.node.unpublish(request);
    }
}

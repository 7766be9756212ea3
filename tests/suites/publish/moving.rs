//! Refs that move: forward, back, to another history, and away. (As git-sync's tests move them.)

use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::spec::GitDir;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::line;

use super::Bench;
use super::git_dir::with_history;

/// The bench's node, whose every publish asks the remote, even within a second.
fn asking(bench: &Bench) -> Node {
    bench.configured(|config| config.cache.access_ttl = Duration::ZERO)
}

pub(super) fn new_volumes_follow_a_ref_wherever_it_moves(bench: &Bench) {
    let (node, repository) = (asking(bench), &bench.repository);
    let elsewhere = repository.commit_unrelated("refs/heads/other", &Files::new().file("README.md", "# Other\n"));
    let steps = [&bench.first, &bench.commit, &bench.first, &elsewhere, &bench.commit];
    // HEAD moves by its name: a branch for each commit.
    for commit in steps {
        repository.set_branch(&format!("at-{commit}"), commit);
    }
    let move_to = |revision: &str, commit: &str| match revision {
        "HEAD" => repository.set_head(&format!("at-{commit}")),
        "branch" => repository.set_branch(revision, commit),
        "tag" => repository.tag(revision, commit),
        "annotated" => {
            git::output(&mut repository.git(["tag", "--force", "--annotate", "--message=moved", revision, commit]));
        }
        reference => repository.set_reference(reference, commit),
    };
    let mut shown = Vec::new();
    for (kind, revision) in ["branch", "tag", "annotated", "refs/changes/1/head", "HEAD"].into_iter().enumerate() {
        for (step, commit) in steps.into_iter().enumerate() {
            move_to(revision, commit);
            let request = at(read_only(&bench.url(), &node.target(&format!("{kind}-{step}"))), revision);
            let published = node.publish(&request).unwrap();
            assert_eq!(published.commit.to_string(), *commit, "{revision}, step {step}");
            let is_new = kind == 0 && [0, 1, 3].contains(&step);
            assert_eq!(published.outcome != Outcome::Hit, is_new, "{revision}, step {step}: {:?}", published.outcome);
            shown.push((request, commit));
        }
    }
    assert_eq!(bench.server.packs(), 3, "each commit comes once, whichever way a ref takes to it");
    for (request, commit) in &shown {
        bench.assert_shows(&request.target, commit);
    }

    // Deleted: new volumes are told, and old ones stay, also after a reboot.
    repository.delete_branch("branch");
    let gone = at(read_only(&bench.url(), &node.target("gone")), "branch");
    assert_eq!(node.publish(&gone).unwrap_err().kind(), Kind::NotFound);
    let (old, commit) = &shown[0];
    assert_eq!(node.publish(old).unwrap().outcome, Outcome::AlreadyPublished);
    node.reboot();
    assert_eq!(node.publish(old).unwrap().commit.to_string(), **commit);
    bench.assert_shows(&old.target, commit);
    for (request, _) in &shown {
        node.unpublish(request);
    }
    node.assert_nothing_published();
}

pub(super) fn a_depth_stays_what_it_is_while_its_branch_moves(bench: &Bench) {
    let (node, repository) = (asking(bench), with_history());
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let (tip, old) = (repository.resolve("main"), repository.resolve("main~2"));
    let new = repository.commit("main", &Files::new().file("later", "later\n"));
    // A cut within what the node has whole must not cut anything else, whichever comes first.
    let steps = [
        (&tip, Some(0)),
        (&old, None),
        (&tip, Some(0)),
        (&old, Some(2)),
        (&tip, Some(2)),
        (&tip, None),
        (&new, None),
        (&tip, Some(3)),
        (&old, Some(0)),
        (&new, Some(0)),
    ];
    let publish = |(number, (commit, depth)): (usize, (&String, Option<u32>))| {
        repository.set_branch("main", commit);
        let request = with(at(read_only(&url, &node.target(&format!("pod-{number}"))), "main"), |request| {
            request.spec.git_dir = GitDir::Keep;
            request.spec.depth = depth.unwrap_or(request.spec.depth);
        });
        assert_eq!(node.publish(&request).unwrap().commit.to_string(), *commit, "step {number}");
        (request, commit.clone(), depth.unwrap_or(1))
    };
    let shown: Vec<_> = steps.into_iter().enumerate().map(publish).collect();
    // All of them beside each other.
    for (request, commit, depth) in &shown {
        let tree = node.shown(&request.target);
        assert_clean(&tree);
        assert_whole(&tree, &repository, commit, *depth);
        assert_eq!(line(&tree, &["branch", "--show-current"]), "main");
        node.unpublish(request);
    }
    node.assert_nothing_published();
}

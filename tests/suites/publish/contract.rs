//! Promises of a publish that succeeds.

use gitrepo_core::error::Kind;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::State;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;

use super::Bench;

pub(super) fn a_volume_shows_exactly_the_commits_tree(bench: &Bench) {
    let everything = fixtures::everything();
    bench.server.add(&everything.repository);
    let url = bench.server.url(&everything.repository);
    for (pod, revision) in [("tag", "v3"), ("commit", &everything.first), ("orphan", "orphan")] {
        let request = at(read_only(&url, &bench.node.target(pod)), revision);
        let published = bench.node.publish(&request).unwrap();
        assert!(matches!(published.outcome, Outcome::Fetched { received_bytes: 1.. }), "{published:?}");
        let commit = everything.repository.resolve(&format!("{revision}^{{commit}}"));
        assert_eq!(published.commit.to_string(), commit);
        assert_same_tree(&everything.repository, &commit, ".", &bench.node.shown(&request.target));
    }
}

pub(super) fn publishing_ten_times_makes_one_mount(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let first = bench.node.publish(&request).unwrap();
    for _ in 1..10 {
        let again = bench.node.publish(&request).unwrap();
        assert_eq!((again.commit, again.outcome), (first.commit, Outcome::AlreadyPublished));
        assert_eq!(again.reference.as_deref(), Some("refs/heads/main"));
    }
    bench.assert_shows(&request.target, &bench.commit);
    assert_eq!(bench.server.packs(), 1);

    assert!(bench.node.unpublish(&request).known);
    for _ in 1..10 {
        assert!(!bench.node.unpublish(&request).known);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn publish_and_unpublish_may_alternate(bench: &Bench) {
    let requests = ["a", "b"].map(|pod| read_only(&bench.url(), &bench.node.target(pod)));
    for round in 0..6 {
        let (here, there) = (&requests[round % 2], &requests[(round + 1) % 2]);
        bench.node.publish(here).unwrap();
        bench.node.publish(there).unwrap();
        bench.node.unpublish(here);
        bench.node.publish(there).unwrap();
        bench.assert_shows(&there.target, &bench.commit);
        assert_eq!(bench.node.mounts_on(&here.target), 0);
        bench.node.unpublish(there);
        bench.node.unpublish(here);
    }
    bench.node.assert_nothing_published();
    assert_eq!((bench.server.packs(), bench.node.snapshots().len()), (1, 1));
}

pub(super) fn different_content_for_a_published_target_is_refused(bench: &Bench) {
    let target = bench.node.target("pod");
    let request = read_only(&bench.url(), &target);
    bench.node.publish(&request).unwrap();
    let others = [
        at(read_only(&bench.url(), &target), &bench.first),
        read_only(&bench.server.url_at("another.git"), &target),
        writable(&bench.url(), &target, 0),
        with(read_only(&bench.url(), &target), |request| request.volume_id = "another".to_owned()),
    ];
    for other in others {
        let error = bench.node.publish(&other).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
        let message = error.to_string();
        assert!(message.contains(&bench.commit) && message.contains("unpublish it"), "{message}");
    }
    bench.assert_shows(&target, &bench.commit);
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn one_volume_may_be_on_many_targets(bench: &Bench) {
    let requests = ["a", "b", "c"].map(|pod| {
        with(read_only(&bench.url(), &bench.node.target(pod)), |request| request.volume_id = "one".to_owned())
    });
    for request in &requests {
        bench.node.publish(request).unwrap();
    }
    for request in &requests {
        bench.assert_shows(&request.target, &bench.commit);
    }
    assert_eq!((bench.server.packs(), bench.node.snapshots().len()), (1, 1));
    let [one, two, three] = &requests;
    bench.node.unpublish(two);
    bench.assert_shows(&one.target, &bench.commit);
    bench.node.unpublish(one);
    bench.node.unpublish(three);
    bench.node.assert_nothing_published();
}

pub(super) fn a_subdirectory_appears_at_the_requested_directory(bench: &Bench) {
    let mut request = read_only(&bench.url(), &bench.node.target("pod"));
    request.spec.tree.subdirectory = RelativePath::parse("a/b").unwrap();
    request.spec.tree.directory = RelativePath::parse("x/y").unwrap();
    bench.node.publish(&request).unwrap();
    let shown = bench.node.shown(&request.target);
    assert_eq!(gitrepo_tests::volumes::entries(&shown), [shown.join("x")]);
    assert_same_tree(&bench.repository, &bench.commit, "a/b", &shown.join("x/y"));
}

pub(super) fn a_published_volume_stays_when_the_branch_moves(bench: &Bench) {
    let request = at(read_only(&bench.url(), &bench.node.target("before")), "main");
    bench.node.publish(&request).unwrap();
    let pushed = bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    assert_eq!(bench.node.publish(&request).unwrap().commit.to_string(), bench.commit);
    bench.assert_shows(&request.target, &bench.commit);

    // Publishes share a recent answer for the same revision: a new spelling of it asks the remote.
    let later = at(read_only(&bench.url(), &bench.node.target("after")), "refs/heads/main");
    assert_eq!(bench.node.publish(&later).unwrap().commit.to_string(), pushed);
    bench.assert_shows(&later.target, &pushed);
    bench.assert_shows(&request.target, &bench.commit);
}

pub(super) fn after_a_reboot_the_recorded_commit_is_published_without_the_remote(bench: &Bench) {
    let server = HttpServer::start(&bench.repository);
    let request = at(read_only(&server.url(&bench.repository), &bench.node.target("pod")), "main");
    bench.node.publish(&request).unwrap();
    bench.repository.set_branch("main", &bench.first);
    drop(server);
    bench.node.reboot();

    let published = bench.node.publish(&request).unwrap();
    assert_eq!((published.commit.to_string(), published.outcome), (bench.commit.clone(), Outcome::Hit));
    bench.assert_shows(&request.target, &bench.commit);
    assert_eq!(bench.node.publish(&request).unwrap().outcome, Outcome::AlreadyPublished);
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn after_a_reboot_another_credential_needs_its_own_proof(bench: &Bench) {
    bench.server.accept_only(&[Credential::Bearer("right")]);
    let right = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish_as(&right, &token(Some("right"))).unwrap();
    bench.node.reboot();
    bench.server.accept_only(&[Credential::Bearer("changed")]);
    for wrong in [None, Some("wrong")] {
        let error = bench.node.publish_as(&right, &token(wrong)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
        assert_eq!(bench.node.mounts_on(&right.target), 0);
    }
    let asked = bench.server.requests().len();
    bench.node.publish_as(&right, &token(Some("right"))).unwrap();
    bench.assert_shows(&right.target, &bench.commit);
    assert_eq!(bench.server.requests().len(), asked, "its own record is enough proof");
}

pub(super) fn the_list_shows_the_state_of_mounts(bench: &Bench) {
    assert!(bench.node.volumes.list().unwrap().is_empty());
    let requests = ["b", "a"].map(|pod| read_only(&bench.url(), &bench.node.target(pod)));
    for request in &requests {
        bench.node.publish(request).unwrap();
    }
    let listed = bench.node.volumes.list().unwrap();
    let targets: Vec<_> = listed.iter().map(|volume| (volume.record.target.clone(), volume.state)).collect();
    let [b, a] = requests.map(|request| request.target);
    assert_eq!(targets, [(a, State::Mounted), (b, State::Mounted)]);
    assert!(listed.iter().all(|volume| volume.record.commit.to_string() == bench.commit));
    bench.node.reboot();
    assert!(bench.node.volumes.list().unwrap().iter().all(|volume| volume.state == State::NotMounted));
}

pub(super) fn unpublishing_an_unpublished_volume_succeeds(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let unpublished = bench.node.unpublish(&request);
    assert_eq!((unpublished.known, unpublished.mounts), (false, 0));
    bench.node.publish(&request).unwrap();
    let other = with(read_only(&bench.url(), &request.target), |request| request.volume_id = "another".to_owned());
    assert!(!bench.node.unpublish(&other).known);
    bench.assert_shows(&request.target, &bench.commit);

    let cancel = gitrepo_core::cancel::Cancel::new();
    let by_target = bench.node.volumes.unpublish(None, &request.target, &cancel).unwrap();
    assert_eq!((by_target.known, by_target.mounts), (true, 1));
    bench.node.assert_nothing_published();
}

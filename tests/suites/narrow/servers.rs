//! Servers that leave nothing out, or refuse to in the middle: the whole commit is fetched, and no volume fails.

use std::sync::atomic::AtomicBool;

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
use gitrepo_tests::http::Request;
use gitrepo_tests::pktline;

use super::*;

/// Fails unless a directory is shown and the whole commit was fetched for it.
fn assert_whole(scene: &Scene) {
    let cost = scene.publish("parts/1");
    assert!(matches!(cost.published.outcome, Outcome::Fetched { .. }));
    assert_eq!(scene.whole_commits().len(), 1);
    assert_eq!(scene.publish("parts/0").requests, 0, "it is here");
}

#[test]
fn a_server_without_filters_sends_the_whole_commit() {
    let scene = Scene::new(2);
    scene.repository.configure("uploadpack.allowFilter", "false");
    assert_whole(&scene);
    assert_eq!((scene.server.proofs(), scene.server.packs()), (0, 1), "it is asked for nothing else");
}

#[test]
fn a_server_of_an_old_protocol_sends_the_whole_commit() {
    for protocol in [0, 1] {
        assert_whole(&Scene::of(monorepo(2), |server| server.protocol(protocol)));
    }
}

#[test]
fn a_server_that_forbids_the_filter_sends_the_whole_commit() {
    let scene = Scene::new(2);
    scene.repository.configure("uploadpackfilter.tree.allow", "false");
    assert_whole(&scene);
}

#[test]
fn a_server_that_refuses_any_of_the_objects_sends_the_whole_commit() {
    let repository = monorepo(2);
    let tree_of = |path: &str| repository.resolve(&format!("main:{path}"));
    let refused = [repository.resolve("main^{tree}"), tree_of("parts"), tree_of("parts/1")];
    for tree in refused {
        for words in ["upload-pack: not our ref", "access denied", "something is wrong with"] {
            let (tree, refusal) = (tree.clone(), pktline::packet(format!("ERR {words} {tree}")));
            let scene = Scene::of(monorepo(2), move |server| {
                server.answer(move |request| match request.says(&format!("want {tree}")) {
                    true => {
                        let refusal = refusal.clone();
                        Answer::tampered(move |_| (refusal.clone(), Ending::Complete))
                    }
                    false => Answer::Git,
                })
            });
            assert_whole(&scene);
        }
    }
}

#[test]
fn a_server_that_fails_or_hangs_up_when_any_of_the_objects_is_wanted_sends_the_whole_commit() {
    let hang_up = || Answer::raw(|_| Ok(Ending::Broken));
    let refusals = [400, 405, 413, 500, 502].map(Answer::status).into_iter().chain([hang_up()]);
    for (number, refusal) in refusals.enumerate() {
        let repository = monorepo(2);
        let tree_of = |path: &str| repository.resolve(&format!("main:{path}"));
        let objects = [repository.resolve("main^{tree}"), tree_of("parts"), tree_of("parts/1")];
        let refused = format!("want {}", objects[number % objects.len()]);
        assert_whole(&Scene::of(repository, |server| {
            server.answer(move |request| if request.says(&refused) { refusal.clone() } else { Answer::Git })
        }));
    }
    // The commit is in every request, but only this one leaves out trees.
    for refusal in [Answer::status(400), Answer::status(500), hang_up()] {
        assert_whole(&Scene::of(monorepo(2), |server| {
            server.answer(move |request| if request.is_proof() { refusal.clone() } else { Answer::Git })
        }));
    }
}

#[test]
fn a_server_that_is_away_fails_the_volume_and_the_next_try_succeeds() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let scene = Scene::of(monorepo(2), |server| {
        server.answer(move |request| match request.method == "POST" && away.load(Ordering::SeqCst) {
            true => Answer::status(503),
            false => Answer::Git,
        })
    });
    let (kind, text) = scene.refused("parts/1");
    assert_eq!(kind, Kind::Unavailable, "{text}");
    is_away.store(false, Ordering::SeqCst);
    assert_eq!((scene.publish("parts/1").packs, scene.whole_commits().len()), (1, 0));
}

/// Whether more than one object is wanted at once: blobs, after their trees.
fn wants_blobs(request: &Request) -> bool {
    request.body.windows(5).filter(|window| *window == b"want ").count() > 1
}

#[test]
fn blobs_that_fail_once_after_their_trees_are_wanted_again_and_what_is_here_stays() {
    let first = AtomicUsize::new(0);
    let scene = Scene::of(monorepo(2), move |server| {
        server.answer(move |request| match wants_blobs(request) && first.fetch_add(1, Ordering::SeqCst) == 0 {
            true => Answer::status(500),
            false => Answer::Git,
        })
    });
    scene.publish("parts/0");
    scene.publish("parts/1");
    let old = scene.objects()[0].clone();
    let files = Files::new().file("parts/1/wanted/deep-0/a", "a\n").file("parts/1/wanted/deep-0/b", "b\n");
    scene.repository.commit("main", &files);
    let repeated = scene.publish("parts/1");
    assert_eq!((repeated.packs, scene.whole_commits().len()), (2, 0), "the trees, and then the blobs");
    let new = scene.objects()[0].clone();
    assert!(new.is_superset(&old) && new.len() == old.len() + 2, "{} of {}", new.len(), old.len());
}

#[test]
fn a_server_that_refuses_blobs_after_their_trees_sends_the_whole_commit() {
    let scene = Scene::of(monorepo(2), |server| {
        server.answer(|request| match wants_blobs(request) {
            true => Answer::tampered(|_| (pktline::packet("ERR upload-pack: not our ref"), Ending::Complete)),
            false => Answer::Git,
        })
    });
    scene.publish("parts/1/wanted");
    let commit = scene.repository.commit("main", &Files::new().file("parts/1/wanted/new", "new\n").file("x", "x\n"));
    assert!(scene.whole_commits().is_empty());
    // One blob is missing, then two.
    scene.publish_request(&at(scene.request("parts/1"), &commit), &Credentials::none());
    assert!(scene.whole_commits().is_empty());
    let files = Files::new().file("parts/1/wanted/deep-0/a", "a\n").file("parts/1/wanted/deep-0/b", "b\n");
    let commit = scene.repository.commit("main", &files);
    scene.publish_request(&at(scene.request("parts/1"), &commit), &Credentials::none());
    assert_eq!(scene.whole_commits().len(), 1);
}

#[test]
fn a_pack_that_breaks_off_fails_the_volume_and_the_next_try_succeeds() {
    let first = AtomicUsize::new(0);
    let scene = Scene::of(monorepo(2), move |server| {
        server.answer(move |request| match request.is_upload_pack() && first.fetch_add(1, Ordering::SeqCst) == 0 {
            true => Answer::tampered(|mut body| {
                body.truncate(body.len() / 2);
                (body, Ending::Broken)
            }),
            false => Answer::Git,
        })
    });
    let request = scene.request("parts/1");
    let error = scene.node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", chain(&error));
    scene.node.assert_nothing_published();
    let packs = scene.publish("parts/1").packs;
    assert_eq!((packs, scene.whole_commits().len()), (1, 0));
}

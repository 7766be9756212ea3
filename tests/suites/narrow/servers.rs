//! Servers that leave nothing out, or refuse to in the middle: the whole commit is fetched, and no volume fails.

use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Ending;
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
fn a_server_that_refuses_blobs_after_their_trees_sends_the_whole_commit() {
    let scene = Scene::of(monorepo(2), |server| {
        server.answer(|request| {
            // More than one object at once.
            let wants = request.body.windows(5).filter(|window| *window == b"want ").count();
            match wants > 1 {
                true => Answer::tampered(|_| (pktline::packet("ERR upload-pack: not our ref"), Ending::Complete)),
                false => Answer::Git,
            }
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

//! Places of objects that are good for a short time, or refuse.

use std::time::Duration;

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::Fault;
use gitrepo_tests::lfs::asked;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::lfs::oid;
use serde_json::json;

use super::FLAG;
use super::Scene;

/// Long enough for the first download to begin.
const LIFETIME: Duration = Duration::from_secs(4);

/// A scene with a storage at another host, or its own.
fn scene(is_elsewhere: bool) -> (Scene, Option<HttpServer>) {
    let scene = Scene::new();
    let storage = is_elsewhere.then(|| scene.lfs.start(HttpServer::builder()));
    storage.iter().for_each(|storage| scene.lfs.store_at(storage, "localhost"));
    (scene, storage)
}

#[test]
fn a_place_whose_time_is_over_is_asked_for_anew() {
    for is_elsewhere in [false, true] {
        for (says, is_told) in [(json!({ "expires_in": LIFETIME.as_secs() }), true), (json!({}), false)] {
            let (scene, storage) = scene(is_elsewhere);
            scene.lfs.sign(LIFETIME, says);
            scene.lfs.spoil(&scene.a, Fault::Outlives);
            scene.person.clone(&scene.url(), &[FLAG]).assert_success();
            scene.assert_cloned();
            let [a, b] = [&scene.a, &scene.b].map(|content| oid(content));
            assert_eq!(asked(&scene.server), [&a, &b, &b].map(String::as_str), "{is_elsewhere} {is_told}");
            let requests = downloads(storage.as_ref().unwrap_or(&scene.server));
            let requests: Vec<_> =
                requests.iter().map(|found| (found.path.rsplit_once('/').unwrap().1, found.query.as_str())).collect();
            // Where the server does not say when it is over, the place does.
            let all = [(&*a, "signature=0"), (&*b, "signature=0"), (&*b, "signature=1")];
            let expected: Vec<_> = all.into_iter().filter(|found| !is_told || *found != all[1]).collect();
            assert_eq!(requests, expected, "{is_elsewhere} {is_told}");
        }
    }
}

#[test]
fn a_place_that_refuses_once_is_asked_for_anew_and_one_that_always_does_is_a_failure_to_repeat() {
    for code in [401, 403] {
        let (scene, storage) = scene(true);
        let storage = storage.unwrap();
        scene.lfs.spoil(&scene.a, Fault::Refused(code, 1));
        scene.person.clone(&scene.url(), &[FLAG]).assert_success();
        scene.assert_cloned();
        scene.person.discard_tree();
        let before = (asked(&scene.server).len(), downloads(&storage).len());
        scene.lfs.spoil(&scene.a, Fault::Status(code));
        let refused = scene.person.clone(&scene.url(), &[FLAG]).assert_code(69);
        for word in ["\"a.bin\"", &oid(&scene.a), &code.to_string(), "localhost"] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
        }
        let of_a = |found: &String| *found == oid(&scene.a);
        assert_eq!(asked(&scene.server).split_off(before.0).into_iter().filter(of_a).count(), 2);
        let requests = downloads(&storage).split_off(before.1);
        assert_eq!(requests.iter().filter(|request| request.path.ends_with(&oid(&scene.a))).count(), 2);
        scene.person.assert_nothing_left();
    }
}

#[test]
fn a_server_of_its_own_objects_that_refuses_one_means_it() {
    let (scene, _) = scene(false);
    scene.lfs.spoil(&scene.a, Fault::Refused(403, 1));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    scene.person.discard_tree();
    scene.lfs.spoil(&scene.a, Fault::Status(403));
    scene.person.clone(&scene.url(), &[FLAG]).assert_code(77);
    scene.person.assert_nothing_left();
}

#[test]
fn a_download_that_breaks_off_goes_on_at_the_place_that_is_told_anew() {
    let (scene, _) = scene(false);
    scene.lfs.sign(LIFETIME, json!({}));
    scene.lfs.spoil(&scene.a, Fault::CutLate);
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    let requests = downloads(&scene.server);
    let of_a = requests.iter().filter(|request| request.path.ends_with(&oid(&scene.a)));
    let found: Vec<_> = of_a.map(|request| (request.query.as_str(), request.header("range"))).collect();
    let range = Some("bytes=150000-");
    assert_eq!(found, [("signature=0", None), ("signature=0", range), ("signature=1", range)]);
}

//! Servers that fail, lie or never end.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::Fault;
use gitrepo_tests::lfs::batches;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::lfs::oid;

use super::FLAG;
use super::Scene;

/// Fails unless a clone ends with this code, names the file and its object, and leaves nothing.
fn assert_refused(scene: &Scene, code: i32, words: &[&str]) {
    let refused = scene.person.clone(&scene.url(), &[FLAG]).assert_code(code);
    for word in ["\"a.bin\"", &oid(&scene.a)].iter().chain(words) {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    scene.person.assert_nothing_left();
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::Cut(3));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    let downloads = downloads(&scene.server);
    let of_it = downloads.iter().filter(|request| request.path.ends_with(&oid(&scene.a)));
    let ranges: Vec<_> = of_it.map(|request| request.header("range").unwrap_or("all").to_owned()).collect();
    assert_eq!(ranges, ["all", "bytes=150000-", "bytes=225000-", "bytes=262500-"]);
}

#[test]
fn a_server_that_knows_no_ranges_sends_everything_again() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::WithoutRanges(1));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
}

#[test]
fn a_download_that_never_gets_further_is_given_up() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::WithoutRanges(usize::MAX));
    assert_refused(&scene, 69, &["breaks off at byte 150000 of 300000"]);
    assert_eq!(downloads(&scene.server).len(), 2, "the second time brought nothing new");
}

#[test]
fn a_damaged_object_is_asked_for_once_more_and_never_shown() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::Corrupt(1));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    scene.person.discard_tree();
    scene.lfs.spoil(&scene.a, Fault::Corrupt(usize::MAX));
    let before = downloads(&scene.server).len();
    assert_refused(&scene, 65, &["is damaged at", "SHA-256"]);
    assert_eq!(downloads(&scene.server).len() - before, 2);
}

#[test]
fn a_missing_object_is_named_and_not_found() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::Missing);
    assert_refused(&scene, 66, &["does not give out", "Object does not exist"]);
    scene.lfs.spoil(&scene.a, Fault::Status(404));
    assert_refused(&scene, 66, &["404"]);
    scene.lfs.spoil(&scene.a, Fault::Status(403));
    assert_refused(&scene, 77, &["403"]);
}

#[test]
fn an_object_of_another_size_and_one_without_end_are_cut_short() {
    for fault in [Fault::WrongSize, Fault::Endless] {
        let scene = Scene::new();
        scene.lfs.spoil(&scene.a, fault);
        assert_refused(&scene, 65, &["more than the 300000 bytes of its pointer"]);
        assert!(scene.server.bytes_sent() < 100 << 20);
    }
}

#[test]
fn a_server_that_goes_silent_is_given_up() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::Silent);
    let configuration = scene.person.configuration(r#"{"limits": {"stall": "1s"}}"#);
    let refused = scene.person.clone(&scene.url(), &[FLAG, &configuration]).assert_code(69);
    assert!(refused.stderr.contains("went silent"), "{}", refused.stderr);
    scene.person.assert_nothing_left();
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let scene = Scene::new();
    scene.lfs.spoil(&scene.a, Fault::Later(429, 2));
    scene.lfs.spoil(&scene.b, Fault::Later(503, 1));
    scene.person.clone(&scene.url(), &[FLAG]).assert_success();
    scene.assert_cloned();
    assert_eq!(downloads(&scene.server).len(), 5);
}

#[test]
fn a_repository_without_a_server_says_so() {
    let scene = Scene::new();
    let bare = HttpServer::start(&scene.repository);
    let refused = scene.person.clone(&bare.url(&scene.repository), &[FLAG]).assert_code(66);
    assert!(refused.stderr.contains("there is no Git LFS server for this repository"), "{}", refused.stderr);
    scene.person.assert_nothing_left();
}

#[test]
fn the_limits_count_before_anything_is_downloaded() {
    for (limits, words) in [
        (r#"{"limits": {"treeBytes": "100Ki"}}"#, "limits.treeBytes"),
        (r#"{"limits": {"fetchBytes": "100Ki"}}"#, "limits.fetchBytes"),
    ] {
        let scene = Scene::new();
        let configuration = scene.person.configuration(limits);
        let refused = scene.person.clone(&scene.url(), &[FLAG, &configuration]).assert_code(73);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
        assert_eq!((batches(&scene.server).len(), downloads(&scene.server).len()), (0, 0));
        scene.person.assert_nothing_left();
    }
}

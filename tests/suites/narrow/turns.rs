//! Directories of one commit are fetched at once, whole commits once.

use std::thread;

use super::*;

#[test]
fn s27_a_small_directory_does_not_wait_for_a_large_one_of_its_commit_that_hangs() {
    let scene = Scene::new(2);
    let tree = scene.repository.resolve("main:parts/0");
    let large = scene.server.hold(move |request| request.says(&format!("want {tree}")) && request.is_upload_pack());
    let (first, small) = (scene.request("parts/0"), scene.request("parts/1"));
    thread::scope(|scope| {
        let first = scope.spawn(|| scene.node.publish(&first).map_err(|error| chain(&error)));
        large.wait_for(1);
        scene.node.publish(&small).unwrap();
        assert!(!first.is_finished(), "it waits for the server");
        large.open();
        first.join().unwrap().unwrap();
    });
    for request in [&first, &small] {
        let directory = request.spec.tree.subdirectory.as_str();
        assert_same_tree(&scene.repository, "main", directory, &scene.node.shown(&request.target));
    }
}

#[test]
fn directories_of_a_server_that_sends_whole_commits_wait_for_one_fetch() {
    let scene = Scene::new(2);
    scene.repository.configure("uploadpack.allowFilter", "false");
    let gate = scene.server.hold(|request| request.is_upload_pack());
    let requests = ["parts/0", "parts/1", "parts"].map(|directory| scene.request(directory));
    thread::scope(|scope| {
        let publishes = requests.each_ref().map(|request| scope.spawn(|| scene.node.publish(request).map(drop)));
        gate.wait_for(1);
        gate.open();
        for publish in publishes {
            publish.join().unwrap().unwrap();
        }
    });
    assert_eq!(scene.server.packs(), 1);
}

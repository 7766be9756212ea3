//! Who writes to the same copy, and who does not.

use std::fs;
use std::path::Path;

use gitrepo_tests::http::Credential;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Files;
use serde_json::json;

use super::Scene;
use super::read;

/// Whether what is written to one is seen in the other.
fn share(one: &Path, other: &Path) -> bool {
    fs::write(one.join("mark"), "mark\n").unwrap();
    let seen = other.join("mark").exists();
    fs::remove_file(one.join("mark")).unwrap();
    seen
}

/// Sets up both, says whether they share a copy, and tears both down.
fn pods_share(scene: &Scene, [one, other]: [(&Pod, &Volume); 2]) -> bool {
    let targets = [one, other].map(|(pod, volume)| scene.kubelet().must_set_up(pod, volume));
    let [there, back] = [share(&targets[0], &targets[1]), share(&targets[1], &targets[0])];
    assert_eq!(there, back);
    for (pod, volume) in [one, other] {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
    there
}

#[test]
fn pods_of_a_persistent_volume_write_to_one_copy_that_goes_with_the_last() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("data");
    let (first, there) = scene.start_pod("first", &volume);
    fs::write(there.join("written"), "by the first\n").unwrap();
    fs::write(there.join("README.md"), "changed\n").unwrap();
    let (second, here) = scene.start_pod("second", &volume);
    assert_eq!(read(here.join("written")), "by the first\n");
    scene.kubelet().must_tear_down(&first, &volume);
    assert_eq!(read(here.join("README.md")), "changed\n");
    let (third, here) = scene.start_pod("third", &volume);
    assert_eq!(read(here.join("written")), "by the first\n");
    for pod in [second, third] {
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
    let (pod, target) = scene.start_pod("fourth", &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    assert_eq!(scene.server.packs(), 1);
}

#[test]
fn the_option_writable_decides_for_a_volume() {
    let Some(scene) = Scene::new() else { return };
    let [one, other] = ["one", "other"].map(Pod::new);
    for (flex_writable, writable, shared) in [
        (None, None, true),
        (Some("shared"), None, true),
        (Some("private"), None, false),
        (Some("shared"), Some("private"), false),
        (Some("shared"), Some("copy"), false),
        (Some("private"), Some("shared"), true),
    ] {
        scene.node.configure(&flex_writable.map_or_else(|| json!({}), |value| json!({"flexWritable": value})));
        let volume = scene.persistent("data");
        let volume = writable.map_or(volume.clone(), |value| volume.with_option("writable", value));
        let shares = pods_share(&scene, [(&one, &volume), (&other, &volume)]);
        assert_eq!(shares, shared, "flexWritable {flex_writable:?}, writable {writable:?}");
    }
}

#[test]
fn only_the_same_request_of_the_same_namespace_and_volume_shares() {
    let Some(scene) = Scene::new() else { return };
    scene.repository.commit("other", &Files::new().file("README.md", "# Other\n"));
    let (one, volume) = (Pod::new("one"), scene.persistent("data"));
    let assert_apart = |what: &str, pod: Pod, other: Volume| {
        assert!(!pods_share(&scene, [(&one, &volume), (&pod, &other)]), "{what}");
    };
    assert_apart("namespace", Pod::new("one").in_namespace("other"), volume.clone());
    assert_apart("volume name", Pod::new("one"), scene.persistent("other"));
    assert_apart("revision", Pod::new("one"), volume.clone().with_option("revision", "other"));
    assert_apart("directory", Pod::new("one"), volume.clone().with_option("directory", "sub"));
    assert_apart("fsGroup", Pod::new("one").with_fs_group(3000), volume.clone());
    assert_apart("uid", Pod::new("one"), volume.clone().with_option("uid", "1000"));
}

#[test]
fn another_credential_never_shares_a_copy() {
    let tokens = ["token-1", "token-2"];
    let open = |server: gitrepo_tests::http::HttpServerBuilder| {
        tokens.into_iter().fold(server, |server, token| server.accept(Credential::Bearer(token)))
    };
    let Some(scene) = Scene::serving(open) else { return };
    let [one, other] = tokens.map(|token| scene.persistent("data").with_secret(&[("token", token)]));
    let pods = ["one", "other"].map(Pod::new);
    assert!(pods_share(&scene, [(&pods[0], &one), (&pods[1], &one)]));
    assert!(!pods_share(&scene, [(&pods[0], &one), (&pods[1], &other)]));
    // Nor somebody without any, for whom there is nothing at all.
    let (pod, volume) = (&pods[0], &one);
    scene.kubelet().must_set_up(pod, volume);
    scene.kubelet().set_up(&pods[1], &scene.persistent("data")).unwrap_err();
    scene.kubelet().must_tear_down(pod, volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_shared_copy_keeps_its_commit_for_those_who_join_it() {
    let Some(scene) = Scene::new() else { return };
    // Everybody asks where the branch stands, also within a second.
    scene.node.configure(&json!({"cache": {"accessTtl": "0s"}}));
    let volume = scene.persistent("data");
    let (first, _) = scene.start_pod("first", &volume);
    scene.repository.commit("main", &Files::new().file("README.md", "# Moved\n"));
    let (second, target) = scene.start_pod("second", &volume);
    scene.assert_shown_on(&target);
    for pod in [first, second] {
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let (pod, target) = scene.start_pod("third", &volume);
    assert_eq!(read(target.join("README.md")), "# Moved\n");
    scene.kubelet().must_tear_down(&pod, &volume);
}

#[test]
fn who_reads_only_sees_the_commit_and_not_what_others_write() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("data");
    let (writer, written) = scene.start_pod("writer", &volume);
    fs::write(written.join("README.md"), "changed\n").unwrap();
    let reading = volume.clone().read_only();
    let (reader, target) = scene.start_pod("reader", &reading);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&writer, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&reader, &reading);
    scene.node.assert_nothing_set_up();
}

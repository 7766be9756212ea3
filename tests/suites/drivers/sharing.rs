//! Which pods share a writable copy.

use std::fs;
use std::path::Path;

use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::repository::Files;
use serde_json::json;

use super::Scene;
use super::read;

/// Whether `other` shows a file that is written to `one`.
fn share(one: &Path, other: &Path) -> bool {
    fs::write(one.join("mark"), "mark\n").unwrap();
    let seen = other.join("mark").exists();
    fs::remove_file(one.join("mark")).unwrap();
    seen
}

/// Sets up two pods' volumes, returns whether they share a copy, and tears both down.
pub(crate) fn pods_share<D: Driver>(scene: &Scene<D>, pods: [(&Pod, &D::Volume); 2]) -> bool {
    let [one, other] = pods.map(|(pod, volume)| scene.set_up(pod, volume));
    let [there, back] = [share(&one, &other), share(&other, &one)];
    assert_eq!(there, back);
    for (pod, volume) in pods {
        scene.tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
    there
}

pub(super) fn pods_of_a_persistent_volume_share_one_copy_until_the_last_is_gone<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let volume = scene.persistent("data");
    let (first, there) = scene.start_pod("first", &volume);
    fs::write(there.join("written"), "by the first\n").unwrap();
    fs::write(there.join("README.md"), "changed\n").unwrap();
    let (second, here) = scene.start_pod("second", &volume);
    assert_eq!(read(here.join("written")), "by the first\n");
    scene.tear_down(&first, &volume);
    assert_eq!(read(here.join("README.md")), "changed\n");
    assert_eq!(read(here.join("written")), "by the first\n");
    let (third, here) = scene.start_pod("third", &volume);
    assert_eq!(read(here.join("written")), "by the first\n");
    for pod in [second, third] {
        scene.tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
    let (pod, target) = scene.start_pod("fourth", &volume);
    scene.assert_shown_on(&target);
    scene.tear_down(&pod, &volume);
    assert_eq!(scene.server.packs(), 1);
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_shared_copy_keeps_its_commit_for_pods_that_join_later<D: Driver>() {
    // Every publish asks the remote for the branch's commit, even within a second.
    let configuration = json!({"cache": {"accessTtl": "0s"}});
    let Some(scene) = Scene::<D>::configured(&configuration, |server| server) else { return };
    let volume = scene.persistent("data");
    let (first, _) = scene.start_pod("first", &volume);
    scene.repository.commit("main", &Files::new().file("README.md", "# Moved\n"));
    let (second, target) = scene.start_pod("second", &volume);
    scene.assert_shown_on(&target);
    for pod in [first, second] {
        scene.tear_down(&pod, &volume);
    }
    let (pod, target) = scene.start_pod("third", &volume);
    assert_eq!(read(target.join("README.md")), "# Moved\n");
    scene.tear_down(&pod, &volume);
}

pub(super) fn a_read_only_pod_sees_the_commit_and_not_other_pods_writes<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let volume = scene.persistent("data");
    let (writer, written) = scene.start_pod("writer", &volume);
    fs::write(written.join("README.md"), "changed\n").unwrap();
    let reading = volume.clone().read_only();
    let (reader, target) = scene.start_pod("reader", &reading);
    scene.assert_shown_on(&target);
    scene.tear_down(&writer, &volume);
    scene.assert_shown_on(&target);
    scene.tear_down(&reader, &reading);
    scene.node.assert_nothing_set_up();
}

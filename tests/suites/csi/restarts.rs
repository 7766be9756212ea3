//! Restarts of the kubelet, the driver and the node, and pods that vanish without an unpublish.

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::process;
use gitrepo_tests::repository::Files;
use tonic::Code;

use super::Scene;
use super::read;

/// More time than anything here takes on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Four pods: two with the same persistent volume, one with a read-only and one with a writable inline volume.
fn four_pods(scene: &Scene) -> Vec<(Pod, Volume)> {
    let volumes = [scene.persistent("p"), scene.persistent("p"), scene.inline("ro").read_only(), scene.inline("rw")];
    volumes.map(|volume| (scene.start_pod("pod", &volume).0, volume)).into()
}

fn publish_again(scene: &Scene, pods: &[(Pod, Volume)]) {
    for (pod, volume) in pods {
        scene.kubelet().must_set_up(pod, volume);
    }
}

fn tear_down_all(scene: &Scene, pods: &[(Pod, Volume)]) {
    for (pod, volume) in pods {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_published();
}

/// Makes the server refuse all credentials.
fn close(scene: &Scene) {
    scene.server.accept_only(&[Credential::Bearer("nobody's")]);
}

#[test]
fn ten_restarts_of_the_kubelet_publish_everything_again_and_mount_nothing_twice() {
    let Some(scene) = Scene::new() else { return };
    let pods = four_pods(&scene);
    let mounts = scene.node.mounts();
    close(&scene);
    let asked = scene.server.requests().len();
    for _ in 0..10 {
        let running: Vec<_> = pods.iter().map(|(pod, volume)| (pod, volume)).collect();
        scene.kubelet().restart(&running);
        publish_again(&scene, &pods);
        assert_eq!(scene.node.mounts(), mounts);
    }
    assert_eq!(scene.server.requests().len(), asked);
    tear_down_all(&scene, &pods);
}

#[test]
fn mounts_outlive_a_killed_driver_and_its_successor_unpublishes_them() {
    let Some(scene) = Scene::new() else { return };
    let pods = four_pods(&scene);
    let mounts = scene.node.mounts();
    let written = scene.kubelet().target(&pods[3].0, &pods[3].1).join("written");
    fs::write(&written, "before\n").unwrap();
    close(&scene);
    for _ in 0..3 {
        scene.node.kill_driver();
        assert_eq!(scene.node.mounts(), mounts, "mounts survive the driver");
        assert_eq!(read(written.clone()), "before\n");
        let (pod, volume) = &pods[0];
        assert_eq!(scene.kubelet().tear_down(pod, volume).unwrap_err().code, Some(Code::Unavailable));
        scene.node.start_driver();
        publish_again(&scene, &pods);
        assert_eq!(scene.node.mounts(), mounts);
    }
    assert_eq!(read(written), "before\n");
    tear_down_all(&scene, &pods);
}

#[test]
fn a_driver_killed_during_a_clone_leaves_nothing_that_disturbs_its_successor() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let gate = scene.server.hold(Request::is_upload_pack);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| scene.kubelet().set_up(&pod, &volume));
        gate.wait_for(1);
        let mut workers = process::with_descendants(scene.node.driver_id());
        workers.retain(|pid| *pid != scene.node.driver_id());
        assert!(!workers.is_empty(), "the clone has a worker");
        scene.node.kill_driver();
        workers.into_iter().for_each(process::wait_for_end);
        let failed = publishing.join().unwrap().unwrap_err();
        assert!(!failed.is_final(), "{failed:?}");
    });
    gate.open();
    scene.node.start_driver();
    let target = scene.kubelet().must_set_up(&pod, &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    wait_until_nothing_is_left(&scene);
}

#[test]
fn after_a_reboot_the_recorded_commit_is_mounted_again_without_the_remote() {
    let Some(scene) = Scene::new() else { return };
    let pods = four_pods(&scene);
    let written = scene.kubelet().target(&pods[3].0, &pods[3].1).join("written");
    fs::write(&written, "before\n").unwrap();
    scene.repository.commit("main", &Files::new().file("README.md", "# Moved\n"));
    close(&scene);
    let asked = scene.server.requests().len();
    scene.node.go_down();
    assert!(scene.node.mounts().is_empty() && !written.exists());
    scene.node.start_driver();
    scene.kubelet().restart(&[]);
    publish_again(&scene, &pods);
    for (pod, volume) in &pods[..3] {
        scene.assert_shown_on(&scene.kubelet().target(pod, volume));
    }
    assert_eq!(read(written), "before\n");
    assert_eq!(scene.server.requests().len(), asked);
    tear_down_all(&scene, &pods);
}

#[test]
fn after_a_reboot_volumes_that_are_not_mounted_are_unpublished() {
    let Some(scene) = Scene::new() else { return };
    let pods = four_pods(&scene);
    scene.node.go_down();
    scene.node.start_driver();
    let found: Vec<_> = pods.iter().map(|(pod, volume)| (pod, volume)).collect();
    scene.kubelet().restart(&found);
    tear_down_all(&scene, &pods);
}

#[test]
fn a_pod_that_is_force_deleted_while_its_node_is_down_leaves_no_record() {
    let Some(scene) = Scene::new() else { return };
    let pods = four_pods(&scene);
    scene.node.go_down();
    let (gone, staying) = pods.split_at(3);
    for (pod, volume) in gone {
        scene.kubelet().forget(pod, volume);
    }
    scene.node.start_driver();
    let volumes = || gitrepo_tests::volumes::entries(&scene.node.store().join("volumes")).len();
    let begun = Instant::now();
    while volumes() > 1 {
        assert!(begun.elapsed() < PATIENCE, "{} volumes are remembered", volumes());
        thread::sleep(Duration::from_millis(20));
    }
    publish_again(&scene, staying);
    tear_down_all(&scene, staying);
}

/// The successor of a killed driver removes its leftovers in the background.
fn wait_until_nothing_is_left(scene: &Scene) {
    let begun = Instant::now();
    while !scene.node.leftovers().is_empty() {
        if begun.elapsed() > PATIENCE {
            scene.node.assert_nothing_published();
        }
        thread::sleep(Duration::from_millis(20));
    }
}

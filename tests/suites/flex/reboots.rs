//! After a reboot, every mount is gone, and the kubelet sets its pods' volumes up again or tears them down.

use std::fs;

use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Files;

use super::Scene;
use super::read;

/// One volume of each kind, each with its pod.
fn flavours(scene: &Scene) -> Vec<(Pod, Volume)> {
    let volumes = [
        scene.inline("ro").read_only(),
        scene.persistent("pv-ro").read_only(),
        scene.inline("private").with_option("writable", "private"),
        scene.persistent("shared"),
    ];
    volumes.into_iter().map(|volume| (Pod::new("pod"), volume)).collect()
}

#[test]
fn volumes_are_set_up_again_after_a_reboot_without_the_remote() {
    let Some(mut scene) = Scene::new() else { return };
    let flavours = flavours(&scene);
    for (pod, volume) in &flavours {
        let target = scene.kubelet().must_set_up(pod, volume);
        if !volume.is_read_only() {
            fs::write(target.join("written"), "before\n").unwrap();
        }
    }
    scene.repository.commit("main", &Files::new().file("README.md", "# Moved\n"));
    scene.server = gitrepo_tests::http::HttpServer::builder().start();
    scene.node.reboot();
    for (pod, volume) in &flavours {
        assert_eq!(scene.node.mounts_on(&scene.kubelet().target(pod, volume)), 0);
        let target = scene.kubelet().must_set_up(pod, volume);
        assert_eq!(read(target.join("README.md")), "# Small\n", "{volume:?}");
        if !volume.is_read_only() {
            assert_eq!(read(target.join("written")), "before\n", "{volume:?}");
            fs::remove_file(target.join("written")).unwrap();
        }
        scene.assert_shown_on(&target);
    }
    assert!(scene.server.requests().is_empty());
    for (pod, volume) in &flavours {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn volumes_are_torn_down_after_a_reboot() {
    let Some(scene) = Scene::new() else { return };
    let flavours = flavours(&scene);
    for (pod, volume) in &flavours {
        scene.kubelet().must_set_up(pod, volume);
    }
    scene.node.reboot();
    for (pod, volume) in &flavours {
        scene.kubelet().must_tear_down(pod, volume);
    }
    assert_eq!(scene.kubelet().calls().iter().filter(|call| *call == "unmount").count(), flavours.len());
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_lost_mount_is_made_again() {
    let Some(scene) = Scene::new() else { return };
    for (pod, volume) in flavours(&scene) {
        let target = scene.kubelet().must_set_up(&pod, &volume);
        nix::mount::umount(&target).unwrap();
        scene.kubelet().must_set_up(&pod, &volume);
        scene.assert_shown_on(&target);
        nix::mount::umount(&target).unwrap();
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

/// The kubelet does not call for a removed directory, such as that of a pod that was force-deleted during a reboot.
#[test]
fn a_later_mount_forgets_volumes_that_the_kubelet_forgot() {
    let Some(scene) = Scene::new() else { return };
    let flavours = flavours(&scene);
    for (pod, volume) in &flavours {
        scene.kubelet().must_set_up(pod, volume);
    }
    scene.node.reboot();
    for (pod, volume) in &flavours {
        fs::remove_dir(scene.kubelet().target(pod, volume)).unwrap();
        scene.kubelet().must_tear_down(pod, volume);
    }
    let volume = scene.inline("later").read_only();
    let (pod, _) = scene.start_pod("later", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

//! Many calls at once, each a process of its own.

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::volumes::entries;

use super::Scene;

const MANY: usize = 12;

fn pods() -> Vec<Pod> {
    (0..MANY).map(|number| Pod::new(&format!("pod-{number}"))).collect()
}

#[test]
fn many_processes_make_one_fetch_and_one_snapshot() {
    let Some(scene) = Scene::new() else { return };
    let gate = scene.server.hold(|request| request.is_upload_pack());
    let (pods, volume) = (pods(), scene.inline("v").with_option("revision", "main").read_only());
    let mounting: Vec<_> = pods.iter().map(|pod| scene.kubelet().begin_set_up(pod, &volume)).collect();
    gate.wait_for(1);
    gate.open();
    for mounting in mounting {
        mounting.wait().unwrap();
    }
    pods.iter().for_each(|pod| scene.assert_shown_on(&scene.kubelet().target(pod, &volume)));
    assert_eq!(scene.server.packs(), 1);
    assert_eq!(entries(&scene.node.store().join("snapshots")).len(), 1);
    let unmounting: Vec<_> = pods.iter().map(|pod| scene.kubelet().begin_tear_down(pod, &volume)).collect();
    for unmounting in unmounting {
        unmounting.wait().unwrap();
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn pods_that_start_at_once_share_one_copy() {
    let Some(scene) = Scene::new() else { return };
    let (pods, volume) = (pods(), scene.persistent("data"));
    let mounting: Vec<_> = pods.iter().map(|pod| scene.kubelet().begin_set_up(pod, &volume)).collect();
    for mounting in mounting {
        mounting.wait().unwrap();
    }
    let targets: Vec<_> = pods.iter().map(|pod| scene.kubelet().target(pod, &volume)).collect();
    std::fs::write(targets[0].join("mark"), "mark\n").unwrap();
    assert!(targets.iter().all(|target| target.join("mark").exists()), "each pod sees what one writes");
    assert_eq!(scene.server.packs(), 1);
    let unmounting: Vec<_> = pods.iter().map(|pod| scene.kubelet().begin_tear_down(pod, &volume)).collect();
    for unmounting in unmounting {
        unmounting.wait().unwrap();
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn one_target_is_mounted_once_however_many_ask() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.inline("ro").read_only(), scene.inline("rw")] {
        let pod = Pod::new("pod");
        let target = scene.kubelet().target(&pod, &volume);
        std::fs::create_dir_all(&target).unwrap();
        let options = volume.json(&pod);
        let path = target.to_str().unwrap();
        let plugin = scene.kubelet().plugin();
        let calls: Vec<_> = (0..6).map(|_| plugin.spawn(["mount", path, &options])).collect();
        calls.into_iter().for_each(|call| call.wait().assert_success());
        scene.assert_shown_on(&target);
        let calls: Vec<_> = (0..6).map(|_| plugin.spawn(["unmount", path])).collect();
        calls.into_iter().for_each(|call| call.wait().assert_success());
        assert_eq!(scene.node.mounts_on(&target), 0);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

/// Mounts and unmounts of the same target exclude each other, so that whatever comes last is what is.
#[test]
fn mounts_and_unmounts_of_one_target_may_meet() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.persistent("data"));
    let target = scene.kubelet().target(&pod, &volume);
    std::fs::create_dir_all(&target).unwrap();
    let (path, options) = (target.to_str().unwrap(), volume.json(&pod));
    let plugin = scene.kubelet().plugin();
    for _ in 0..5 {
        let calls: Vec<_> =
            (0..4).flat_map(|_| [plugin.spawn(["mount", path, &options]), plugin.spawn(["unmount", path])]).collect();
        for call in calls {
            call.wait().assert_success();
            assert!(scene.node.mounts_on(&target) <= 1);
        }
        // An unmount may have taken the directory away before a mount came, which makes only the last component.
        std::fs::create_dir_all(&target).unwrap();
        plugin.call(["mount", path, &options]).assert_success();
        scene.assert_shown_on(&target);
    }
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_stalled_repository_holds_up_no_other_and_no_unmount() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (other, _) = scene.start_pod("other", &volume);
    let (stalled, _) = gitrepo_tests::fixtures::small();
    let slow = HttpServer::start(&stalled);
    let gate = slow.hold(|_| true);
    let (pod, waiting) = (Pod::new("waiting"), Volume::inline("v", &[("repository", &slow.url(&stalled))]));
    let mounting = scene.kubelet().begin_set_up(&pod, &waiting);
    gate.wait_for(1);
    let (going, _) = scene.start_pod("going", &volume);
    for pod in [other, going] {
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    gate.open();
    mounting.wait().unwrap();
    scene.kubelet().must_tear_down(&pod, &waiting);
    scene.node.assert_nothing_set_up();
}

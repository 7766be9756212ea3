//! Many publishes at once: one fetch, and none waits for unrelated work.

use std::fs;
use std::thread;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::volumes::entries;

use super::Scene;

/// Calls `act` for all at once and waits for them.
fn at_once<T: Sync>(all: &[T], act: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for one in all {
            scope.spawn(|| act(one));
        }
    });
}

fn pods<D: Driver>() -> Vec<Pod> {
    (0..D::MANY).map(|number| Pod::new(&format!("pod-{number}"))).collect()
}

pub(super) fn many_pods_at_once_make_one_fetch_and_one_snapshot<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let (pods, volume) = (pods::<D>(), scene.inline("v").with("revision", "main").read_only());
    let gate = scene.server.hold(Request::is_upload_pack);
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| scene.set_up(pod, &volume));
        }
        gate.wait_for(1);
        gate.open();
    });
    for pod in &pods {
        scene.assert_shown_on(&scene.node.target(pod, &volume));
    }
    assert_eq!(scene.server.packs(), 1);
    assert_eq!(entries(&scene.node.store().join("snapshots")).len(), 1);
    assert!(scene.server.info_refs() <= D::QUESTIONS, "{} requests", scene.server.info_refs());
    at_once(&pods, |pod| scene.tear_down(pod, &volume));
    scene.node.assert_nothing_set_up();
}

pub(super) fn pods_that_start_at_once_share_one_copy<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let (pods, volume) = (pods::<D>(), scene.persistent("data"));
    at_once(&pods, |pod| drop(scene.set_up(pod, &volume)));
    let targets: Vec<_> = pods.iter().map(|pod| scene.node.target(pod, &volume)).collect();
    fs::write(targets[0].join("mark"), "mark\n").unwrap();
    assert!(targets.iter().all(|target| target.join("mark").exists()), "every pod sees the file");
    assert_eq!(scene.server.packs(), 1);
    at_once(&pods, |pod| scene.tear_down(pod, &volume));
    scene.node.assert_nothing_set_up();
}

pub(super) fn concurrent_publishes_mount_one_target_once<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    for volume in [scene.inline("ro").read_only(), scene.inline("rw")] {
        let pod = Pod::new("pod");
        let target = scene.node.target(&pod, &volume);
        fs::create_dir_all(&target).unwrap();
        at_once(&[(); 6], |()| scene.node.call_publish(&pod, &volume));
        scene.assert_shown_on(&target);
        at_once(&[(); 6], |()| scene.node.call_unpublish(&pod, &volume));
        scene.node.tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_clone_that_hangs_does_not_delay_other_volumes<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let standing = scene.inline("v").read_only();
    let (first, _) = scene.start_pod("first", &standing);
    let (slow, _) = fixtures::small();
    let server = HttpServer::start(&slow);
    let gate = server.hold(|_| true);
    let hanging = D::inline("v", &[("repository", &server.url(&slow)), ("directory", ".")]);
    let pods: Vec<_> = (0..20).map(|number| Pod::new(&format!("slow-{number}"))).collect();
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| scene.set_up(pod, &hanging));
        }
        gate.wait_for(1);
        // Set up a new volume, look after an existing one, and tear down both.
        let (second, _) = scene.start_pod("second", &standing);
        scene.node.look_after(&first, &standing);
        for pod in [&first, &second] {
            scene.tear_down(pod, &standing);
        }
        assert!(pods.iter().all(|pod| scene.node.mounts_on(&scene.node.target(pod, &hanging)) == 0), "they wait");
        gate.open();
    });
    for pod in &pods {
        scene.tear_down(pod, &hanging);
    }
    assert_eq!(server.packs(), 1);
    scene.node.assert_nothing_set_up();
}

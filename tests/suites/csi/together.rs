//! Many at once: one fetch, and nobody waits for what does not concern them.

use std::thread;

use gitrepo_tests::http::Request;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::volumes::entries;

use super::Scene;

const MANY: usize = 100;

#[test]
fn a_hundred_publishes_at_once_make_one_fetch_and_one_snapshot() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let pods: Vec<Pod> = (0..MANY).map(|number| Pod::new(&format!("pod-{number}"))).collect();
    let gate = scene.server.hold(Request::is_upload_pack);
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| scene.kubelet().must_set_up(pod, &volume));
        }
        gate.wait_for(1);
        gate.open();
    });
    for pod in &pods {
        assert_eq!(scene.node.mounts_on(&scene.kubelet().target(pod, &volume)), 1);
    }
    scene.assert_shown_on(&scene.kubelet().target(&pods[MANY - 1], &volume));
    assert_eq!(scene.server.packs(), 1);
    assert_eq!(entries(&scene.node.store().join("snapshots")).len(), 1);
    assert!(scene.server.info_refs() < MANY / 2, "{} resolves", scene.server.info_refs());
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| scene.kubelet().must_tear_down(pod, &volume));
        }
    });
    scene.node.assert_nothing_published();
}

#[test]
fn a_clone_that_hangs_holds_up_no_other_volume() {
    let Some(scene) = Scene::new() else { return };
    let standing = scene.inline("v").read_only();
    let (first, _) = scene.start_pod("first", &standing);
    let (slow, _) = gitrepo_tests::fixtures::small();
    let server = gitrepo_tests::http::HttpServer::start(&slow);
    let gate = server.hold(|_| true);
    let url = server.url(&slow);
    let hanging = gitrepo_tests::kubelet::csi::Volume::inline("v", &[("repository", &url), ("directory", ".")]);
    thread::scope(|scope| {
        let pods: Vec<Pod> = (0..20).map(|number| Pod::new(&format!("slow-{number}"))).collect();
        let publishing: Vec<_> = pods
            .into_iter()
            .map(|pod| {
                let (scene, hanging) = (&scene, &hanging);
                scope.spawn(move || {
                    scene.kubelet().must_set_up(&pod, hanging);
                    pod
                })
            })
            .collect();
        gate.wait_for(1);
        // A new volume, one that stands, its statistics and its end.
        let (second, _) = scene.start_pod("second", &standing);
        scene.kubelet().must_set_up(&first, &standing);
        scene.kubelet().stats(&first, &standing).unwrap();
        for pod in [&first, &second] {
            scene.kubelet().must_tear_down(pod, &standing);
        }
        gate.open();
        for pod in publishing.into_iter().map(|publishing| publishing.join().unwrap()) {
            scene.kubelet().must_tear_down(&pod, &hanging);
        }
    });
    assert_eq!(server.packs(), 1);
    scene.node.assert_nothing_published();
}

//! A store on its own filesystem that hangs, or is not mounted when the driver restarts.

use gitrepo_tests::faulty::Fault;
use gitrepo_tests::faulty::FaultyFs;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use nix::mount::MntFlags;
use nix::mount::MsFlags;

use super::Scene;

const NONE: Option<&str> = None;

#[test]
fn a_store_that_hangs_makes_the_driver_unready_in_time() {
    let Some(scene) = Scene::new() else { return };
    assert_eq!(scene.node.get("/readyz").0, 200);
    let Some(hanging) = FaultyFs::over(&scene.node.store(), Fault::Hangs) else { return };
    for _ in 0..2 {
        let (status, text) = scene.node.get("/readyz");
        assert_eq!(status, 503, "{text}");
    }
    assert_eq!(scene.node.get("/healthz").0, 200);
    drop(hanging);
    let (volume, ready) = (scene.inline("v").read_only(), scene.node.get("/readyz"));
    assert_eq!(ready.0, 200, "{}", ready.1);
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn no_store_is_created_on_a_bare_mount_point_after_a_restart() {
    let Some(scene) = Scene::new() else { return };
    let (node, store, kept) = (&scene.node, scene.node.store(), scene.node.home().join("kept"));
    node.stop_driver();
    delete(&store);
    for directory in [&store, &kept] {
        std::fs::create_dir(directory).unwrap();
    }
    nix::mount::mount(Some("tmpfs"), &store, Some("tmpfs"), MsFlags::empty(), Some("mode=700")).unwrap();
    nix::mount::mount(Some(&store), &kept, NONE, MsFlags::MS_BIND, NONE).unwrap();
    node.start_driver();
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    node.kill_driver();

    nix::mount::umount2(&store, MntFlags::MNT_DETACH).unwrap();
    node.start_driver();
    let (status, text) = node.get("/readyz");
    assert!(status == 503 && text.contains("is missing"), "{status} {text}");
    let failed = scene.kubelet().set_up(&pod, &volume).unwrap_err();
    assert_eq!(failed.code, Some(tonic::Code::Unavailable), "{failed:?}");
    scene.kubelet().tear_down(&pod, &volume).unwrap_err();
    assert_eq!(node.mounts_on(&target), 1);
    assert!(entries(&store).is_empty(), "{:?}", entries(&store));

    nix::mount::mount(Some(&kept), &store, NONE, MsFlags::MS_BIND, NONE).unwrap();
    let (status, text) = node.get("/readyz");
    assert_eq!(status, 200, "{text}");
    scene.kubelet().must_set_up(&pod, &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    assert_eq!(node.mounts_on(&target), 0);
    for mount in [&store, &kept] {
        nix::mount::umount2(mount, MntFlags::MNT_DETACH).unwrap();
    }
}

//! One volume of one pod: the kubelet's calls in every version and access mode.

use std::fs;
use std::io;

use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_tests::csi;
use gitrepo_tests::csi::Authority;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::AccessMode;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::require;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount;
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::Scene;

#[test]
fn the_kubelet_makes_its_calls_in_the_expected_order() {
    let Some(scene) = Scene::new() else { return };
    let (capabilities, publish, unpublish) = ("NodeGetCapabilities", "NodePublishVolume", "NodeUnpublishVolume");
    let inline = scene.inline("v");
    let (pod, _) = scene.start_pod("pod", &inline);
    scene.kubelet().must_tear_down(&pod, &inline);
    assert_eq!(scene.kubelet().take_calls(), [capabilities, capabilities, publish, unpublish]);
    let persistent = scene.persistent("v").read_only().with_access(AccessMode::ReadOnlyMany);
    let (pod, _) = scene.start_pod("pod", &persistent);
    scene.kubelet().must_tear_down(&pod, &persistent);
    let [c, p, u] = [capabilities, publish, unpublish];
    assert_eq!(scene.kubelet().take_calls(), [c, c, c, c, p, u, c]);
}

#[test]
fn every_access_mode_of_kubernetes_works() {
    let Some(scene) = Scene::new() else { return };
    for access in [AccessMode::ReadWriteOnce, AccessMode::ReadWriteOncePod, AccessMode::ReadWriteMany] {
        let volume = scene.persistent("v").with_access(access).with_mount_options(&["noatime"]);
        let (pod, target) = scene.start_pod("pod", &volume);
        std::fs::write(target.join("new"), "new").unwrap();
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let volume = scene.persistent("v").with_access(AccessMode::ReadOnlyMany).read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

/// The volumes that ask for reading, but whose `readOnly` the pod does not set.
fn for_readers(scene: &Scene) -> [Volume; 2] {
    let volume = || scene.persistent("v");
    [volume().with_access(AccessMode::ReadOnlyMany), volume().with_mount_options(&["ro"])]
}

#[test]
fn a_directory_for_readers_is_refused_unless_the_pod_says_read_only() {
    let Some(scene) = Scene::configured(&json!({ "snapshotFormat": "directory" }), |server| server) else { return };
    for (volume, source) in for_readers(&scene).into_iter().zip(["the access mode asks", "the mount option ro asks"]) {
        let words = [source, "persistentVolumeClaim.readOnly: true", "this node has none", "\"snapshotFormat\""];
        scene.assert_fails(&volume, Code::FailedPrecondition, &words);
        let volume = volume.read_only();
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_published();
}

#[test]
fn an_image_for_readers_stays_read_only_when_a_container_runtime_lifts_the_flag() {
    let Some(scene) = Scene::configured(&json!({ "snapshotFormat": "auto" }), |server| server) else { return };
    let tried = LinuxMounter::new(scene.node.home().join("mounting")).check_images(scene.node.home());
    if !require::feature(tried.is_ok(), "images of 512-byte blocks") {
        return;
    }
    for volume in for_readers(&scene) {
        let (pod, target) = scene.start_pod("pod", &volume);
        let nothing = None::<&str>;
        let in_pod = scene.node.home().join("in-pod");
        fs::create_dir_all(&in_pod).unwrap();
        mount(Some(&target), &in_pod, nothing, MsFlags::MS_BIND, nothing).unwrap();
        let lifted = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        // Whether or not the kernel lifts the flag, nothing can be written.
        mount(nothing, &in_pod, nothing, lifted, nothing).ok();
        scene.assert_shown_on(&in_pod);
        let refused = fs::write(in_pod.join("new"), "new").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
        umount(&in_pod).unwrap();
        // A restarted driver and a changed setting leave it as it is.
        scene.node.configure(&json!({ "snapshotFormat": "directory" }));
        assert!(scene.node.stop_driver().success());
        scene.node.start_driver();
        scene.kubelet().must_set_up(&pod, &volume);
        scene.node.configure(&json!({ "snapshotFormat": "auto" }));
        assert!(scene.node.stop_driver().success());
        scene.node.start_driver();
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_published();
}

/// Up to 1.25, the kubelet sends the socket's path as the authority of every call.
#[test]
fn a_kubelet_of_1_25_publishes_and_unpublishes() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v").read_only());
    let target = scene.kubelet().target(&pod, &volume);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let endpoint = scene.kubelet().endpoint();
    let call = |method: &str, message: Vec<u8>| {
        let authority = Authority::Bytes(endpoint.as_os_str().as_encoded_bytes());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(csi::call(&endpoint, authority, &format!("/csi.v1.Node/{method}"), &message)).unwrap();
    };
    let target_path = target.to_str().unwrap().to_owned();
    call("NodeGetCapabilities", Vec::new());
    call("NodePublishVolume", volume.request(&pod, &target_path).encode_to_vec());
    scene.assert_shown_on(&target);
    let unpublish = NodeUnpublishVolumeRequest { volume_id: volume.id(&pod), target_path };
    call("NodeUnpublishVolume", unpublish.encode_to_vec());
    assert!(!target.exists());
    std::fs::remove_dir(target.parent().unwrap()).unwrap();
    scene.node.assert_nothing_published();
}

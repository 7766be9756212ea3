//! One volume of one pod, in every flavour.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_tests::csi;
use gitrepo_tests::csi::Authority;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::AccessMode;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::tree::assert_owner;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;
use prost::Message;
use tonic::Code;

use super::Scene;
use super::read;

const SECRET: [(&str, &str); 2] = [("username", "alice"), ("password", "pass:word")];

/// Inline and PersistentVolume, read-only and read-write, with and without secret, with and without fsGroup.
fn flavours(scene: &Scene) -> Vec<(Pod, Volume)> {
    let mut flavours = Vec::new();
    for persistent in [false, true] {
        for read_only in [true, false] {
            for secret in [true, false] {
                for fs_group in [None, Some(2000)] {
                    let name = format!("v-{persistent}-{read_only}-{secret}-{}", fs_group.is_some());
                    let volume = if persistent { scene.persistent(&name) } else { scene.inline(&name) };
                    let volume = if read_only { volume.read_only() } else { volume };
                    let volume = if secret { volume.with_secret(&SECRET) } else { volume };
                    flavours.push((Pod { fs_group, ..Pod::new("pod") }, volume));
                }
            }
        }
    }
    flavours
}

#[test]
fn every_flavour_of_volume_is_set_up_and_torn_down() {
    let Some(scene) = Scene::new() else { return };
    let flavours = flavours(&scene);
    assert_eq!(flavours.len(), 16);
    for (pod, volume) in &flavours {
        let target = scene.kubelet().must_set_up(pod, volume);
        assert_eq!(scene.node.mounts_on(&target), 1, "{volume:?}");
        assert_eq!(read(target.join("README.md")), "# Small\n");
        assert_eq!(entries(&target), [target.join("README.md")], "no .git, no marker");
        let beside = target.parent().unwrap();
        assert_eq!(entries(beside).len(), 2, "the target and the kubelet's own file");
        assert_eq!(beside.metadata().unwrap().mode() & 0o777, 0o750, "the kubelet's directory stays as it was");
        match File::create(target.join("new")) {
            Ok(_) => assert!(!volume.is_read_only(), "{volume:?}"),
            Err(error) => assert_eq!((volume.is_read_only(), error.kind()), (true, io::ErrorKind::ReadOnlyFilesystem)),
        }
    }
    // The server is asked anew by each credential, and fetched from once.
    assert_eq!(scene.server.packs(), 1);
    for (pod, volume) in &flavours {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_published();
}

#[test]
fn a_volume_shows_exactly_the_commits_tree_where_it_is_asked_for() {
    let Some(scene) = Scene::new() else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let url = scene.server.url(&everything.repository);
    let volume = Volume::inline("v", &[("repository", &url), ("revision", "v3")]);
    let name = everything.repository.name().trim_end_matches(".git").to_owned();
    for volume in [volume.clone().read_only(), volume] {
        let (pod, target) = scene.start_pod("pod", &volume);
        assert_same_tree(&everything.repository, &everything.commit, ".", &target.join(&name));
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let attributes =
        [("repository", &*url), ("subdirectory", "bin"), ("directory", "a/b"), ("uid", "1234"), ("writable", "copy")];
    let volume = Volume::persistent("v", "handle", &attributes);
    let (pod, target) = scene.start_pod("pod", &volume);
    assert_same_tree(&everything.repository, &everything.commit, "bin", &target.join("a/b"));
    assert_owner(&target.join("a/b"), 1234);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn the_kubelets_calls_are_answered_in_its_order() {
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
fn every_access_mode_of_kubernetes_serves() {
    let Some(scene) = Scene::new() else { return };
    for access in [AccessMode::ReadWriteOnce, AccessMode::ReadWriteOncePod, AccessMode::ReadWriteMany] {
        let volume = scene.persistent("v").with_access(access).with_mount_options(&["noatime"]);
        let (pod, target) = scene.start_pod("pod", &volume);
        std::fs::write(target.join("new"), "new").unwrap();
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let volume = scene.persistent("v").with_access(AccessMode::ReadOnlyMany).with_mount_options(&["ro"]);
    scene.assert_fails(&volume, Code::FailedPrecondition, &["persistentVolumeClaim.readOnly: true"]);
    let volume = volume.read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_secret_opens_a_private_repository_and_nobody_else_gets_it() {
    let open = |server: HttpServerBuilder| {
        server.accept(Credential::Basic("alice", "pass:word")).accept(Credential::Bearer("token-1"))
    };
    let Some(scene) = Scene::serving(open) else { return };
    for secret in [&SECRET[..], &[("token", "token-1")]] {
        let volume = scene.inline("v").read_only().with_secret(secret);
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.assert_fails(&scene.inline("v").read_only(), Code::Unauthenticated, &["username", "token"]);
    scene.assert_fails(&scene.inline("v").with_secret(&[("token", "token-2")]), Code::Unauthenticated, &[]);
}

/// With VOLUME_MOUNT_GROUP the kubelet leaves every file as it is.
#[test]
fn files_of_a_writable_volume_belong_to_the_fs_group() {
    let Some(scene) = Scene::new() else { return };
    let pod = Pod::new("pod").with_fs_group(3000);
    for volume in [scene.inline("v"), scene.persistent("v")] {
        let target = scene.kubelet().must_set_up(&pod, &volume);
        let modes = |path| {
            let metadata = std::fs::metadata(path).unwrap();
            (metadata.gid(), metadata.mode() & 0o7777)
        };
        assert_eq!(modes(target.clone()), (3000, 0o2775));
        assert_eq!(modes(target.join("README.md")), (3000, 0o664));
        std::fs::write(target.join("new"), "new").unwrap();
        assert_eq!(modes(target.join("new")).0, 3000, "what is made in it is the group's, too");
        scene.kubelet().must_tear_down(&pod, &volume);
        let read_only = volume.read_only();
        let target = scene.kubelet().must_set_up(&pod, &read_only);
        assert_eq!(modes(target.join("README.md")).0, 0);
        scene.kubelet().must_tear_down(&pod, &read_only);
    }
    scene.node.assert_nothing_published();
}

#[test]
fn repeating_publish_and_unpublish_changes_nothing() {
    let Some(scene) = Scene::new() else { return };
    for volume in [scene.inline("v").read_only(), scene.persistent("p")] {
        let (pod, target) = scene.start_pod("pod", &volume);
        let path = target.to_str().unwrap();
        for _ in 0..5 {
            scene.kubelet().call_publish(volume.request(&pod, path)).unwrap();
            scene.assert_shown_on(&target);
        }
        for _ in 0..3 {
            scene.kubelet().call_unpublish(&volume.id(&pod), path).unwrap();
            assert!(!target.exists());
        }
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    let unknown = scene.kubelet().root().join("pods/unknown/volumes/kubernetes.io~csi/v/mount");
    scene.kubelet().call_unpublish("unknown", unknown.to_str().unwrap()).unwrap();
    scene.node.assert_nothing_published();
}

/// Up to 1.25 the authority is the socket's path, on every call.
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

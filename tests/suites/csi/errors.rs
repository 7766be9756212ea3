//! A final failure leaves nothing, since the kubelet never unpublishes the volume. A temporary failure is undone by the
//! unpublish that follows.

use gitrepo_csi::proto::csi::v1::volume_capability::AccessType;
use gitrepo_csi::proto::csi::v1::volume_capability::BlockVolume;
use gitrepo_tests::hostile::ClosedPort;
use gitrepo_tests::http::Answer;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Volume;
use serde_json::json;
use tonic::Code;

use super::Scene;

fn of(url: &str) -> Volume {
    Volume::inline("v", &[("repository", url)])
}

#[test]
fn invalid_attributes_are_named() {
    let Some(scene) = Scene::new() else { return };
    let url = scene.url();
    for (attributes, words) in [
        (&[][..], &["repository"][..]),
        (&[("repository", "")], &["repository"]),
        (&[("repository", "/etc")], &["repository", "local path"]),
        (&[("repository", "ext::sh")], &["repository"]),
        (&[("repository", &*url), ("revison", "main")], &["revison", "revision"]),
        (&[("repository", &*url), ("repo", &*url)], &["repo"]),
        (&[("repository", &*url), ("directory", "../x")], &["directory"]),
        (&[("repository", &*url), ("writable", "yes")], &["writable", "private", "shared"]),
        (&[("repository", &*url), ("hostTarget", "/data")], &["hostTarget"]),
        (&[("repository", &*url), ("evil.example/k8s.io", "x")], &["evil.example/k8s.io"]),
    ] {
        scene.assert_fails(&Volume::inline("v", attributes), Code::InvalidArgument, words);
        let persistent = Volume::persistent("v", "handle", attributes).read_only();
        scene.assert_fails(&persistent, Code::InvalidArgument, words);
    }
    for option in ["noexec", "context=\"x\"", "lowerdir=/"] {
        let volume = scene.persistent("v").with_mount_options(&["ro", option]);
        let named = option.split('"').next().unwrap();
        scene.assert_fails(&volume, Code::InvalidArgument, &[named, "mount option"]);
    }
    assert!(scene.server.requests().is_empty());
}

#[test]
fn a_target_outside_the_pods_directory_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let (pod, volume) = (Pod::new("pod"), scene.inline("v"));
    let root = scene.kubelet().root().display().to_string();
    let target = format!("{root}/pods/x/mount");
    for bad in ["", "relative", "/etc", &root, &format!("{root}/../x"), &format!("{root}/pods/../../store")] {
        let failed = scene.kubelet().call_publish(volume.request(&pod, bad)).unwrap_err();
        assert_eq!(failed.code, Some(Code::InvalidArgument), "{bad:?}: {failed:?}");
        assert!(failed.message.contains("target_path"), "{failed:?}");
    }
    let mut block = volume.request(&pod, &target);
    block.volume_capability.as_mut().unwrap().access_type = Some(AccessType::Block(BlockVolume {}));
    let mut none = volume.request(&pod, &target);
    none.volume_capability = None;
    let mut nameless = volume.request(&pod, &target);
    nameless.volume_id.clear();
    for (request, named) in [(block, "Filesystem"), (none, "volume_capability"), (nameless, "volume_id")] {
        let failed = scene.kubelet().call_publish(request).unwrap_err();
        assert_eq!(failed.code, Some(Code::InvalidArgument), "{failed:?}");
        assert!(failed.message.contains(named), "{failed:?}");
    }
    for (id, path) in [("", "/x"), ("id", ""), ("id", "relative")] {
        let failed = scene.kubelet().call_unpublish(id, path).unwrap_err();
        assert_eq!(failed.code, Some(Code::InvalidArgument), "{failed:?}");
    }
    std::fs::remove_dir(scene.kubelet().root().join("pods/x")).unwrap();
    scene.node.assert_nothing_published();
}

#[test]
fn every_final_code_leaves_nothing() {
    let closed = |server: HttpServerBuilder| server.accept(Credential::Bearer("right"));
    // An image could stay read-only without the pod's `readOnly`.
    let Some(scene) = Scene::configured(&json!({ "snapshotFormat": "directory" }), closed) else { return };
    let url = scene.url();
    let mine = || scene.inline("v").with_secret(&[("token", "right")]);
    scene.assert_fails(&scene.inline("v"), Code::Unauthenticated, &[&url, "nodePublishSecretRef"]);
    scene.assert_fails(&mine().with_attribute("revision", "mian"), Code::NotFound, &["mian", "main"]);
    scene.assert_fails(&mine().with_attribute("subdirectory", "no/such"), Code::NotFound, &["no/such"]);
    let absent = "5ca1ab1e".repeat(5);
    scene.assert_fails(&mine().with_attribute("revision", &absent), Code::NotFound, &[&absent]);
    let missing = Volume::inline("v", &[("repository", &scene.server.url_at("missing.git"))]);
    scene.assert_fails(&missing.with_secret(&[("token", "right")]), Code::NotFound, &["missing.git"]);
    let forbidding = HttpServer::builder().serve(&scene.repository).answer(|_| Answer::status(403)).start();
    scene.assert_fails(&of(&forbidding.url(&scene.repository)), Code::PermissionDenied, &["forbids"]);
    scene.assert_fails(&of("http://169.254.169.254/meta-data"), Code::PermissionDenied, &["denied"]);
    scene.assert_fails(&of("file:///etc"), Code::PermissionDenied, &["allowedSchemes"]);
    let read_only = mine().with_mount_options(&["ro"]);
    scene.assert_fails(&read_only, Code::FailedPrecondition, &["csi.readOnly: true"]);
    for keys in [&[("pasword", "canary")][..], &[("username", "canary")], &[("ssh-privatekey", "canary")]] {
        let failed = scene.assert_fails(&scene.inline("v").with_secret(keys), Code::InvalidArgument, &[keys[0].0]);
        assert!(!failed.message.contains("canary"), "{failed:?}");
    }
    // After all these failures, the volume can be set up as usual.
    let (pod, target) = scene.start_pod("pod", &mine());
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &mine());
    scene.node.assert_nothing_published();
}

#[test]
fn an_unreachable_remote_is_a_temporary_failure_and_its_volume_is_unpublished() {
    let Some(scene) = Scene::new() else { return };
    let closed = ClosedPort::reserve();
    for scheme in ["http", "ssh"] {
        let url = closed.url(scheme).replace("ssh://", "ssh://git@");
        scene.assert_fails_for_now(&of(&url), Code::Unavailable, &["127.0.0.1"]);
    }
    let failing = HttpServer::builder().serve(&scene.repository).answer(|_| Answer::status(503)).start();
    scene.assert_fails_for_now(&of(&failing.url(&scene.repository)), Code::Unavailable, &["503"]);
}

#[test]
fn an_exceeded_limit_is_a_temporary_failure_and_names_the_setting() {
    let limits = json!({"limits": {"entries": 2}});
    let Some(scene) = Scene::configured(&limits, |server| server) else { return };
    let large = gitrepo_tests::fixtures::many(40);
    scene.server.add(&large);
    let volume = of(&scene.server.url(&large));
    scene.assert_fails_for_now(&volume, Code::ResourceExhausted, &["limits.entries"]);
}

#[test]
fn a_broken_store_is_a_temporary_failure_and_the_driver_unready_until_it_is_repaired() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    assert_eq!(scene.node.get("/readyz").0, 200);
    scene.node.stop_driver();
    let version = scene.node.store().join("VERSION");
    let was = std::fs::read(&version).unwrap();
    std::fs::write(&version, "999999\n").unwrap();
    scene.node.start_driver();
    let (status, why) = scene.node.get("/readyz");
    assert!(status == 503 && why.contains("store"), "{status}: {why}");
    assert_eq!(scene.node.get("/healthz").0, 200, "a restart would not help");
    let other = Pod::new("other");
    let failed = scene.kubelet().set_up(&other, &volume).unwrap_err();
    assert_eq!(failed.code, Some(Code::Unavailable), "{failed:?}");
    scene.kubelet().must_tear_down(&other, &volume);
    let failed = scene.kubelet().tear_down(&pod, &volume).unwrap_err();
    assert!(!failed.is_final(), "{failed:?}");
    std::fs::write(&version, was).unwrap();
    assert_eq!(scene.node.get("/readyz").0, 200);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

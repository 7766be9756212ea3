//! Which pods share a writable copy, and which may use a volume at all.

use std::fs;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::AccessMode;
use gitrepo_tests::kubelet::csi::Volume;
use gitrepo_tests::repository::Files;
use tonic::Code;

use super::Scene;
use super::assert_says;
use crate::drivers::sharing::pods_share;

#[test]
fn persistent_volumes_are_shared_and_inline_ones_private_by_default() {
    let Some(scene) = Scene::new() else { return };
    let pods = ["one", "other"].map(Pod::new);
    let share = |volume: &Volume| pods_share(&scene, [(&pods[0], volume), (&pods[1], volume)]);
    let (inline, persistent) = (scene.inline("v"), scene.persistent("v"));
    assert!(!share(&inline), "inline volumes of two pods are separate volumes");
    assert!(share(&persistent));
    let private = persistent.with_attribute("writable", "private");
    assert!(!share(&private));
    let shared = inline.with_attribute("writable", "shared");
    assert!(!share(&shared), "`shared` does not join separate volumes");
    assert_eq!(scene.server.packs(), 1);
}

#[test]
fn two_pods_read_one_volume_and_neither_can_write() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("data").read_only().with_access(AccessMode::ReadOnlyMany);
    let pods = ["first", "second"].map(|name| scene.start_pod(name, &volume));
    for (_, target) in &pods {
        scene.assert_shown_on(target);
        fs::write(target.join("README.md"), "changed\n").unwrap_err();
        fs::remove_file(target.join("README.md")).unwrap_err();
    }
    assert_eq!(scene.server.packs(), 1);
    for (pod, _) in &pods {
        scene.kubelet().must_tear_down(pod, &volume);
    }
    scene.node.assert_nothing_published();
}

#[test]
fn a_volume_for_one_pod_is_refused_to_a_second_pod_until_the_first_is_gone() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("data").with_access(AccessMode::ReadWriteOncePod);
    let (first, _) = scene.start_pod("first", &volume);
    let second = Pod::new("second");
    let failed = scene.kubelet().set_up(&second, &volume).unwrap_err();
    assert_eq!(failed.code, Some(Code::FailedPrecondition));
    assert_says(&failed, &["another pod", "ReadWriteOnce"]);
    assert!(!scene.kubelet().target(&second, &volume).exists());
    // The first pod may publish it again.
    scene.kubelet().must_set_up(&first, &volume);
    scene.kubelet().must_tear_down(&first, &volume);
    scene.kubelet().must_set_up(&second, &volume);
    scene.kubelet().must_tear_down(&second, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn different_content_for_a_published_target_is_refused_and_its_volume_stays() {
    let Some(scene) = Scene::new() else { return };
    scene.repository.commit("other", &Files::new().file("README.md", "# Other\n"));
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    for other in [
        volume.clone().with_attribute("revision", "other"),
        volume.clone().with_attribute("directory", "elsewhere"),
        scene.inline("v"),
    ] {
        let failed = scene.kubelet().call_publish(other.request(&pod, target.to_str().unwrap())).unwrap_err();
        assert_eq!(failed.code, Some(Code::AlreadyExists), "{failed:?}");
        scene.assert_shown_on(&target);
    }
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

#[test]
fn a_published_volume_is_published_again_even_if_its_secret_remote_or_pod_information_changed() {
    let open = |server: HttpServerBuilder| server.accept(Credential::Bearer("right"));
    let Some(scene) = Scene::serving(open) else { return };
    let volume = scene.inline("v").read_only().with_secret(&[("token", "right")]);
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.server.accept_only(&[Credential::Bearer("nobody's")]);
    let asked = scene.server.requests().len();
    let renamed = Pod { name: "renamed".to_owned(), service_account: "other".to_owned(), ..pod.clone() };
    let path = target.to_str().unwrap();
    for other in [
        volume.clone(),
        volume.clone().with_secret(&[]),
        volume.clone().with_secret(&[("token", "wrong")]),
        volume.clone().with_secret(&[("tokn", "nonsense")]),
    ] {
        scene.kubelet().call_publish(other.request(&renamed, path)).unwrap();
        scene.assert_shown_on(&target);
    }
    assert_eq!(scene.server.requests().len(), asked, "the remote was not asked");
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_published();
}

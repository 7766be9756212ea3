//! Which pods share a writable copy.

use gitrepo_tests::http::Credential;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::repository::Files;
use serde_json::json;

use super::Scene;
use crate::drivers::sharing::pods_share;

#[test]
fn the_option_writable_overrides_the_configuration() {
    let Some(scene) = Scene::new() else { return };
    let [one, other] = ["one", "other"].map(Pod::new);
    for (flex_writable, writable, shared) in [
        (None, None, true),
        (Some("shared"), None, true),
        (Some("private"), None, false),
        (Some("shared"), Some("private"), false),
        (Some("shared"), Some("copy"), false),
        (Some("private"), Some("shared"), true),
    ] {
        scene.node.configure(&flex_writable.map_or_else(|| json!({}), |value| json!({"flexWritable": value})));
        let volume = scene.persistent("data");
        let volume = writable.map_or(volume.clone(), |value| volume.with_option("writable", value));
        let shares = pods_share(&scene, [(&one, &volume), (&other, &volume)]);
        assert_eq!(shares, shared, "flexWritable {flex_writable:?}, writable {writable:?}");
    }
}

#[test]
fn requests_share_a_copy_only_if_namespace_volume_and_options_are_equal() {
    let Some(scene) = Scene::new() else { return };
    scene.repository.commit("other", &Files::new().file("README.md", "# Other\n"));
    let (one, volume) = (Pod::new("one"), scene.persistent("data"));
    let assert_apart = |what: &str, pod: Pod, other: Volume| {
        assert!(!pods_share(&scene, [(&one, &volume), (&pod, &other)]), "{what}");
    };
    assert_apart("namespace", Pod::new("one").in_namespace("other"), volume.clone());
    assert_apart("volume name", Pod::new("one"), scene.persistent("other"));
    assert_apart("revision", Pod::new("one"), volume.clone().with_option("revision", "other"));
    assert_apart("directory", Pod::new("one"), volume.clone().with_option("directory", "sub"));
    assert_apart("fsGroup", Pod::new("one").with_fs_group(3000), volume.clone());
    assert_apart("uid", Pod::new("one"), volume.clone().with_option("uid", "1000"));
}

#[test]
fn pods_with_different_credentials_never_share_a_copy() {
    let tokens = ["token-1", "token-2"];
    let open = |server: gitrepo_tests::http::HttpServerBuilder| {
        tokens.into_iter().fold(server, |server, token| server.accept(Credential::Bearer(token)))
    };
    let Some(scene) = Scene::serving(open) else { return };
    let [one, other] = tokens.map(|token| scene.persistent("data").with_secret(&[("token", token)]));
    let pods = ["one", "other"].map(Pod::new);
    assert!(pods_share(&scene, [(&pods[0], &one), (&pods[1], &one)]));
    assert!(!pods_share(&scene, [(&pods[0], &one), (&pods[1], &other)]));
    // A pod without a credential gets no volume at all.
    let (pod, volume) = (&pods[0], &one);
    scene.kubelet().must_set_up(pod, volume);
    scene.kubelet().set_up(&pods[1], &scene.persistent("data")).unwrap_err();
    scene.kubelet().must_tear_down(pod, volume);
    scene.node.assert_nothing_set_up();
}

//! The driver's calls and its configuration.

use std::fs;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::kubelet::Pod;
use serde_json::Value;
use serde_json::json;

use super::Scene;

#[test]
fn init_declines_every_optional_call() {
    let Some(scene) = Scene::new() else { return };
    let finished = scene.kubelet().plugin().call(["init"]);
    let answer: Value = serde_json::from_slice(&finished.output).unwrap();
    let capabilities = json!({
        "attach": false, "selinuxRelabel": false, "fsGroup": false, "supportsMetrics": false, "requiresFSResize": false,
    });
    assert_eq!(answer["status"], "Success");
    assert_eq!(answer["capabilities"], capabilities);
}

/// The kubelet and the control plane call `init` often, under locks that every volume of the node waits for.
#[test]
fn init_reads_nothing_and_cannot_fail() {
    let Some(scene) = Scene::new() else { return };
    scene.node.configure(&json!({"no such field": 1}));
    let begun = Instant::now();
    for arguments in [&["init"][..], &["init", "more"]] {
        scene.kubelet().plugin().call(arguments).assert_success();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!scene.node.store().exists());
    scene.kubelet().plugin().assert_untouched();
}

#[test]
fn unsupported_calls_are_answered_with_not_supported() {
    let Some(scene) = Scene::new() else { return };
    let options = scene.inline("v").json(&Pod::new("pod"));
    for arguments in [
        &["getvolumename", &*options][..],
        &["attach", &options, "node"],
        &["detach", "v", "node"],
        &["isattached", &options, "node"],
        &["waitforattach", "/dev/x", &options],
        &["mountdevice", "/mnt", "/dev/x", &options],
        &["unmountdevice", "/mnt"],
        &["expandvolume", &options, "/dev/x", "1", "2"],
        &["expandfs", &options, "/dev/x", "/mnt", "1", "2"],
    ] {
        let answer = scene.kubelet().plugin().call(arguments).answer();
        assert_eq!(answer.status, "Not supported", "{arguments:?}");
    }
}

#[test]
fn the_configuration_beside_the_driver_is_used_if_there_is_no_other() {
    let Some(scene) = Scene::new() else { return };
    scene.node.configure_beside_driver(&json!({"deniedHosts": ["127.0.0.1"]}));
    scene.assert_fails(&scene.inline("v"), &["deniedHosts"]);
    scene.node.configure(&json!({}));
    let (pod, target) = scene.start_pod("pod", &scene.inline("v").read_only());
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &scene.inline("v"));
}

#[test]
fn a_refused_configuration_fails_mounts_but_not_unmounts() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.node.configure(&json!({"stor": "/var/lib/gitrepo"}));
    let other = Pod::new("other");
    let failed = scene.kubelet().set_up(&other, &volume).unwrap_err();
    assert!(failed.reason.contains("/etc/gitrepo/config.json") && failed.reason.contains("stor"), "{failed:?}");
    scene.kubelet().must_tear_down(&pod, &volume);
    fs::write("/etc/gitrepo/config.json", "{").unwrap();
    let failed = scene.kubelet().set_up(&other, &volume).unwrap_err();
    assert!(failed.reason.contains("/etc/gitrepo/config.json"), "{failed:?}");
    scene.node.assert_nothing_set_up();
}

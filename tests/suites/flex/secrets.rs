//! Secrets arrive in argv. They are nowhere else, and argv is wiped as soon as they are read.

use std::os::unix::fs::PermissionsExt;

use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Node;
use gitrepo_tests::process;
use nix::sys::signal::Signal;

use super::Scene;
use crate::drivers::secrets::TOKEN;
use crate::drivers::secrets::canaries;
use crate::drivers::secrets::secured;

#[test]
fn the_argument_list_is_wiped_and_no_child_gets_it() {
    let Some((scene, volumes)) = secured::<Node>(|server| server) else { return };
    for volume in volumes {
        let gate = scene.server.hold(|request| request.is_upload_pack() && request.authorization().is_some());
        let pod = Pod::new("pod");
        let mounting = scene.kubelet().begin_set_up(&pod, &volume);
        gate.wait_for(1);
        let processes = process::with_descendants(mounting.id());
        assert!(processes.len() >= 2, "the driver and its worker: {processes:?}");
        for pid in processes {
            let shown = process::arguments_and_environment(pid);
            canaries().assert_absent("a process", &shown);
            assert!(!shown.windows(13).any(|window| window == b"kubernetes.io"), "{}", shown.escape_ascii());
        }
        scene.node.assert_unseen(&canaries());
        // A signalled driver does not show them either.
        mounting.signal(Signal::SIGTERM);
        let failed = mounting.wait().unwrap_err();
        canaries().assert_absent("the answer", failed.event.as_bytes());
        gate.open();
        scene.node.assert_unseen(&canaries());
        scene.node.assert_nothing_set_up();
    }
}

/// The API server refuses such an option, and the kubelet encodes secrets in base64.
#[test]
fn a_secret_that_is_not_in_base64_is_refused_and_not_repeated() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").with_forged_option("kubernetes.io/secret/token", TOKEN);
    let reason = scene.assert_fails(&volume, &[]);
    canaries().assert_absent("the answer", reason.as_bytes());
    scene.node.assert_unseen(&canaries());
}

#[test]
fn logs_are_readable_by_root_only_and_outside_the_plugin_directory() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v");
    let (pod, _) = scene.start_pod("pod", &volume);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.assert_fails(&scene.inline("v").with_option("revision", "no-such-branch"), &[]);
    let logs = scene.node.log_files();
    assert!(!logs.is_empty());
    for log in logs {
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", log.display());
    }
    let log = scene.node.log();
    assert!(log.contains(&scene.url()) && log.contains("no-such-branch"), "{log}");
    assert!(log.contains(&pod.uid), "the log names the pod: {log}");
    scene.kubelet().plugin().assert_untouched();
}

//! Pods with a user namespace (`hostUsers: false`), as the kubelet's directories tell.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::mount::Mounter;
use gitrepo_core::quota::ProjectQuota;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::FakeQuota;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;

use super::Bench;
use super::housekeeping;

/// Makes the directory of a pod as the kubelet does, and returns the target of its volume.
fn target_of(bench: &Bench, pod: &str) -> PathBuf {
    let target = bench.target(pod).join("volumes/kubernetes.io~csi/data/mount");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    target
}

fn publish(bench: &Bench, pod: &str) -> PathBuf {
    let target = target_of(bench, pod);
    let target_path = target.to_str().unwrap().to_owned();
    bench.publish(NodePublishVolumeRequest { readonly: false, target_path, ..bench.request(pod) }).unwrap();
    target
}

/// As the kubelet writes the file: under another name first.
fn gets_a_user_namespace(bench: &Bench, pod: &str) {
    let file = bench.target(pod).join("userns");
    std::fs::write(file.with_extension("tmp"), "{}").unwrap();
    std::fs::rename(file.with_extension("tmp"), file).unwrap();
}

fn is_overlay(bench: &Bench, target: &Path) -> bool {
    let mounts = bench.mounter.list().unwrap();
    mounts.iter().find(|mount| mount.target == target).unwrap().upper().is_some()
}

fn unpublish(bench: &Bench, pod: &str, target: &Path) {
    let volumes = bench.node.storage.volumes().unwrap();
    volumes.unpublish(Some(&format!("csi-{pod}")), target, &Cancel::new()).unwrap();
}

/// Runs the driver's work until a target shows a copy.
fn until_copy(bench: &Bench, target: &Path) {
    bench.runtime.block_on(async {
        let working = tokio::spawn(bench.node.user_namespaces.clone().run());
        while is_overlay(bench, target) {
            assert!(!working.is_finished());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        working.abort();
    });
}

#[test]
fn a_pod_that_is_known_to_have_a_user_namespace_gets_a_copy() {
    let bench = Bench::with_mounter(FakeMounter::with_overlays());
    let pod = bench.target("uid");
    let target = pod.join("volumes/kubernetes.io~csi/data/mount");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    for has_namespace in [false, true] {
        if has_namespace {
            std::fs::write(pod.join("userns"), "{}").unwrap();
        }
        let target_path = target.to_str().unwrap().to_owned();
        bench.publish(NodePublishVolumeRequest { readonly: false, target_path, ..bench.request("uid") }).unwrap();
        let mounts = bench.mounter.list().unwrap();
        let mount = mounts.iter().find(|mount| mount.target == target).unwrap();
        assert_eq!(mount.upper().is_none(), has_namespace, "{mount:?}");
        let volumes = bench.node.storage.volumes().unwrap();
        volumes.unpublish(Some("csi-uid"), &target, &Cancel::new()).unwrap();
    }
}

#[test]
fn the_overlay_of_a_pod_that_gets_a_user_namespace_becomes_a_copy() {
    let bench = Bench::with_mounter(FakeMounter::with_overlays());
    let (target, other) = (publish(&bench, "mapped"), publish(&bench, "other"));
    assert!(is_overlay(&bench, &target) && is_overlay(&bench, &other));
    // The event alone: there was a look at all pods when nothing was to be done.
    assert_eq!(bench.runtime.block_on(bench.node.user_namespaces.look()).unwrap(), []);
    gets_a_user_namespace(&bench, "mapped");
    until_copy(&bench, &target);
    assert!(is_overlay(&bench, &other), "that of another pod stays");
    let mounts = bench.mounter.mounts();
    let copy = mounts.iter().find(|mount| mount.target == target).unwrap().attachment.path();
    assert_eq!(std::fs::read_to_string(copy.join("app/README.md")).unwrap(), "# Second\n");
    for (pod, target) in [("mapped", &target), ("other", &other)] {
        unpublish(&bench, pod, target);
    }
    assert!(bench.mounter.mounts().is_empty());
}

#[test]
fn a_restarted_driver_finds_the_overlays_that_must_become_copies() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let target = publish(&bench, "mapped");
    gets_a_user_namespace(&bench, "mapped");
    bench.restart();
    until_copy(&bench, &target);
    unpublish(&bench, "mapped", &target);
}

#[test]
fn an_overlay_that_was_written_stays_and_does_not_keep_others_waiting() {
    let bench = Bench::with_mounter(FakeMounter::with_overlays());
    let (target, other) = (publish(&bench, "written"), publish(&bench, "other"));
    let mounts = bench.mounter.list().unwrap();
    let upper = mounts.iter().find(|mount| mount.target == target).unwrap().upper().unwrap();
    std::fs::write(upper.join("written"), "stays").unwrap();
    gets_a_user_namespace(&bench, "written");
    gets_a_user_namespace(&bench, "other");
    until_copy(&bench, &other);
    assert!(is_overlay(&bench, &target));
    let found = bench.runtime.block_on(bench.node.user_namespaces.look()).unwrap();
    assert_eq!(found.iter().map(|record| &record.target).collect::<Vec<_>>(), [&target]);
    for (pod, target) in [("written", &target), ("other", &other)] {
        unpublish(&bench, pod, target);
    }
}

#[test]
fn the_copy_has_the_quota_of_the_layer() {
    let mut bench = Bench::with_mounter(FakeMounter::with_overlays());
    let quota = Arc::new(FakeQuota::new());
    let of_driver = Arc::clone(&quota);
    bench.node = super::driver_with_quota(gitrepo_tests::volumes::config(), &bench.home, &bench.mounter, of_driver);
    let target = publish(&bench, "mapped");
    let mounts = bench.mounter.list().unwrap();
    let upper = mounts.iter().find(|mount| mount.target == target).unwrap().upper().unwrap();
    let project = quota.project_of(&upper).unwrap();
    assert_ne!(project, 0);
    gets_a_user_namespace(&bench, "mapped");
    until_copy(&bench, &target);
    assert_eq!(quota.project_of(&upper.with_file_name("copy")).unwrap(), project);
    quota.write(project, 12_345);
    assert_eq!(bench.stats("csi-mapped", &target).unwrap().usage[0].used, 12_345);
    assert_eq!(quota.limits().into_keys().collect::<Vec<_>>(), [project], "the limit counts again");
    unpublish(&bench, "mapped", &target);
    bench.runtime.block_on(housekeeping(&bench).once());
    assert!(quota.limits().is_empty(), "{:?}", quota.limits());
}

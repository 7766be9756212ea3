//! Abandoned volumes, which no call will unpublish: the volumes that a sweep counts as abandoned.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mounter;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::store::Origin;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::testing::HeldLock;
use gitrepo_core::testing::mounter::Call;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use tempfile::TempDir;

use super::Bench;

const LONG: Duration = Duration::from_secs(60);

fn gone(origin: Origin, below: &Path) -> Abandoned {
    Abandoned::TargetGone { origin, below: below.to_owned() }
}

/// Sweeps, and returns the number of unpublished volumes.
fn sweep(bench: &Bench, abandoned: &Abandoned) -> usize {
    let report = bench.node.volumes.sweep(abandoned, LONG).unwrap();
    assert!(report.failures.is_empty() && !report.incomplete, "{report:?}");
    report.volumes
}

fn of(origin: Origin, request: VolumeRequest) -> VolumeRequest {
    with(request, |request| request.origin = origin)
}

fn published(bench: &Bench) -> Vec<PathBuf> {
    bench.node.volumes.list().unwrap().into_iter().map(|volume| volume.record.target).collect()
}

pub(super) fn a_volume_whose_target_is_gone_is_unpublished(bench: &Bench) {
    let pods = bench.node.target("");
    let (read, copy) = (bench.node.target("deleted"), bench.node.target("pod/volumes/copy"));
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    for request in [read_only(&bench.url(), &read), writable(&bench.url(), &copy, 0)] {
        bench.node.publish(&of(volumes::FLEX, request)).unwrap();
    }
    let abandoned = gone(volumes::FLEX, &pods);
    assert_eq!(sweep(bench, &abandoned), 0, "mounted");
    bench.node.reboot();
    assert_eq!(sweep(bench, &abandoned), 0, "not mounted, but the kubelet still has them");
    fs::remove_dir(&read).unwrap();
    delete(&bench.node.target("pod"));
    assert_eq!(sweep(bench, &abandoned), 2);
    bench.node.assert_nothing_published();
}

fn delete(tree: &Path) {
    volumes::delete(tree);
}

pub(super) fn a_shared_copy_is_removed_with_the_last_target_that_is_gone(bench: &Bench) {
    let pods = bench.node.target("");
    let requests = ["one", "two"].map(|pod| of(volumes::CSI, shared(&bench.url(), "volume", &bench.node.target(pod))));
    for request in &requests {
        bench.node.publish(request).unwrap();
    }
    let [one, two] = requests;
    fs::write(bench.node.shown(&one.target).join("written"), "by the pod").unwrap();
    bench.node.reboot();
    fs::remove_dir(&one.target).unwrap();
    assert_eq!(sweep(bench, &gone(volumes::CSI, &pods)), 1);
    bench.node.publish(&two).unwrap();
    assert_eq!(fs::read_to_string(bench.node.shown(&two.target).join("written")).unwrap(), "by the pod");

    bench.node.reboot();
    fs::remove_dir(&two.target).unwrap();
    assert_eq!(sweep(bench, &gone(volumes::CSI, &pods)), 1);
    bench.node.assert_nothing_published();
}

pub(super) fn only_volumes_of_the_given_origin_and_directory_are_abandoned(bench: &Bench) {
    let (here, there) = (bench.node.target("here"), bench.node.target("there"));
    for place in [&here, &there] {
        fs::create_dir(place).unwrap();
    }
    for (origin, place) in
        [(volumes::CSI, &here), (volumes::CSI, &there), (volumes::FLEX, &here), (volumes::PERSON, &here)]
    {
        let target = place.join(origin.name());
        bench.node.publish(&of(origin, read_only(&bench.url(), &target))).unwrap();
    }
    bench.node.reboot();
    for target in published(bench) {
        fs::remove_dir(target).unwrap();
    }
    assert_eq!(sweep(bench, &gone(volumes::CSI, &here)), 1);
    assert_eq!(published(bench), [here.join("cli"), here.join("flex"), there.join("csi")]);
    assert_eq!(sweep(bench, &Abandoned::Unmounted { origin: volumes::PERSON }), 1);
    assert_eq!(published(bench), [here.join("flex"), there.join("csi")]);
}

pub(super) fn a_volume_whose_target_cannot_be_checked_is_not_abandoned(bench: &Bench) {
    let pods = bench.node.target("kubelet/pods");
    let targets = ["gone", "behind-a-link", "behind-a-file"].map(|pod| pods.join(pod).join("mount"));
    for target in &targets {
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        bench.node.publish(&of(volumes::CSI, read_only(&bench.url(), target))).unwrap();
    }
    bench.node.reboot();

    // The pods' directory is missing, as in a container that does not mount it.
    let elsewhere = bench.node.target("elsewhere");
    fs::rename(&pods, &elsewhere).unwrap();
    for make in [|_: &Path| {}, |pods: &Path| fs::write(pods, "").unwrap(), |pods: &Path| symlink("/", pods).unwrap()] {
        make(&pods);
        let error = bench.node.volumes.sweep(&gone(volumes::CSI, &pods), LONG).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        assert!(error.to_string().contains("kubelet/pods"), "{error}");
        assert_eq!(published(bench).len(), 3);
        drop(fs::remove_file(&pods));
    }
    fs::rename(&elsewhere, &pods).unwrap();

    for target in &targets {
        delete(target.parent().unwrap());
    }
    symlink("nowhere", pods.join("behind-a-link")).unwrap();
    fs::write(pods.join("behind-a-file"), "").unwrap();
    assert_eq!(sweep(bench, &gone(volumes::CSI, &pods)), 1);
    assert_eq!(published(bench).len(), 2, "a link or a file on the path hides the target");
}

pub(super) fn a_users_read_only_volume_is_abandoned_when_its_mount_is_lost(bench: &Bench) {
    let requests = [
        read_only(&bench.url(), &bench.node.target("read")),
        writable(&bench.url(), &bench.node.target("copy"), 0),
        shared(&bench.url(), "volume", &bench.node.target("shared")),
        of(volumes::CSI, read_only(&bench.url(), &bench.node.target("csi"))),
    ];
    for request in &requests {
        bench.node.publish(request).unwrap();
    }
    assert_eq!(sweep(bench, &Abandoned::Unmounted { origin: volumes::PERSON }), 0);
    bench.node.reboot();
    assert_eq!(sweep(bench, &Abandoned::Unmounted { origin: volumes::PERSON }), 1);
    assert_eq!(published(bench), ["copy", "csi", "shared"].map(|pod| bench.node.target(pod)));
    for request in &requests[1..] {
        bench.node.publish(request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
    }
}

const URL: &str = "file:///app.git";

/// A node whose mounter records its calls.
fn recorded(place: &TempDir) -> (Node, Arc<FakeMounter>) {
    let mounter = Arc::new(FakeMounter::new());
    let worker = Arc::new(InProcess::new(Arc::new(FakeRemote::of_one(&RepositoryUrl::parse(URL).unwrap()))));
    let node = Node::new(place.path(), volumes::config(), worker, Arc::clone(&mounter) as Arc<dyn Mounter>);
    (node, mounter)
}

#[test]
fn a_sweep_reads_the_mount_table_once_for_all_volumes() {
    let place = TempDir::new().unwrap();
    let (node, mounter) = recorded(&place);
    for pod in 0..5 {
        node.publish(&read_only(URL, &node.target(&format!("pod-{pod}")))).unwrap();
    }
    for abandoned in [Abandoned::Unmounted { origin: volumes::PERSON }, gone(volumes::PERSON, &node.target(""))] {
        let before = mounter.calls().len();
        node.volumes.sweep(&abandoned, LONG).unwrap();
        assert_eq!(mounter.calls()[before..], [Call::Sweep, Call::List], "{abandoned:?}");
    }
}

#[test]
fn a_mounted_volume_is_not_abandoned_even_if_its_target_is_hidden() {
    let place = TempDir::new().unwrap();
    let (node, _) = recorded(&place);
    let request = of(volumes::CSI, read_only(URL, &node.target("pod")));
    node.publish(&request).unwrap();
    // As if a mount covered a directory on the path.
    fs::remove_dir(&request.target).unwrap();
    let abandoned = gone(volumes::CSI, &node.target(""));
    assert_eq!(node.volumes.sweep(&abandoned, LONG).unwrap().volumes, 0);
    assert_eq!(node.volumes.list().unwrap().len(), 1);
}

#[test]
fn a_volume_that_another_process_works_on_is_not_abandoned() {
    let place = TempDir::new().unwrap();
    let (node, mounter) = recorded(&place);
    let request = of(volumes::CSI, shared(URL, "volume", &node.target("pod")));
    node.publish(&request).unwrap();
    mounter.reboot();
    fs::remove_dir(&request.target).unwrap();
    let abandoned = gone(volumes::CSI, &node.target(""));
    let cancel = Cancel::new();
    let store = node.volumes.store();

    let target = HeldLock::target(store, &request.volume_id, &request.target, &cancel).unwrap();
    assert_eq!(node.volumes.sweep(&abandoned, LONG).unwrap().volumes, 0);
    drop(target);
    let volume = HeldLock::volume(store, &request.volume_id, &cancel).unwrap();
    assert_eq!(node.volumes.sweep(&abandoned, LONG).unwrap().volumes, 0);
    drop(volume);
    assert_eq!(node.volumes.sweep(&abandoned, LONG).unwrap().volumes, 1);
    node.assert_nothing_published();
}

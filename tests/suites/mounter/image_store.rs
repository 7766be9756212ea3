//! Images in a store: eviction, publish and unpublish recognise their mounts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::spec::RepositoryUrl;
use gitrepo_core::store::Eviction;
use gitrepo_core::testing::FakeRemote;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::images::Image;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;

use super::Bench;

type LinuxBench = Bench<LinuxMounter>;

const URL: &str = "file:///app.git";

fn node(bench: &LinuxBench) -> Node {
    let remote = FakeRemote::of_one(&RepositoryUrl::parse(URL).unwrap());
    let worker = Arc::new(InProcess::new(Arc::new(remote)));
    let mut config = volumes::config();
    config.snapshot_format = SnapshotChoice::Directory;
    Node::new(&bench.home, config, worker, Arc::new(bench.mounter.clone()))
}

/// The image of this snapshot, in a store.
fn image_in(store: PathBuf, snapshot: &str, seed: u8) -> Image {
    Image::write(&store.join("snapshots").join(snapshot), 2, seed)
}

pub(super) fn a_snapshot_whose_image_is_mounted_is_not_evicted(bench: &LinuxBench) {
    let node = node(bench);
    let request = volumes::read_only(URL, &node.target("pod"));
    node.publish(&request).unwrap();
    node.unpublish(&request);
    let [snapshot] = &node.snapshots()[..] else { panic!("one snapshot") };
    // Its record was lost: only the mount table tells that the snapshot is in use.
    let mount = Image::write(snapshot, 2, 7).mount(bench.directory("pods/pod"));
    bench.mounter.attach(&mount).unwrap();

    let store = node.volumes.store();
    let shown = || Some(bench.mounter.list().unwrap().iter().filter_map(|mount| store.shown_by(mount)).collect());
    let evict = || store.evict(Eviction::Unreferenced, &shown, Duration::from_secs(60)).unwrap().snapshots;
    assert!(store.evictable(Eviction::Unreferenced, &shown).unwrap().snapshots == 0 && evict() == 0);
    assert!(bench.mounter.shows(&mount).unwrap());

    bench.mounter.unmount(&mount.target).unwrap();
    assert!(evict() == 1 && node.snapshots().is_empty());
}

pub(super) fn an_image_of_the_store_without_a_record_is_removed(bench: &LinuxBench) {
    let node = node(bench);
    let target = bench.directory("pods/pod");
    let mount = image_in(node.store().into(), &"a".repeat(64), 7).mount(&target);
    bench.mounter.attach(&mount).unwrap();
    let unpublished = node.volumes.unpublish(None, &target, &Cancel::new()).unwrap();
    assert!(!unpublished.known && unpublished.mounts == 1, "{unpublished:?}");

    bench.mounter.attach(&mount).unwrap();
    node.publish(&volumes::read_only(URL, &target)).unwrap();
    let mounts = bench.mounts_on(&target);
    assert!(mounts.len() == 1 && mounts[0].image().is_none(), "{mounts:?}");
}

/// Stores may have snapshots of one id: of the same repository, commit and options.
pub(super) fn an_image_of_another_store_stays(bench: &LinuxBench) {
    let node = node(bench);
    let target = bench.directory("pods/pod");
    let snapshot = "a".repeat(64);
    let _ours = image_in(node.store().into(), &snapshot, 7);
    let theirs = image_in(bench.path("other"), &snapshot, 7);
    let mount = theirs.mount(&target);
    bench.mounter.attach(&mount).unwrap();

    let request = volumes::read_only(URL, &target);
    let error = node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains(theirs.metadata.to_str().unwrap()), "{error}");
    assert_eq!(node.unpublish(&request).mounts, 0);
    assert!(bench.mounter.shows(&mount).unwrap());
}

//! Files of the store that were truncated, changed or deleted by others.

use std::fs;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::volume::Abandoned;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::writable;

use super::Bench;

pub(super) fn a_torn_record_breaks_neither_publish_nor_unpublish_nor_list(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    fs::create_dir(&request.target).unwrap();
    for torn in ["", "\0\0\0\0", "{}", "{\"version\":1,"] {
        bench.node.publish(&request).unwrap();
        let tear = || fs::write(bench.node.record_file(), torn).unwrap();
        tear();
        assert_eq!(bench.node.volumes.list().unwrap().len(), 0, "{torn:?}");
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
        assert_eq!(bench.node.volumes.list().unwrap().len(), 1);

        tear();
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);

        tear();
        assert_eq!(bench.node.unpublish(&request).mounts, 1, "{torn:?}: the mount is still recognised");
        assert_eq!(bench.node.mounts_on(&request.target), 0);
    }
    fs::remove_dir(&request.target).unwrap();
    bench.node.assert_nothing_published();
}

/// Empties a directory of the store.
fn empty(node: &Node, place: &str) {
    entries(&node.store().join(place)).iter().for_each(|path| delete(path));
}

pub(super) fn a_deleted_snapshot_is_made_again(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    empty(&bench.node, "snapshots");
    let published = bench.node.publish(&request).unwrap();
    assert_eq!(published.commit.to_string(), bench.commit);
    bench.assert_shows(&request.target, &bench.commit);
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn a_deleted_snapshot_that_cannot_be_made_again_is_reported_and_unpublished(bench: &Bench) {
    let server = HttpServer::start(&bench.repository);
    let request = read_only(&server.url(&bench.repository), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    empty(&bench.node, "snapshots");
    empty(&bench.node, "repositories");
    drop(server);
    let error = bench.node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn a_changed_snapshot_is_replaced_and_its_mounts_keep_it(bench: &Bench) {
    let [first, second, copy] = ["first", "second", "copy"].map(|pod| bench.node.target(pod));
    let [first, second] = [first, second].map(|target| read_only(&bench.url(), &target));
    let copy = writable(&bench.url(), &copy, 0);
    bench.node.publish(&first).unwrap();
    let snapshots = bench.node.snapshots();
    fs::write(snapshots[0].join("root/README.md"), "# Evil..\n").unwrap();
    for request in [&second, &copy] {
        bench.node.publish(request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
    }
    assert_eq!(bench.node.snapshots().len(), 2, "one new snapshot for both");
    assert_eq!(bench.node.volumes.store().changed_snapshots(), 1);
    bench.node.publish(&first).unwrap();
    assert_eq!(bench.node.mounts_on(&first.target), 1);
    assert_eq!(fs::read(bench.node.shown(&first.target).join("README.md")).unwrap(), b"# Evil..\n");

    // After a reboot, the new snapshot is mounted; a sweep removes the changed one once it is unused.
    let sweep = || {
        bench.node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap()
    };
    assert_eq!(sweep().snapshots, 0);
    bench.node.reboot();
    bench.node.publish(&first).unwrap();
    bench.assert_shows(&first.target, &bench.commit);
    assert_eq!(sweep().snapshots, 1);
    bench.assert_shows(&first.target, &bench.commit);
    for request in [&first, &second, &copy] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_changed_snapshot_is_unpublished_like_any_other(bench: &Bench) {
    let [first, second] = ["first", "second"].map(|pod| read_only(&bench.url(), &bench.node.target(pod)));
    bench.node.publish(&first).unwrap();
    let changed = bench.node.snapshots();
    fs::write(changed[0].join("root/added"), "").unwrap();
    bench.node.publish(&second).unwrap();
    assert_eq!(bench.node.unpublish(&first).mounts, 1);
    bench.assert_shows(&second.target, &bench.commit);
    assert_eq!(
        bench
            .node
            .volumes
            .sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60))
            .unwrap()
            .snapshots,
        1
    );
    assert!(!changed[0].exists());
    bench.assert_shows(&second.target, &bench.commit);
    bench.node.unpublish(&second);
    bench.node.assert_nothing_published();
}

pub(super) fn a_mounted_copy_outlives_its_record(bench: &Bench) {
    let request = writable(&bench.url(), &bench.node.target("pod"), 0);
    let sweep = || {
        bench.node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap()
    };
    bench.node.publish(&request).unwrap();
    let written = bench.node.shown(&request.target).join("written");
    fs::write(&written, "by the pod").unwrap();
    fs::write(bench.node.record_file(), "").unwrap();
    sweep();
    assert_eq!(fs::read(&written).unwrap(), b"by the pod");

    assert_eq!(bench.node.unpublish(&request).mounts, 1);
    sweep();
    fs::remove_dir(&request.target).unwrap();
    bench.node.assert_nothing_published();
}

pub(super) fn a_copy_without_a_record_is_never_shown_again(bench: &Bench) {
    let target = bench.node.target("pod");
    let old = writable(&bench.url(), &target, 0);
    bench.node.publish(&old).unwrap();
    fs::write(bench.node.shown(&target).join("secret"), "of the previous pod").unwrap();
    fs::write(bench.node.record_file(), "").unwrap();

    let new = at(writable(&bench.url(), &target, 0), &bench.first);
    bench.node.publish(&new).unwrap();
    bench.assert_shows(&target, &bench.first);
}

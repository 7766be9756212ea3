//! The target directory: who owns it, and which targets are valid.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Mount;
use gitrepo_core::volume::Abandoned;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::read_only;

use super::Bench;

pub(super) fn an_existing_target_directory_stays(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    fs::create_dir(&request.target).unwrap();
    fs::set_permissions(&request.target, fs::Permissions::from_mode(0o711)).unwrap();
    bench.node.publish(&request).unwrap();
    bench.node.unpublish(&request);
    assert_eq!(fs::metadata(&request.target).unwrap().permissions().mode() & 0o7777, 0o711);
    assert_eq!(fs::read_dir(&request.target).unwrap().count(), 0, "the store writes nothing into it");
}

pub(super) fn a_created_target_directory_is_removed(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    assert!(request.target.is_dir());
    bench.node.unpublish(&request);
    assert!(!request.target.exists());

    bench.node.publish(&request).unwrap();
    bench.node.reboot();
    fs::remove_dir(&request.target).unwrap();
    bench.node.publish(&request).unwrap();
    bench.node.unpublish(&request);
    assert!(!request.target.exists(), "a directory created again after a reboot is removed too");

    bench.node.publish(&request).unwrap();
    bench.node.reboot();
    fs::write(request.target.join("precious"), "somebody else's").unwrap();
    bench.node.unpublish(&request);
    assert!(request.target.join("precious").exists());
}

pub(super) fn an_unusable_target_is_refused_and_nothing_is_created(bench: &Bench) {
    let pods = bench.node.target("");
    fs::create_dir(pods.join("real")).unwrap();
    symlink("real", pods.join("link")).unwrap();
    symlink("nowhere", pods.join("dangling")).unwrap();
    fs::write(pods.join("file"), "").unwrap();
    let unusable = [
        (pods.join("link"), Kind::FailedPrecondition),
        (pods.join("link/inside"), Kind::FailedPrecondition),
        (pods.join("dangling"), Kind::FailedPrecondition),
        (pods.join("file"), Kind::FailedPrecondition),
        (pods.join("file/inside"), Kind::FailedPrecondition),
        (pods.join("missing/inside"), Kind::FailedPrecondition),
        (pods.join("real/../other"), Kind::InvalidRequest),
        (PathBuf::from("relative"), Kind::InvalidRequest),
        (PathBuf::from("/"), Kind::InvalidRequest),
        (pods.join(OsStr::from_bytes(b"\xff")), Kind::InvalidRequest),
        (bench.node.store().join("pod"), Kind::InvalidRequest),
        (bench.home.clone(), Kind::InvalidRequest),
    ];
    for (target, kind) in unusable {
        let error = bench.node.publish(&read_only(&bench.url(), &target)).unwrap_err();
        assert_eq!(error.kind(), kind, "{}: {error}", target.display());
    }
    assert_eq!(bench.server.requests().len(), 0, "refused before the remote is asked");
    assert_eq!(fs::read_dir(pods.join("real")).unwrap().count(), 0);
    for name in ["link", "dangling", "file"] {
        fs::remove_file(pods.join(name)).unwrap();
    }
    fs::remove_dir(pods.join("real")).unwrap();
    bench.node.assert_nothing_published();
}

pub(super) fn a_foreign_mount_made_after_a_reboot_stays(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let theirs = bench.home.join("theirs");
    for directory in [&theirs, &request.target] {
        fs::create_dir(directory).unwrap();
    }
    bench.node.publish(&request).unwrap();
    bench.node.reboot();
    let bind = Mount::bind(theirs, request.target.clone(), false);
    bench.mounter.attach(&bind).unwrap();
    let unpublished = bench.node.unpublish(&request);
    assert!(unpublished.known && unpublished.mounts == 0, "{unpublished:?}");
    assert!(bench.mounter.shows(&bind).unwrap());
}

pub(super) fn a_volume_covered_by_a_foreign_mount_is_not_forgotten(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let theirs = bench.home.join("theirs");
    fs::create_dir(&theirs).unwrap();
    bench.node.publish(&request).unwrap();
    bench.mounter.attach(&Mount::bind(theirs, request.target.clone(), false)).unwrap();
    bench.node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap();
    assert_eq!(bench.node.volumes.list().unwrap().len(), 1, "its snapshot is still in use");
    assert_eq!(bench.node.unpublish(&request).mounts, 2);
}

pub(super) fn a_foreign_mount_is_neither_covered_nor_unmounted(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    let theirs = bench.home.join("theirs");
    for directory in [&theirs, &request.target] {
        fs::create_dir(directory).unwrap();
    }
    let bind = Mount::bind(theirs, request.target.clone(), false);
    bench.mounter.attach(&bind).unwrap();

    let error = bench.node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("mount point of something else"), "{error}");
    assert_eq!(bench.node.unpublish(&request).mounts, 0);
    assert!(bench.mounter.shows(&bind).unwrap());

    bench.mounter.unmount(&request.target).unwrap();
    bench.node.publish(&request).unwrap();
    bench.assert_shows(&request.target, &bench.commit);
}

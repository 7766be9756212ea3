//! Writable volumes as layers over one snapshot.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::MountPoint;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::store::Eviction;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::namespace;
use gitrepo_tests::user_namespace::UserNamespace;
use gitrepo_tests::volumes::PERSON;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::private;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;
use nix::sys::statvfs::statvfs;

use super::Bench;

/// The mount of an overlay on a target, which must be the only one there.
fn overlay_on(bench: &Bench, target: &Path) -> MountPoint {
    let mounts = bench.mounter.list().unwrap();
    let mut mounts = mounts.into_iter().filter(|mount| mount.target == target);
    let (Some(mount), None) = (mounts.next(), mounts.next()) else { panic!("one mount on {}", target.display()) };
    assert!(mount.upper().is_some(), "{mount:?}");
    mount
}

fn lowers(bench: &Bench) -> Vec<PathBuf> {
    entries(&bench.node.store().join("lowers"))
}

fn sweep(bench: &Bench) -> usize {
    let report = bench.node.volumes.sweep(&Abandoned::Unmounted { origin: PERSON }, Duration::from_secs(60)).unwrap();
    assert!(report.failures.is_empty() && !report.incomplete, "{report:?}");
    report.lowers
}

/// Whether this user and group, and no other group, can write in a directory.
fn can_write(directory: &Path, (uid, gid): (u32, u32)) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo mine >> README.md && echo new > new && mkdir made && mv made moved && rm -r new moved"]);
    shell.current_dir(directory).uid(uid).gid(gid).stderr(std::process::Stdio::null());
    shell.status().unwrap().success()
}

pub(super) fn pods_of_one_commit_write_at_once_and_see_only_their_own(bench: &Bench) {
    let requests: Vec<_> =
        (0..8).map(|pod| private(&bench.url(), &bench.node.target(&format!("pod-{pod}")), 0)).collect();
    thread::scope(|scope| {
        for (number, request) in requests.iter().enumerate() {
            scope.spawn(move || {
                assert_eq!(bench.node.publish(request).unwrap().format, Format::Overlay);
                for _ in 0..20 {
                    fs::write(request.target.join("README.md"), format!("of {number}")).unwrap();
                    fs::write(request.target.join(format!("new-{number}")), "new").unwrap();
                }
                fs::remove_file(request.target.join("run")).unwrap();
                fs::rename(request.target.join("a"), request.target.join("renamed")).unwrap();
            });
        }
    });
    for (number, request) in requests.iter().enumerate() {
        let names = entries(&request.target).into_iter().map(|path| path.file_name().unwrap().to_owned());
        let expected = ["README.md", "renamed", &format!("new-{number}")].map(Into::into);
        assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(expected));
        assert_eq!(fs::read_to_string(request.target.join("README.md")).unwrap(), format!("of {number}"));
    }
    let [reader, later] = ["reader", "later"].map(|pod| bench.node.target(pod));
    for request in [read_only(&bench.url(), &reader), private(&bench.url(), &later, 0)] {
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
        bench.node.unpublish(&request);
    }
    for request in &requests {
        assert_eq!(bench.node.unpublish(request).mounts, 1);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_layer_survives_restarts_and_reboots_and_goes_with_its_target(bench: &Bench) {
    let request = private(&bench.url(), &bench.node.target("pod"), 0);
    for _ in 0..2 {
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
        fs::write(request.target.join("written"), "by the pod").unwrap();
        fs::remove_file(request.target.join("run")).unwrap();
        let again = bench.configured(|_| {}).publish(&request).unwrap();
        assert_eq!((again.outcome, again.format), (Outcome::AlreadyPublished, Format::Overlay));
        for _ in 0..2 {
            bench.node.reboot();
            let lowers = lowers(bench).len();
            assert_eq!(sweep(bench), lowers);
            assert_eq!(bench.node.publish(&request).unwrap().format, Format::Overlay);
            assert_eq!(fs::read_to_string(request.target.join("written")).unwrap(), "by the pod");
            assert!(!request.target.join("run").exists());
        }
        assert_eq!(bench.node.unpublish(&request).mounts, 1);
        bench.node.assert_nothing_published();
    }
}

pub(super) fn a_workspace_takes_no_space_before_the_first_write(bench: &Bench) {
    const BYTES: u64 = 64 << 10;
    let requests = ["warm", "one", "two", "three"].map(|pod| private(&bench.url(), &bench.node.target(pod), 0));
    let space = || {
        let space = statvfs(&bench.home).unwrap();
        (space.blocks_free() * space.fragment_size(), space.files_free())
    };
    bench.node.publish(&requests[0]).unwrap();
    let before = space();
    for request in &requests[1..] {
        bench.node.publish(request).unwrap();
    }
    let after = space();
    assert!(before.0 - after.0 <= 3 * BYTES && before.1 - after.1 <= 3 * 16, "{before:?} {after:?}");
    for request in &requests {
        bench.node.unpublish(request);
    }
}

pub(super) fn layers_over_an_image_share_one_lower_mount_until_the_last_is_gone(bench: &Bench) {
    let requests = ["one", "two"].map(|pod| private(&bench.url(), &bench.node.target(pod), 0));
    for request in &requests {
        bench.node.publish(request).unwrap();
    }
    let [lower] = &lowers(bench)[..] else { panic!("one lower mount") };
    let lower_mounts = || bench.mounter.list().unwrap().into_iter().filter(|mount| mount.target == *lower).count();
    assert_eq!(lower_mounts(), 1);
    for request in &requests {
        assert_eq!(overlay_on(bench, &request.target).lower().as_ref(), Some(lower));
    }
    // What is mounted is not evicted, and what an overlay needs is not swept.
    assert!(bench.node.volumes.evict(Eviction::Unreferenced, Duration::from_secs(60)).unwrap().is_nothing());
    assert_eq!(sweep(bench), 0);
    bench.node.unpublish(&requests[0]);
    assert_eq!(lower_mounts(), 1);
    bench.assert_shows(&requests[1].target, &bench.commit);

    // As if a process died between the last unmount and that of the lower mount.
    bench.mounter.unmount(&requests[1].target).unwrap();
    let swept = sweep(bench);
    assert_eq!((swept, lower_mounts(), lowers(bench)), (1, 0, vec![]));
    bench.node.publish(&requests[1]).unwrap();
    bench.assert_shows(&requests[1].target, &bench.commit);
    bench.node.unpublish(&requests[1]);
    bench.node.assert_nothing_published();
    assert_eq!(bench.node.snapshots().len(), 1);
}

pub(super) fn a_layer_outlives_a_lost_lower_mount(bench: &Bench) {
    let requests = ["one", "two"].map(|pod| private(&bench.url(), &bench.node.target(pod), 0));
    bench.node.publish(&requests[0]).unwrap();
    let [lower] = &lowers(bench)[..] else { panic!("one lower mount") };
    bench.mounter.unmount(lower).unwrap();
    fs::remove_dir(lower).unwrap();
    bench.assert_shows(&requests[0].target, &bench.commit);
    bench.node.publish(&requests[1]).unwrap();
    for request in &requests {
        bench.assert_shows(&request.target, &bench.commit);
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_layer_over_an_image_belongs_to_its_user_and_group(bench: &Bench) {
    let in_a_directory = |mut request: VolumeRequest| {
        request.spec.tree.directory = RelativePath::parse("app").unwrap();
        request
    };
    for (pod, group, root, file, directory) in
        [("group", Some(2000), 0o2775, 0o664, 0o2775), ("alone", None, 0o777, 0o644, 0o755)]
    {
        let request = with(private(&bench.url(), &bench.node.target(pod), 1000), |request| request.group = group);
        let request = in_a_directory(request);
        assert_eq!(bench.node.publish(&request).unwrap().format, Format::Overlay);
        let owner = (1000, group.unwrap_or(1000));
        for (name, mode) in [("", root), ("app", directory), ("app/README.md", file), ("app/a/b", directory)] {
            let found = request.target.join(name).symlink_metadata().unwrap();
            assert_eq!(((found.uid(), found.gid()), found.mode() & 0o7777), (owner, mode), "{pod}: {name:?}");
        }
        let tree = request.target.join("app");
        assert!(can_write(&tree, (1000, 1000)), "the owner");
        assert_eq!(can_write(&tree, (3000, 2000)), group.is_some(), "the group");
        assert!(!can_write(&tree, (3000, 3000)), "anybody else");
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_layer_over_a_directory_is_for_root_and_others_get_a_copy(bench: &Bench) {
    let request = private(&bench.url(), &bench.node.target("root"), 0);
    assert_eq!(bench.node.publish(&request).unwrap().format, Format::Overlay);
    bench.assert_shows(&request.target, &bench.commit);
    assert_eq!(fs::metadata(&request.target).unwrap().mode() & 0o7777, 0o777);
    let group = with(private(&bench.url(), &bench.node.target("group"), 0), |request| request.group = Some(2000));
    for request in [&private(&bench.url(), &bench.node.target("user"), 1000), &group] {
        assert_eq!(bench.node.publish(request).unwrap().format, Format::Copy);
        let found = fs::metadata(request.target.join("README.md")).unwrap();
        assert_eq!((found.uid(), found.gid()), (request.spec.uid, request.group.unwrap_or(request.spec.uid)));
        bench.node.unpublish(request);
    }
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn a_copy_is_a_copy_and_its_root_is_as_that_of_a_layer(bench: &Bench) {
    for (group, mode) in [(None, 0o777), (Some(2000), 0o2775)] {
        let request = with(writable(&bench.url(), &bench.node.target("pod"), 1000), |request| request.group = group);
        assert_eq!(bench.node.publish(&request).unwrap().format, Format::Copy);
        assert_eq!(fs::metadata(&request.target).unwrap().mode() & 0o7777, mode);
        // It stays one, also for a request that would get a layer now.
        let later = with(private(&bench.url(), &request.target, 1000), |request| request.group = group);
        bench.node.reboot();
        assert_eq!(bench.node.publish(&later).unwrap().format, Format::Copy);
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_pod_with_mapped_ids_gets_a_copy(bench: &Bench) {
    for request in [
        private(&bench.url(), &bench.node.target("private"), 0),
        shared(&bench.url(), "volume", &bench.node.target("shared")),
    ] {
        let mapped = with(request, |request| request.id_mapped = true);
        assert_eq!(bench.node.publish(&mapped).unwrap().format, Format::Copy);
        bench.assert_shows(&mapped.target, &bench.commit);
        bench.node.unpublish(&mapped);
    }
    // A layer that others show is not joined by a pod that could not use it.
    let [first, mapped] = ["first", "mapped"].map(|pod| shared(&bench.url(), "volume", &bench.node.target(pod)));
    assert_eq!(bench.node.publish(&first).unwrap().format, Format::Overlay);
    let mapped = with(mapped, |request| request.id_mapped = true);
    let error = bench.node.publish(&mapped).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    assert!(error.to_string().contains("writable: copy"), "{error}");
    bench.node.unpublish(&first);
    assert_eq!(bench.node.publish(&mapped).unwrap().format, Format::Copy);
    bench.node.unpublish(&mapped);
    bench.node.assert_nothing_published();
}

/// What a container runtime does for a pod with `hostUsers: false`.
pub(super) fn ids_of_every_kind_but_overlays_can_be_mapped(bench: &Bench) {
    let namespace = UserNamespace::new(100_000);
    let kinds = [
        (read_only(&bench.url(), &bench.node.target("reads")), true),
        (writable(&bench.url(), &bench.node.target("copies"), 1000), true),
        (private(&bench.url(), &bench.node.target("layer"), 0), false),
        (shared(&bench.url(), "volume", &bench.node.target("shared")), false),
    ];
    for (request, works) in &kinds {
        let format = bench.node.publish(request).unwrap().format;
        let clone = bench.home.join("clone");
        fs::create_dir(&clone).unwrap();
        match namespace.attach_mapped(&request.target, &clone) {
            Ok(()) => {
                assert!(works, "{format}: document that it works now");
                let found = fs::metadata(clone.join("README.md")).unwrap();
                assert_eq!(found.uid(), 100_000 + request.spec.uid, "{format}");
                bench.mounter.unmount(&clone).unwrap();
            }
            Err(error) => assert!(!works && error.raw_os_error() == Some(libc::EINVAL), "{format}: {error}"),
        }
        fs::remove_dir(&clone).unwrap();
        bench.node.unpublish(request);
    }
}

pub(super) fn a_layer_beyond_the_limit_is_read_only_until_it_is_unpublished(bench: &Bench) {
    let node = bench.configured(|config| config.limits.writable_bytes = 1 << 20);
    let request = private(&bench.url(), &bench.node.target("pod"), 0);
    let sharing = ["one", "two"].map(|pod| shared(&bench.url(), "volume", &bench.node.target(pod)));
    let all = [&request, &sharing[0], &sharing[1]];
    for request in all {
        node.publish(request).unwrap();
    }
    assert_eq!(node.volumes.overgrown(Duration::from_secs(60)).unwrap(), []);
    for target in [&request.target, &sharing[0].target] {
        fs::write(target.join("large"), vec![1; 2 << 20]).unwrap();
    }
    let open = fs::File::create(request.target.join("open")).unwrap();
    let overgrown = || {
        let overgrown = node.volumes.overgrown(Duration::from_secs(60)).unwrap();
        assert!(overgrown.iter().all(|one| one.bytes > one.limit || one.frozen), "{overgrown:?}");
        overgrown.into_iter().map(|one| (one.target, one.frozen)).collect::<BTreeSet<_>>()
    };
    let expected = |private| {
        let [one, two] = sharing.each_ref().map(|request| (request.target.clone(), true));
        BTreeSet::from([(request.target.clone(), private), one, two])
    };
    assert_eq!(overgrown(), expected(false), "a file is open for writing");
    drop(open);
    assert_eq!(overgrown(), expected(true));
    for reboot in [false, false, true, true] {
        if reboot {
            bench.node.reboot();
        }
        for request in all {
            assert_eq!(node.publish(request).unwrap().format, Format::Overlay);
            let written = fs::write(request.target.join("new"), "");
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
            assert_eq!(fs::metadata(request.target.join("large")).unwrap().len(), 2 << 20);
        }
        assert_eq!(overgrown(), expected(true));
    }
    for request in all {
        assert_eq!(node.unpublish(request).mounts, 1);
    }
    node.publish(&request).unwrap();
    fs::write(request.target.join("new"), "").unwrap();
    assert_eq!(overgrown(), BTreeSet::new());
    node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn what_is_below_a_layer_does_not_count_towards_its_limit(bench: &Bench) {
    let node = bench.configured(|config| config.limits.writable_bytes = 8);
    let request = private(&bench.url(), &bench.node.target("pod"), 0);
    node.publish(&request).unwrap();
    assert_eq!(node.volumes.overgrown(Duration::from_secs(60)).unwrap(), []);
    let record = node.volumes.find(&request.volume_id, &request.target).unwrap().unwrap().record;
    let empty = node.volumes.layer_usage(&record).unwrap();
    assert_eq!((empty.bytes, empty.inodes, empty.limit), (0, 1, 8));
    fs::write(request.target.join("new"), vec![1; 10_000]).unwrap();
    assert_eq!(node.volumes.layer_usage(&record).unwrap(), empty, "as it was measured last");
    assert_eq!(node.volumes.overgrown(Duration::from_secs(60)).unwrap().len(), 1);
    let usage = node.volumes.layer_usage(&record).unwrap();
    assert!((10_000..20_000).contains(&usage.bytes) && usage.inodes == 2, "{usage:?}");
    node.unpublish(&request);

    // A copy has the whole tree.
    assert_eq!(node.publish(&writable(&bench.url(), &request.target, 0)).unwrap_err().kind(), Kind::ResourceExhausted);
    bench.node.assert_nothing_published();
}

pub(super) fn a_shared_layer_that_is_mounted_where_it_is_not_seen_is_refused(bench: &Bench) {
    let [one, two] = ["one", "two"].map(|pod| shared(&bench.url(), "volume", &bench.node.target(pod)));
    let (told, tell) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        let one = &one;
        scope.spawn(move || {
            namespace::private_mounts();
            bench.node.publish(one).unwrap();
            fs::write(one.target.join("written"), "there").unwrap();
            told.0.send(()).unwrap();
            tell.1.recv().unwrap();
            bench.node.unpublish(one);
            told.0.send(()).unwrap();
        });
        told.1.recv().unwrap();
        let error = bench.node.publish(&two).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        assert!(error.to_string().contains("another mount namespace"), "{error}");
        assert_eq!(bench.node.mounts_on(&two.target), 0);
        tell.0.send(()).unwrap();
        told.1.recv().unwrap();
    });
    bench.node.publish(&two).unwrap();
    bench.assert_shows(&two.target, &bench.commit);
    bench.node.unpublish(&two);
    bench.node.assert_nothing_published();
}

/// A store inside an overlay, such as that of a container, cannot keep layers.
#[test]
fn in_a_store_on_an_overlay_a_writable_volume_is_a_copy() {
    let Some(outer) = Bench::real() else { return };
    let outer_volume = private(&outer.url(), &outer.node.target("outer"), 0);
    outer.node.publish(&outer_volume).unwrap();
    let inside = outer_volume.target.join("inside");
    fs::create_dir(&inside).unwrap();
    {
        let mounter = std::sync::Arc::new(LinuxMounter::new(inside.join("store/mounting")));
        let node = gitrepo_tests::volumes::Node::new(
            &inside,
            super::config(outer.format),
            std::sync::Arc::clone(&outer.worker),
            mounter,
        );
        let request = private(&outer.url(), &node.target("pod"), 0);
        assert_eq!(node.publish(&request).unwrap().format, Format::Copy);
        outer.assert_shows(&request.target, &outer.commit);
        fs::write(request.target.join("new"), "").unwrap();
        assert_eq!(node.publish(&request).unwrap().outcome, Outcome::AlreadyPublished);
        let reader = read_only(&outer.url(), &node.target("reader"));
        node.publish(&reader).unwrap();
        assert_eq!((node.unpublish(&reader).mounts, node.unpublish(&request).mounts), (1, 1));
        node.assert_nothing_published();
    }
    outer.node.unpublish(&outer_volume);
}

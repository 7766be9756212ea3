//! Promises about overlays that only real mounts can test.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_tests::namespace;
use gitrepo_tests::process;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::unistd::Pid;
use nix::unistd::gettid;

use super::Bench;
use super::overlay_contract::layers;

type LinuxBench = Bench<LinuxMounter>;

fn attached(bench: &LinuxBench, name: &str) -> Mount {
    let mount = bench.overlay(name);
    bench.mounter.attach(&mount).unwrap();
    mount
}

fn assert_read_only(target: &Path) {
    for written in [fs::write(target.join("new"), ""), fs::write(target.join("canary"), "")] {
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "{}", target.display());
    }
}

pub(super) fn changes_go_to_the_upper_layer(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    let [lower, upper, _] = layers(&mount);
    fs::write(mount.target.join("canary"), "changed").unwrap();
    fs::write(mount.target.join("new"), "new").unwrap();
    fs::remove_dir(mount.target.join("directory/inner")).unwrap();
    assert_eq!(fs::read_to_string(lower.join("canary")).unwrap(), "alive");
    assert!(lower.join("directory/inner").is_dir() && !lower.join("new").exists());
    assert_eq!(fs::read_to_string(upper.join("canary")).unwrap(), "changed");

    bench.mounter.unmount(&mount.target).unwrap();
    bench.mounter.attach(&mount).unwrap();
    assert_eq!(fs::read_to_string(mount.target.join("canary")).unwrap(), "changed");
    assert!(mount.target.join("new").exists() && !mount.target.join("directory/inner").exists());
}

pub(super) fn the_root_has_the_owner_and_mode_of_the_upper_layer(bench: &LinuxBench) {
    let mount = bench.overlay("layer");
    let [_, upper, _] = layers(&mount);
    chown(&upper, Some(1000), Some(2000)).unwrap();
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o2775)).unwrap();
    bench.mounter.attach(&mount).unwrap();
    let found = fs::metadata(&mount.target).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1000, 2000, 0o2775));
}

pub(super) fn a_directory_of_the_lower_layer_is_renamed(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    fs::rename(mount.target.join("directory"), mount.target.join("renamed")).unwrap();
    assert!(mount.target.join("renamed/inner").is_dir() && !mount.target.join("directory").exists());
}

pub(super) fn a_change_of_owner_copies_no_data(bench: &LinuxBench) {
    let mount = bench.overlay("layer");
    let [lower, upper, _] = layers(&mount);
    fs::write(lower.join("large"), vec![1; 4 << 20]).unwrap();
    bench.mounter.attach(&mount).unwrap();
    chown(mount.target.join("large"), Some(1000), Some(2000)).unwrap();
    let shown = fs::metadata(mount.target.join("large")).unwrap();
    assert_eq!((shown.uid(), shown.gid(), shown.len()), (1000, 2000, 4 << 20));
    assert_eq!(fs::metadata(upper.join("large")).unwrap().blocks(), 0);
    assert_eq!(fs::read(mount.target.join("large")).unwrap(), vec![1; 4 << 20]);
    fs::write(mount.target.join("large"), "written").unwrap();
    assert_eq!(fs::read_to_string(mount.target.join("large")).unwrap(), "written");
}

pub(super) fn targets_of_one_layer_share_a_filesystem(bench: &LinuxBench) {
    let first = attached(bench, "layer");
    let second = Mount { target: bench.directory("second"), ..first.clone() };
    bench.mounter.attach(&second).unwrap();
    let device = |mount: &Mount| bench.mounts_on(&mount.target)[0].device.clone();
    assert_eq!(device(&first), device(&second));
    fs::write(second.target.join("new"), "by the second").unwrap();
    assert_eq!(fs::read_to_string(first.target.join("new")).unwrap(), "by the second");
    assert!(bench.mounter.shows(&first).unwrap() && bench.mounter.shows(&second).unwrap());

    assert_eq!(bench.mounter.unmount(&first.target).unwrap(), 1);
    fs::write(second.target.join("more"), "").unwrap();
    bench.mounter.attach(&first).unwrap();
    assert!(first.target.join("more").exists());
}

pub(super) fn many_threads_attach_one_layer_once(bench: &LinuxBench) {
    let mounts: Vec<_> = (0..20)
        .map(|number| Mount { target: bench.directory(format!("target-{number}")), ..bench.overlay("layer") })
        .collect();
    thread::scope(|scope| {
        for mount in &mounts {
            scope.spawn(|| bench.mounter.attach(mount).unwrap());
        }
    });
    let devices: Vec<_> = mounts.iter().map(|mount| bench.mounts_on(&mount.target)[0].device.clone()).collect();
    assert!(devices.iter().all(|device| *device == devices[0]), "{devices:?}");
}

pub(super) fn a_layer_in_use_in_another_mount_namespace_is_refused(bench: &LinuxBench) {
    let mount = bench.overlay("layer");
    let elsewhere = Mount { target: bench.directory("elsewhere"), ..mount.clone() };
    let (told, tell) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        scope.spawn(move || {
            namespace::private_mounts();
            bench.mounter.attach(&elsewhere).unwrap();
            told.0.send(()).unwrap();
            tell.1.recv().unwrap();
            bench.mounter.unmount(&elsewhere.target).unwrap();
            told.0.send(()).unwrap();
        });
        told.1.recv().unwrap();
        let error = bench.mounter.attach(&mount).unwrap_err();
        assert!(matches!(error, MountError::LayerInUse { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Busy);
        assert!(chain(&error).contains("another mount namespace"), "{}", chain(&error));
        assert_eq!(bench.mounts_on(&mount.target), []);
        tell.0.send(()).unwrap();
        told.1.recv().unwrap();
        bench.mounter.attach(&mount).unwrap();
    });
}

/// An overlay leaves the mount table before it leaves its layer.
pub(super) fn a_layer_that_another_is_just_leaving_is_mounted(bench: &LinuxBench) {
    let mount = bench.overlay("layer");
    let elsewhere = Mount { target: bench.directory("elsewhere"), ..mount.clone() };
    let (attached, waiting) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        scope.spawn(move || {
            namespace::private_mounts();
            bench.mounter.attach(&elsewhere).unwrap();
            attached.0.send(()).unwrap();
            let thread: Pid = waiting.1.recv().unwrap();
            while !process::sleeps(thread) {
                thread::yield_now();
            }
            bench.mounter.unmount(&elsewhere.target).unwrap();
        });
        attached.1.recv().unwrap();
        waiting.0.send(gettid()).unwrap();
        bench.mounter.attach(&mount).unwrap();
    });
    assert_eq!(bench.mounts_on(&mount.target).len(), 1);
}

/// As for a snapshot that was made again: the file handle of its root is another.
pub(super) fn a_layer_over_another_lower_one_than_before_is_mounted(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    fs::write(mount.target.join("new"), "kept").unwrap();
    chown(mount.target.join("canary"), Some(1000), None).unwrap();
    bench.mounter.unmount(&mount.target).unwrap();
    let [lower, _, _] = layers(&mount);
    fs::rename(&lower, bench.path("old")).unwrap();
    bench.overlay("layer");
    bench.mounter.attach(&mount).unwrap();
    assert_eq!(fs::read_to_string(mount.target.join("new")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(mount.target.join("canary")).unwrap(), "alive");
    let second = Mount { target: bench.directory("second"), ..mount.clone() };
    bench.mounter.attach(&second).unwrap();
    let device = |mount: &Mount| bench.mounts_on(&mount.target)[0].device.clone();
    assert_eq!(device(&mount), device(&second), "also without an index there is one overlay");
}

pub(super) fn a_read_only_overlay_is_never_writable(bench: &LinuxBench) {
    let attached = Mount { read_only: true, ..bench.overlay("layer") };
    bench.mounter.attach(&attached).unwrap();
    assert!(bench.mounter.shows(&attached).unwrap());
    assert_read_only(&attached.target);
    // A container runtime binds a volume again, writable.
    let inside = bench.directory("inside");
    let none = None::<&str>;
    mount(Some(&attached.target), &inside, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &inside, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
    assert_read_only(&inside);
}

pub(super) fn a_frozen_overlay_refuses_writes_on_all_targets(bench: &LinuxBench) {
    let first = attached(bench, "layer");
    let second = Mount { target: bench.directory("second"), ..first.clone() };
    bench.mounter.attach(&second).unwrap();
    let inside = bench.directory("inside");
    mount(Some(&first.target), &inside, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    bench.mounter.freeze(&second.target).unwrap();
    for target in [&first.target, &second.target, &inside] {
        assert_read_only(target);
        assert_eq!(fs::read_to_string(target.join("canary")).unwrap(), "alive");
    }
    // A third one joins what is frozen.
    let third = Mount { target: bench.directory("third"), read_only: true, ..first };
    bench.mounter.attach(&third).unwrap();
    assert!(bench.mounter.shows(&third).unwrap());
    assert_read_only(&third.target);
}

pub(super) fn an_overlay_with_a_file_open_for_writing_is_frozen_later(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    let open = File::create(mount.target.join("open")).unwrap();
    let error = bench.mounter.freeze(&mount.target).unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error}");
    assert!(chain(&error).contains("open for writing"), "{}", chain(&error));
    fs::write(mount.target.join("new"), "").unwrap();
    drop(open);
    bench.mounter.freeze(&mount.target).unwrap();
    assert_read_only(&mount.target);
}

pub(super) fn a_trial_says_whether_overlays_work_and_leaves_nothing_mounted(bench: &LinuxBench) {
    let place = bench.directory("trial");
    let before = bench.mounter.list().unwrap();
    bench.mounter.check_overlays(&place).unwrap();
    assert_eq!(bench.mounter.list().unwrap(), before);
    delete(&place);

    // An overlay is no place for the layers of another.
    let mount = attached(bench, "outer");
    let inside = mount.target.join("trial");
    fs::create_dir(&inside).unwrap();
    let error = bench.mounter.check_overlays(&inside).unwrap_err();
    assert!(matches!(error, MountError::NoOverlays { .. }), "{error}");
}

/// A directory of an overlay, as in a container, is not that overlay.
pub(super) fn a_directory_of_an_overlay_is_not_frozen(bench: &LinuxBench) {
    let outer = attached(bench, "outer");
    let inside = Mount::bind(outer.target.join("directory"), bench.directory("inside"), false);
    bench.mounter.attach(&inside).unwrap();
    for target in [&inside.target, &outer.target.join("directory")] {
        let error = bench.mounter.freeze(target).unwrap_err();
        assert!(matches!(error, MountError::Freeze { .. }), "{error}");
        fs::write(outer.target.join("canary"), "written").unwrap();
    }
}

/// The kernel reports success, and mounts it read-only.
pub(super) fn a_writable_overlay_on_a_full_disk_is_refused_and_mounted_once_there_is_room(bench: &LinuxBench) {
    // A directory of this filesystem takes an inode, and no block.
    let options = Some("nr_inodes=24");
    let disk = bench.directory("disk");
    nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), options).unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| disk.join(name));
    for layer in [&lower, &upper, &work] {
        fs::create_dir(layer).unwrap();
    }
    let attachment = Attachment::Overlay { lower, upper, work };
    let mount = Mount { attachment, target: bench.directory("target"), read_only: false };
    let mut fillers = Vec::new();
    for number in 0.. {
        let filler = disk.join(format!("filler-{number}"));
        let written = fs::write(&filler, vec![1; 4096]);
        fillers.push(filler);
        if written.is_err() {
            break;
        }
    }
    let error = bench.mounter.attach(&mount).unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted, "{}", chain(&error));
    assert_eq!(bench.mounts_on(&mount.target), []);
    bench.mounter.attach(&Mount { read_only: true, ..mount.clone() }).unwrap();
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);

    fillers.iter().filter(|filler| filler.exists()).for_each(|filler| fs::remove_file(filler).unwrap());
    bench.mounter.attach(&mount).unwrap();
    fs::write(mount.target.join("new"), "").unwrap();
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);
    assert_eq!(bench.mounter.unmount(&disk).unwrap(), 1);
}

/// fsconfig(2) takes no longer values.
pub(super) fn layers_with_paths_of_more_than_255_bytes_are_mounted(bench: &LinuxBench) {
    let long = format!("{0}/{0}", "d".repeat(200));
    fs::create_dir_all(bench.path(format!("overlay-{long}"))).unwrap();
    let mount = Mount { target: bench.directory("target"), ..bench.overlay(&long) };
    assert!(layers(&mount)[1].as_os_str().len() > 400);
    bench.mounter.attach(&mount).unwrap();
    assert!(bench.mounter.shows(&mount).unwrap());
    fs::write(mount.target.join("new"), "").unwrap();
    let second = Mount { target: bench.directory("second"), ..mount.clone() };
    bench.mounter.attach(&second).unwrap();
    assert!(second.target.join("new").exists());
    bench.mounter.freeze(&second.target).unwrap();
    assert_read_only(&mount.target);
}

pub(super) fn a_deleted_layer_is_not_shown(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    let [_, upper, _] = layers(&mount);
    fs::rename(upper, bench.path("gone")).unwrap();
    assert!(!bench.mounter.shows(&mount).unwrap());
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);
}

pub(super) fn nothing_is_left_in_the_working_directory(bench: &LinuxBench) {
    let mount = attached(bench, "layer");
    assert_eq!(entries(&bench.path("mounting")), [] as [PathBuf; 0]);
    let broken = Mount { target: bench.path("absent"), ..mount };
    bench.mounter.attach(&broken).unwrap_err();
    assert_eq!(entries(&bench.path("mounting")), [] as [PathBuf; 0]);
}

//! Promises of the fake and the real mounters about overlays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;

use super::Bench;

/// The directories of an overlay: lower, upper, work.
pub(super) fn layers(mount: &Mount) -> [PathBuf; 3] {
    let Attachment::Overlay { lower, upper, work } = &mount.attachment else { panic!("{mount:?}") };
    [lower, upper, work].map(PathBuf::clone)
}

pub(super) fn an_overlay_is_listed_with_its_flags_and_layers<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    bench.mounter.attach(&mount).unwrap();
    let mounts = bench.mounts_on(&mount.target);
    let [only] = mounts.as_slice() else { panic!("{mounts:?}") };
    let [lower, upper, _] = layers(&mount);
    assert_eq!((only.lower(), only.upper(), only.root.as_path()), (Some(lower), Some(upper), Path::new("/")));
    assert!(only.image().is_none() && !only.is_frozen() && !only.is_read_only());
    for flag in ["nosuid", "nodev"] {
        assert!(only.options.iter().any(|option| option == flag), "{flag} is not in {:?}", only.options);
    }
}

pub(super) fn a_mount_shows_exactly_its_layer<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("this");
    let other = Mount { attachment: bench.overlay("other").attachment, ..mount.clone() };
    let [lower, upper, _] = layers(&mount);
    let of_a_directory = Mount::bind(&upper, &mount.target, false);
    let shows = |mount: &Mount| bench.mounter.shows(mount).unwrap();

    assert!(!shows(&mount));
    bench.mounter.attach(&mount).unwrap();
    assert!(shows(&mount));
    let alone = Attachment::Overlay { lower: "/absent".into(), upper, work: "/absent".into() };
    assert!(shows(&Mount { attachment: alone, ..mount.clone() }), "the other directories are not compared");
    assert!(!shows(&other) && !shows(&of_a_directory) && !shows(&Mount::bind(lower, &mount.target, false)));
    assert!(!shows(&Mount { read_only: true, ..mount.clone() }));

    bench.mounter.attach(&mount).unwrap();
    assert!(!shows(&mount), "a publish leaves one mount, not two");
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 2);
    assert!(!shows(&mount));
    bench.mounter.attach(&of_a_directory).unwrap();
    assert!(!shows(&mount));
    let gone = Attachment::Overlay { lower: "/absent".into(), upper: bench.path("gone"), work: "/absent".into() };
    assert!(!shows(&Mount { attachment: gone, ..mount.clone() }));
    assert!(!shows(&Mount { target: bench.path("absent/target"), ..mount }));
}

pub(super) fn overlays_on_binds_are_all_unmounted<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    let bind = Mount { target: mount.target.clone(), ..bench.bind("bind", true) };
    for mount in [&bind, &mount, &bind] {
        bench.mounter.attach(mount).unwrap();
    }
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 3);
    assert_eq!(bench.mounts_on(&mount.target), []);
}

pub(super) fn layers_and_targets_must_be_directories<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    let [lower, upper, work] = layers(&mount);
    let file = lower.join("canary");
    let absent = bench.path("absent");
    for wrong in [&file, &absent] {
        let [lower, upper, work, wrong] = [&lower, &upper, &work, wrong].map(PathBuf::clone);
        for mount in [
            Mount { target: wrong.clone(), ..mount.clone() },
            with(&mount, [wrong.clone(), upper.clone(), work.clone()]),
            with(&mount, [lower.clone(), wrong.clone(), work.clone()]),
            with(&mount, [lower.clone(), upper.clone(), wrong.clone()]),
        ] {
            let error = bench.mounter.attach(&mount).unwrap_err();
            assert!(matches!(error, MountError::Directory { .. }), "{mount:?}: {error}");
            assert_eq!(error.kind(), Kind::FailedPrecondition);
        }
    }
    assert_eq!(bench.mounts_on(&mount.target), []);
}

fn with(mount: &Mount, [lower, upper, work]: [PathBuf; 3]) -> Mount {
    Mount { attachment: Attachment::Overlay { lower, upper, work }, ..mount.clone() }
}

pub(super) fn a_symlink_is_refused_and_nothing_mounted<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    let [lower, upper, work] = layers(&mount);
    let link = bench.path("link");
    symlink(bench.path("overlay-layer"), &link).unwrap();
    for layers in [
        [link.join("lower"), upper.clone(), work.clone()],
        [lower.clone(), link.join("upper"), work],
        [lower, upper, link.join("work")],
    ] {
        let error = bench.mounter.attach(&with(&mount, layers)).unwrap_err();
        assert!(matches!(error, MountError::Symlink { .. }), "{error}");
    }
    assert_eq!(bench.mounts_on(&mount.target), []);
}

pub(super) fn a_path_that_options_cannot_express_is_refused<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    let [lower, upper, work] = layers(&mount);
    for odd in ["a,upperdir=b", "a:b", r"a\b"] {
        let odd = bench.directory(odd);
        for layers in [
            [odd.clone(), upper.clone(), work.clone()],
            [lower.clone(), odd.clone(), work.clone()],
            [lower.clone(), upper.clone(), odd.clone()],
        ] {
            let error = bench.mounter.attach(&with(&mount, layers)).unwrap_err();
            assert!(matches!(&error, MountError::OverlayPath { path } if *path == odd), "{error}");
            assert_eq!(error.kind(), Kind::FailedPrecondition);
        }
    }
    assert_eq!(bench.mounts_on(&mount.target), []);
    // The target is no option.
    let target = bench.directory("with, : and \\ all");
    bench.mounter.attach(&Mount { target: target.clone(), ..mount }).unwrap();
    assert_eq!(bench.mounter.unmount(&target).unwrap(), 1);
}

pub(super) fn a_frozen_overlay_is_read_only_until_its_last_mount_is_gone<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("layer");
    bench.mounter.attach(&mount).unwrap();
    for _ in 0..2 {
        bench.mounter.freeze(&mount.target).unwrap();
        let [only] = &bench.mounts_on(&mount.target)[..] else { panic!("one mount") };
        assert!(only.is_frozen());
        assert!(!bench.mounter.shows(&mount).unwrap(), "it cannot be written");
        assert!(bench.mounter.shows(&Mount { read_only: true, ..mount.clone() }).unwrap());
    }
    let other = Mount { attachment: bench.overlay("other").attachment, read_only: true, ..mount.clone() };
    assert!(!bench.mounter.shows(&other).unwrap());
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);
    bench.mounter.attach(&mount).unwrap();
    assert!(bench.mounter.shows(&mount).unwrap());
    assert!(!bench.mounts_on(&mount.target)[0].is_frozen());
}

pub(super) fn only_an_overlay_is_frozen<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("bind", false);
    bench.mounter.attach(&bind).unwrap();
    for target in [&bench.directory("no mount"), &bind.target] {
        let error = bench.mounter.freeze(target).unwrap_err();
        assert!(matches!(error, MountError::Freeze { .. }), "{error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    }
    // The disk is not read-only.
    fs::write(bench.path("new"), "").unwrap();
    assert!(bench.mounter.shows(&bind).unwrap());
}

pub(super) fn a_sweep_leaves_overlays_alone<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.overlay("kept");
    bench.mounter.attach(&mount).unwrap();
    assert_eq!(bench.mounter.sweep().unwrap(), 0);
    assert!(bench.mounter.shows(&mount).unwrap());
    assert!(fs::exists(layers(&mount)[1].as_path()).unwrap());
}

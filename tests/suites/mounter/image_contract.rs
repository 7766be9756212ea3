//! Promises of the fake and the real mounters about images.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;

use super::Bench;

pub(super) fn an_image_is_listed_with_its_flags<M: Mounter>(bench: &Bench<M>) {
    let image = bench.image("image");
    let mount = image.mount(bench.directory("target"));
    bench.mounter.attach(&mount).unwrap();

    let mounts = bench.mounts_on(&mount.target);
    let [only] = mounts.as_slice() else { panic!("{mounts:?}") };
    assert_eq!((only.image(), only.root.as_path()), (Some(&*image.metadata), Path::new("/")));
    for (flag, is_set) in [("ro", true), ("nosuid", true), ("nodev", true), ("noexec", false)] {
        assert_eq!(only.options.iter().any(|option| option == flag), is_set, "{flag} in {:?}", only.options);
    }
}

pub(super) fn a_mount_shows_exactly_its_image<M: Mounter>(bench: &Bench<M>) {
    let image = bench.image("this");
    let mount = image.mount(bench.directory("target"));
    let other = bench.image("other").mount(&mount.target);
    let of_a_directory = Mount::bind(bench.path("this"), &mount.target, true);
    let shows = |mount: &Mount| bench.mounter.shows(mount).unwrap();

    assert!(!shows(&mount));
    bench.mounter.attach(&mount).unwrap();
    assert!(shows(&mount));
    assert!(shows(&Mount::image(&image.metadata, Vec::new(), &mount.target)), "its devices are not compared");
    assert!(!shows(&other) && !shows(&of_a_directory));
    assert!(!shows(&Mount { read_only: false, ..mount.clone() }));

    bench.mounter.attach(&mount).unwrap();
    assert!(!shows(&mount), "a publish leaves one layer, not two");

    bench.mounter.unmount(&mount.target).unwrap();
    assert!(!shows(&mount));
    bench.mounter.attach(&of_a_directory).unwrap();
    assert!(!shows(&mount));
    assert!(!shows(&Mount::image(bench.path("absent"), Vec::new(), &mount.target)));
    assert!(!shows(&Mount { target: bench.path("absent/target"), ..mount }));
}

pub(super) fn targets_of_one_image_share_a_filesystem<M: Mounter>(bench: &Bench<M>) {
    let (image, other) = (bench.image("image"), bench.image("other"));
    let device = |mount: Mount| {
        bench.mounter.attach(&mount).unwrap();
        assert!(bench.mounter.shows(&mount).unwrap());
        bench.mounts_on(&mount.target)[0].device.clone()
    };
    let first = device(image.mount(bench.directory("first")));
    let theirs = device(other.mount(bench.directory("theirs")));
    assert_ne!(first, theirs);
    assert_eq!(device(image.mount(bench.directory("second"))), first);

    // The filesystem stays as long as a target shows it, whichever that is.
    bench.mounter.unmount(&bench.path("first")).unwrap();
    assert_eq!(device(image.mount(bench.directory("third"))), first);
    for target in ["second", "third", "theirs"] {
        assert_eq!(bench.mounter.unmount(&bench.path(target)).unwrap(), 1);
    }
}

pub(super) fn many_threads_attach_one_image_once<M: Mounter>(bench: &Bench<M>) {
    let image = bench.image("image");
    let mount = |number: usize| image.mount(bench.path(format!("target-{number}")));
    thread::scope(|scope| {
        for number in 0..50 {
            let mount = mount(number);
            scope.spawn(move || {
                fs::create_dir(&mount.target).unwrap();
                bench.mounter.attach(&mount).unwrap();
                assert!(bench.mounter.shows(&mount).unwrap());
            });
        }
    });
    let mounts = bench.mounter.list().unwrap();
    let devices: Vec<_> =
        mounts.iter().filter(|mount| mount.image() == Some(&image.metadata)).map(|mount| &mount.device).collect();
    assert_eq!((devices.len(), BTreeSet::from_iter(devices).len()), (50, 1));
    thread::scope(|scope| {
        for number in 0..50 {
            let target = mount(number).target;
            scope.spawn(move || assert_eq!(bench.mounter.unmount(&target).unwrap(), 1));
        }
    });
    assert!(!bench.mounter.list().unwrap().iter().any(|mount| mount.image() == Some(&image.metadata)));
}

pub(super) fn images_on_images_and_binds_are_all_unmounted<M: Mounter>(bench: &Bench<M>) {
    let bind = bench.bind("stacked", true);
    let image = bench.image("image").mount(&bind.target);
    for mount in [&image, &bind, &image, &image] {
        bench.mounter.attach(mount).unwrap();
    }
    assert_eq!(bench.mounts_on(&bind.target).len(), 4);
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 4);
    assert_eq!(bench.mounts_on(&bind.target), []);
}

pub(super) fn an_image_is_never_writable<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.image("image").mount(bench.directory("target"));
    let error = bench.mounter.attach(&Mount { read_only: false, ..mount.clone() }).unwrap_err();
    assert!(matches!(error, MountError::WritableImage { .. }), "{error}");
    assert_eq!(error.kind(), Kind::InvalidRequest);
    assert_eq!(bench.mounts_on(&mount.target), []);
}

pub(super) fn images_and_devices_must_be_files<M: Mounter>(bench: &Bench<M>) {
    let image = bench.image("image");
    let target = bench.directory("target");
    let with = |metadata: &Path, device: &Path| {
        Mount::image(metadata, vec![image.devices[0].clone(), device.to_owned()], &target)
    };
    let [first, second] = [&image.devices[0], &image.devices[1]];
    let relative = PathBuf::from("image/image");
    for (mount, kind) in [
        (with(&target, second), Kind::FailedPrecondition),
        (with(&bench.path("absent"), second), Kind::FailedPrecondition),
        (with(&relative, second), Kind::InvalidRequest),
        (with(&image.metadata, &target), Kind::FailedPrecondition),
        (with(&image.metadata, &bench.path("absent")), Kind::Corrupt),
        (with(&image.metadata, &first.join("below")), Kind::Corrupt),
        (with(&image.metadata, &relative), Kind::InvalidRequest),
        (with(&image.metadata, &bench.path("image/../image/device-0001")), Kind::InvalidRequest),
        (Mount { target: image.metadata.clone(), ..with(&image.metadata, second) }, Kind::FailedPrecondition),
    ] {
        let error = bench.mounter.attach(&mount).unwrap_err();
        assert_eq!(error.kind(), kind, "{mount:?}: {error}");
    }
    assert_eq!(bench.mounts_on(&target), []);
}

pub(super) fn a_symlink_is_refused_and_nothing_mounted<M: Mounter>(bench: &Bench<M>) {
    let image = bench.image("image");
    let target = bench.directory("target");
    symlink("image", bench.path("link")).unwrap();
    symlink(&image.metadata, bench.path("to-image")).unwrap();
    symlink(&image.devices[1], bench.path("to-device")).unwrap();
    let with = |metadata: &Path, device: &Path| {
        Mount::image(metadata, vec![image.devices[0].clone(), device.to_owned()], &target)
    };
    let second = &image.devices[1];
    for mount in [
        with(&bench.path("to-image"), second),
        with(&bench.path("link/image"), second),
        with(&image.metadata, &bench.path("to-device")),
        with(&image.metadata, &bench.path("link/device-0001")),
    ] {
        let error = bench.mounter.attach(&mount).unwrap_err();
        assert!(matches!(error, MountError::Symlink { .. }), "{mount:?}: {error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
    }
    assert_eq!(bench.mounts_on(&target), []);
}

pub(super) fn a_sweep_leaves_images_alone<M: Mounter>(bench: &Bench<M>) {
    let mount = bench.image("image").mount(bench.directory("target"));
    bench.mounter.attach(&mount).unwrap();
    assert_eq!(bench.mounter.sweep().unwrap(), 0);
    assert!(bench.mounter.shows(&mount).unwrap());
    assert!(matches!(mount.attachment, Attachment::Image { .. }));
}

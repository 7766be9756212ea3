//! Promises about images that only real mounts can test.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::mount::Mount;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_tests::images;
use gitrepo_tests::images::Image;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;

use super::Bench;
use super::loop_devices_below;

type LinuxBench = Bench<LinuxMounter>;

/// An image with this seed, mounted on a target of the same name.
fn attached(bench: &LinuxBench, name: &str, seed: u8) -> (Image, Mount) {
    let image = Image::write(&bench.path(name), 2, seed);
    let mount = image.mount(bench.directory(format!("target-{name}")));
    bench.mounter.attach(&mount).unwrap();
    (image, mount)
}

fn assert_readable(target: &Path, seed: u8) {
    for number in 0..2 {
        let content = fs::read_to_string(target.join(images::name(number))).unwrap();
        assert_eq!(content, images::content(number, seed));
    }
}

pub(super) fn each_file_is_read_from_its_device(bench: &LinuxBench) {
    let (_image, mount) = attached(bench, "image", 7);
    let mut names: Vec<_> = fs::read_dir(&mount.target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [images::name(0), images::name(1)].map(std::ffi::OsString::from));
    assert_readable(&mount.target, 7);
}

/// A container runtime binds a volume again, writable: promise 6.
pub(super) fn not_even_a_remount_makes_an_image_writable(bench: &LinuxBench) {
    let (_image, attached) = attached(bench, "image", 7);
    let inside = bench.directory("inside");
    let none = None::<&str>;
    mount(Some(&attached.target), &inside, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &inside, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
    let options = &bench.mounts_on(&inside)[0].options;
    assert!(options.iter().any(|option| option == "rw"), "the flag of the mount is gone: {options:?}");
    for target in [&inside, &attached.target] {
        let error = fs::write(target.join(images::name(0)), "changed").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
    assert_readable(&inside, 7);
    assert!(!bench.mounter.shows(&Mount { target: inside, ..attached }).unwrap(), "nor is it what was asked for");
}

pub(super) fn readers_keep_the_tree_after_a_lazy_unmount(bench: &LinuxBench) {
    let (image, mount) = attached(bench, "image", 7);
    let mut open = File::open(mount.target.join(images::name(0))).unwrap();
    let directory = File::open(&mount.target).unwrap();
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);
    assert_eq!(bench.mounts_on(&mount.target), []);
    image.remove();

    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, images::content(0, 7));
    let inside = format!("/proc/self/fd/{}", directory.as_raw_fd());
    assert_readable(Path::new(&inside), 7);

    drop((open, directory));
    wait_for_loop_devices(bench, 0);
}

/// Waits until this many loop devices have a file of the bench. The kernel frees them a little later than their last
/// user, and announces it nowhere.
pub(super) fn wait_for_loop_devices(bench: &LinuxBench, count: usize) {
    let start = Instant::now();
    while loop_devices_below(&bench.home).len() != count {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", loop_devices_below(&bench.home));
        thread::yield_now();
    }
}

pub(super) fn nothing_is_left_after_the_last_unmount(bench: &LinuxBench) {
    let (image, first) = attached(bench, "image", 7);
    let second = image.mount(bench.directory("second"));
    bench.mounter.attach(&second).unwrap();
    assert_eq!(device_of(&first.target), device_of(&second.target));
    let devices = loop_devices_below(&bench.home).len();
    assert!(devices == 0 || devices == 3, "one for the image and one for each device: {devices}");

    bench.mounter.unmount(&first.target).unwrap();
    assert_readable(&second.target, 7);
    bench.mounter.unmount(&second.target).unwrap();
    wait_for_loop_devices(bench, 0);
}

fn device_of(target: &Path) -> u64 {
    target.metadata().unwrap().dev()
}

pub(super) fn a_covered_mount_is_not_shared(bench: &LinuxBench) {
    let (image, first) = attached(bench, "image", 7);
    let bind = Mount { target: first.target, ..bench.bind("cover", true) };
    bench.mounter.attach(&bind).unwrap();
    let second = image.mount(bench.directory("second"));
    bench.mounter.attach(&second).unwrap();
    assert_readable(&second.target, 7);
    assert!(bench.mounter.shows(&second).unwrap());
    // A directory of the image, as for a container's subPath, is not a mount of the image either.
    let part = bench.directory("part");
    let whole = image.mount(&part);
    bench.mounter.attach(&bench.image("covered").mount(&part)).unwrap();
    assert!(!bench.mounter.shows(&whole).unwrap());
}

pub(super) fn a_mount_with_other_flags_is_not_shared(bench: &LinuxBench) {
    let (image, first) = attached(bench, "image", 7);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC;
    mount(None::<&str>, &first.target, None::<&str>, flags, None::<&str>).unwrap();
    let second = image.mount(bench.directory("second"));
    bench.mounter.attach(&second).unwrap();
    let options = &bench.mounts_on(&second.target)[0].options;
    for (flag, is_set) in [("ro", true), ("nosuid", true), ("nodev", true), ("noexec", false)] {
        assert_eq!(options.iter().any(|option| option == flag), is_set, "{flag} in {options:?}");
    }
}

pub(super) fn a_new_image_at_an_old_path_is_neither_shown_nor_shared(bench: &LinuxBench) {
    let (image, old) = attached(bench, "image", 7);
    image.remove();
    assert!(!bench.mounter.shows(&old).unwrap());
    let renewed = Image::write(&bench.path("image"), 2, 8);
    assert_eq!(renewed.metadata, image.metadata);
    assert!(!bench.mounter.shows(&old).unwrap(), "a new image of the same name is not the attached one");

    let new = renewed.mount(bench.directory("new"));
    bench.mounter.attach(&new).unwrap();
    assert!(bench.mounter.shows(&new).unwrap());
    assert_ne!(device_of(&old.target), device_of(&new.target));
    assert_readable(&old.target, 7);
    assert_readable(&new.target, 8);
}

/// A driver in a container may see the store elsewhere than a driver on the host.
pub(super) fn an_image_is_shown_wherever_its_store_is_mounted(bench: &LinuxBench) {
    let store = bench.directory("host/store");
    let snapshot = Path::new("snapshots").join("a".repeat(64));
    let image = Image::write(&store.join(&snapshot), 2, 7);
    let here = image.mount(bench.directory("target"));
    bench.mounter.attach(&here).unwrap();

    // The same store, on another path.
    let elsewhere = bench.directory("elsewhere");
    mount(Some(&store), &elsewhere, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let there = Mount::image(elsewhere.join(&snapshot).join("image"), Vec::new(), &here.target);
    assert!(bench.mounter.shows(&there).unwrap());

    // And where the first path does not exist.
    let hidden = bench.path("host");
    mount(Some("tmpfs"), &hidden, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert!(bench.mounter.shows(&there).unwrap());
    let other = Image::write(&elsewhere.join("snapshots").join("b".repeat(64)), 2, 7);
    assert!(!bench.mounter.shows(&other.mount(&here.target)).unwrap());
    umount2(&hidden, MntFlags::MNT_DETACH).unwrap();
}

pub(super) fn nothing_is_left_in_the_working_directory(bench: &LinuxBench) {
    let (image, mount) = attached(bench, "image", 7);
    bench.mounter.attach(&image.mount(bench.directory("second"))).unwrap();
    let workdir = bench.path("mounting");
    assert_eq!(workdir.exists(), bench.mounter.strategy() == Strategy::PrivateDirectory);
    if workdir.exists() {
        assert_eq!(fs::read_dir(&workdir).unwrap().count(), 0);
    }
    let mounts = bench.mounter.list().unwrap();
    assert!(!mounts.iter().any(|mount| mount.target.starts_with(&workdir)), "{mounts:?}");
    assert_eq!(bench.mounts_on(&mount.target).len(), 1);
}

//! Images with the wrong devices, and with many.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_tests::images;
use gitrepo_tests::images::Image;
use gitrepo_tests::require;
use nix::mount::MsFlags;

use super::Bench;
use super::files;
use super::image_kernel::wait_for_loop_devices;
use super::linux::hide_calls;
use super::loop_devices_below;

type LinuxBench = Bench<LinuxMounter>;

/// The kernel would take an image without any device, and fail to read its files.
pub(super) fn a_wrong_number_of_devices_is_refused(bench: &LinuxBench) {
    let image = bench.image("image");
    let target = bench.directory("target");
    let device = &image.devices[0];
    for given in [0, 1, 3] {
        let mount = Mount::image(&image.metadata, vec![device.clone(); given], &target);
        let error = bench.mounter.attach(&mount).unwrap_err();
        assert!(error.to_string().ends_with(&format!("made for 2 devices, and {given} are given")), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
    }
    assert_eq!(bench.mounts_on(&target), []);
}

pub(super) fn a_device_that_was_cut_off_is_refused(bench: &LinuxBench) {
    let image = bench.image("image");
    let mount = image.mount(bench.directory("target"));
    let device = File::options().write(true).open(&image.devices[1]).unwrap();
    let length = device.metadata().unwrap().len();
    for shorter in [length - 1, 0] {
        device.set_len(shorter).unwrap();
        let error = bench.mounter.attach(&mount).unwrap_err();
        let MountError::ShortDevice { device, length: found, listed, .. } = &error else { panic!("{error}") };
        assert_eq!((device, *found, *listed), (&image.devices[1], shorter, length));
        assert_eq!(error.kind(), Kind::Corrupt);
    }
    // So is an image whose device table is missing.
    let metadata = File::options().write(true).open(&image.metadata).unwrap();
    metadata.set_len(1200).unwrap();
    assert_eq!(bench.mounter.attach(&mount).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(bench.mounts_on(&mount.target), []);
    wait_for_loop_devices(bench, 0);
}

pub(super) fn reads_beyond_the_end_of_a_device_fail(bench: &LinuxBench) {
    let image = bench.image("image");
    let mount = image.mount(bench.directory("target"));
    bench.mounter.attach(&mount).unwrap();
    File::options().write(true).open(&image.devices[1]).unwrap().set_len(0).unwrap();

    let error = fs::read(mount.target.join(images::name(1))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    fs::read(mount.target.join(images::name(0))).unwrap();
    assert_eq!(bench.mounter.unmount(&mount.target).unwrap(), 1);
}

pub(super) fn an_error_has_the_words_of_the_kernel(bench: &LinuxBench) {
    let image = bench.image("image");
    let mount = image.mount(bench.directory("target"));
    if !require::feature(File::open("/dev/kmsg").is_ok(), "/dev/kmsg") {
        return;
    }
    // The upper byte of the features that a kernel must know.
    image.overwrite(images::SUPERBLOCK + 83, &[0x40]);
    let error = bench.mounter.attach(&mount).unwrap_err();
    let text = chain(&error);
    for part in ["the kernel says", "unidentified incompatible feature", "Invalid argument"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.starts_with(&format!("cannot mount {:?} at {:?} (", image.metadata, mount.target)), "{text}");

    fs::write(&image.metadata, "no image").unwrap();
    let text = chain(&bench.mounter.attach(&mount).unwrap_err());
    assert!(text.contains("the kernel says"), "{text}");
    assert_eq!(bench.mounts_on(&mount.target), []);
    wait_for_loop_devices(bench, 0);
}

pub(super) fn a_hundred_devices_are_mounted(bench: &LinuxBench) {
    assert_many_are_mounted(bench, 120);
    let loop_devices = loop_devices_below(&bench.home).len();
    assert!(loop_devices == 0 || loop_devices == 121, "{loop_devices}");
    bench.mounter.unmount(&bench.path("target")).unwrap();
    wait_for_loop_devices(bench, 0);
}

fn assert_many_are_mounted(bench: &LinuxBench, count: u16) {
    let image = Image::write(&bench.path("many"), count, 9);
    let mount = image.mount(bench.directory("target"));
    bench.mounter.attach(&mount).unwrap();
    assert_readable(&mount.target, count);
}

fn assert_readable(target: &Path, count: u16) {
    for number in 0..usize::from(count) {
        let content = fs::read_to_string(target.join(images::name(number))).unwrap();
        assert_eq!(content, images::content(number, 9));
    }
}

/// More than a process may have open, and than the options of mount(2) can name.
#[test]
fn thousands_of_devices_are_mounted() {
    for strategy in [Strategy::Detached, Strategy::PrivateDirectory] {
        let Some(bench) = files(strategy, MsFlags::MS_SHARED) else { return };
        assert_many_are_mounted(&bench, 2000);
    }
}

#[test]
fn too_many_devices_for_an_old_kernel_are_refused() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let Some(bench) = files(Strategy::PrivateDirectory, MsFlags::MS_SHARED) else { return };
        let many = Image::write(&bench.path("many"), 200, 9).mount(bench.directory("target"));
        let few = Image::write(&bench.path("few"), 100, 9).mount(bench.directory("target-few"));
        thread::scope(|scope| {
            scope.spawn(|| {
                hide_calls(&[libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_move_mount], errno);
                bench.mounter.attach(&few).unwrap();
                assert_readable(&few.target, 100);
                let error = bench.mounter.attach(&many).unwrap_err();
                assert!(chain(&error).contains("too many devices for mount(2)"), "{}", chain(&error));
                assert_eq!(error.kind(), Kind::FailedPrecondition);
            });
        });
        assert_eq!(bench.mounts_on(&many.target), []);
    }
}

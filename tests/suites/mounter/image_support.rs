//! Whether images can be mounted, and how: the trial says what happens.

use std::fs;
use std::thread;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::Backing;
use gitrepo_core::mount::linux::ImageSupport;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use nix::mount::MsFlags;
use nix::mount::mount;

use super::Bench;
use super::files;
use super::image_kernel::wait_for_loop_devices;
use super::linux::hide_calls;
use super::linux::hide_newer_calls;
use super::linux::refuse_control;
use super::loop_devices;

const STRATEGIES: [Strategy; 2] = [Strategy::Detached, Strategy::PrivateDirectory];

fn assert_nothing_is_left(bench: &Bench<LinuxMounter>) {
    let left: Vec<_> = fs::read_dir(&bench.home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "mounting"), "{left:?}");
    let mounts = bench.mounter.list().unwrap();
    let left: Vec<_> =
        mounts.iter().filter(|mount| mount.target != bench.home && mount.target.starts_with(&bench.home)).collect();
    assert!(left.is_empty(), "{left:?}");
    wait_for_loop_devices(bench, 0);
}

#[test]
fn a_disk_takes_images_from_files_and_a_tmpfs_from_loop_devices() {
    for strategy in STRATEGIES {
        for (bench, backing) in [
            (files(strategy, MsFlags::MS_SHARED), Backing::Files),
            (loop_devices(strategy, MsFlags::MS_SHARED), Backing::LoopDevices),
        ] {
            let Some(bench) = bench else { continue };
            let support = bench.mounter.image_support(&bench.home).unwrap();
            assert_eq!(support, ImageSupport { backing, block_size: 512 });
            assert_nothing_is_left(&bench);
        }
    }
}

#[test]
fn an_overlay_takes_images_from_loop_devices() {
    let Some(bench) = loop_devices(Strategy::of_this_kernel(), MsFlags::MS_PRIVATE) else { return };
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| bench.directory(name));
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
    assert_eq!(bench.mounter.image_support(&merged).unwrap().backing, Backing::LoopDevices);
    let mount = bench.image("merged/image").mount(bench.directory("target"));
    bench.mounter.attach(&mount).unwrap();
    assert!(bench.mounter.shows(&mount).unwrap());
}

/// A container without the host's `/dev`.
#[test]
fn without_loop_devices_the_reason_is_given() {
    for strategy in STRATEGIES {
        let Some(bench) = loop_devices(strategy, MsFlags::MS_SHARED) else { return };
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let error = bench.mounter.image_support(&bench.home).unwrap_err();
        nix::mount::umount("/dev").unwrap();
        let text = chain(&error);
        let start = format!("images in {:?} cannot be mounted (attach loop devices,", bench.home);
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("/dev/loop-control; a container needs the host's /dev: No such file"), "{text}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert_nothing_is_left(&bench);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let Some(bench) = loop_devices(Strategy::of_this_kernel(), MsFlags::MS_PRIVATE) else { return };
    for wrong in [bench.path("absent"), "relative".into(), "/proc".into()] {
        let error = bench.mounter.image_support(&wrong).unwrap_err();
        assert!(matches!(error.kind(), Kind::FailedPrecondition | Kind::InvalidRequest), "{}", chain(&error));
    }
}

/// Old kernels, and containers whose filter hides the newer calls.
#[test]
fn images_are_mounted_with_the_calls_of_old_kernels() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        for bench in [files, loop_devices].map(|make| make(Strategy::PrivateDirectory, MsFlags::MS_SHARED)) {
            let Some(bench) = bench else { continue };
            let mount = bench.image("image").mount(bench.directory("target"));
            let second = gitrepo_core::mount::Mount { target: bench.directory("second"), ..mount.clone() };
            thread::scope(|scope| {
                scope.spawn(|| {
                    hide_newer_calls(errno);
                    hide_calls(&[libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick], errno);
                    let mounter = LinuxMounter::new(bench.path("mounting"));
                    assert_eq!(mounter.strategy(), Strategy::PrivateDirectory);
                    mounter.image_support(&bench.home).unwrap();
                    for mount in [&mount, &second] {
                        mounter.attach(mount).unwrap();
                        assert!(mounter.shows(mount).unwrap());
                    }
                    assert_eq!(bench.mounts_on(&mount.target)[0].device, bench.mounts_on(&second.target)[0].device);
                    for mount in [&mount, &second] {
                        assert_eq!(mounter.unmount(&mount.target).unwrap(), 1);
                    }
                    wait_for_loop_devices(&bench, 0);
                });
            });
        }
    }
}

/// Before Linux 5.8, a loop device is set up in two calls.
#[test]
fn loop_devices_are_set_up_with_the_calls_of_old_kernels() {
    const LOOP_CONFIGURE: u64 = 0x4c0a;
    const LOOP_SET_STATUS64: u64 = 0x4c04;
    let Some(bench) = loop_devices(Strategy::of_this_kernel(), MsFlags::MS_PRIVATE) else { return };
    let mount = bench.image("image").mount(bench.directory("target"));
    thread::scope(|scope| {
        scope.spawn(|| {
            refuse_control(LOOP_CONFIGURE, libc::EINVAL);
            bench.mounter.attach(&mount).unwrap();
            assert!(bench.mounter.shows(&mount).unwrap());
            bench.mounter.unmount(&mount.target).unwrap();
            wait_for_loop_devices(&bench, 0);

            // A device that cannot be set up is given back.
            refuse_control(LOOP_SET_STATUS64, libc::ENOMEM);
            let error = bench.mounter.attach(&mount).unwrap_err();
            assert!(chain(&error).contains("cannot set up /dev/loop"), "{}", chain(&error));
            wait_for_loop_devices(&bench, 0);
        });
    });
}

//! A process is killed while it attaches an image: neither a mount that nobody sees nor a loop device is left.

use std::fs;
use std::thread;
use std::time::Duration;

use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;

use super::Bench;
use super::image_kernel::wait_for_loop_devices;
use super::killed;

type LinuxBench = Bench<LinuxMounter>;

pub(super) fn nothing_is_left_of_a_killed_process(bench: &LinuxBench) {
    let image = bench.image("killed");
    let mount = image.mount(bench.directory("target"));
    let workdir = bench.path("mounting");
    let (mut swept, mut mounted) = (0, 0);
    for round in 0..40 {
        let mut child = killed::start("image_kills::attach_until_killed", &bench.home, bench.mounter.strategy());
        // This only chooses another moment in each round; nothing depends on what is done by then.
        thread::sleep(Duration::from_micros(round * 97 % 2000));
        child.kill().unwrap();
        child.wait().unwrap();

        swept += bench.mounter.sweep().unwrap();
        let mounts = bench.mounter.list().unwrap();
        let images: Vec<_> = mounts.iter().filter(|mount| mount.image() == Some(&image.metadata)).collect();
        assert!(images.iter().all(|only| only.target == mount.target && only.is_read_only()), "{images:?}");
        mounted += bench.mounter.unmount(&mount.target).unwrap();
        wait_for_loop_devices(bench, 0);
        assert!(!workdir.exists() || fs::read_dir(&workdir).unwrap().count() == 0);

        // The lock of an image ends with its holder, too.
        bench.mounter.attach(&mount).unwrap();
        bench.mounter.unmount(&mount.target).unwrap();
    }
    wait_for_loop_devices(bench, 0);
    assert!(mounted < 40, "no kill interrupted an attach");
    assert!(swept > 0 || bench.mounter.strategy() == Strategy::Detached, "no kill left anything to sweep");
}

#[test]
#[ignore = "not a test: the program of the process to be killed"]
fn attach_until_killed() {
    let Some((home, mounter)) = killed::started() else { return };
    let devices = (0..2).map(|number| home.join(format!("killed/device-{number:04}"))).collect();
    let mount = gitrepo_core::mount::Mount::image(home.join("killed/image"), devices, home.join("target"));
    killed::is_ready();
    loop {
        mounter.attach(&mount).unwrap();
        mounter.unmount(&mount.target).unwrap();
    }
}

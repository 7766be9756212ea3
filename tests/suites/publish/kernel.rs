//! Promises that only real mounts can test.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::read_only;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;

use super::Bench;

#[test]
fn root_can_never_write_not_even_when_the_mount_has_just_appeared() {
    let Some(shell) = Shell::new(64 << 20) else { return };
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let target = shell.target("pod");
    fs::create_dir(&target).unwrap();
    for _ in 0..5 {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers = [(); 2].map(|()| scope.spawn(|| write_until_refused(&target.join("README.md"), &ended)));
            let outcome = shell.mount(&server.url(&repository), &target, &[]);
            ended.store(true, Ordering::SeqCst);
            for writer in writers {
                assert_eq!(writer.join().unwrap(), Ok(()), "{outcome:?}");
            }
            outcome.assert_success();
        });
        assert_eq!(fs::create_dir(target.join("new")).unwrap_err().raw_os_error(), Some(libc::EROFS));
        assert_same_tree(&repository, &commit, ".", &target);
        shell.unmount(&target).assert_success();
    }
}

/// Tries to open a file of the volume for writing, from before the mount until the attempt is refused.
fn write_until_refused(file: &Path, ended: &AtomicBool) -> Result<(), &'static str> {
    loop {
        let last = ended.load(Ordering::SeqCst);
        match File::options().append(true).open(file) {
            Ok(_) => return Err("the volume was open for writing"),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !last => {}
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => return Ok(()),
            Err(_) => return Err("the volume was not there"),
        }
    }
}

#[test]
fn s17_the_next_publish_detects_changes_by_a_privileged_pod() {
    let Some(bench) = Bench::real() else { return };
    let [pod, other] = ["pod", "other"].map(|pod| read_only(&bench.url(), &bench.node.target(pod)));
    bench.node.publish(&pod).unwrap();
    // A runtime binds the tree into the container with another mount, whose flags the container's root may change.
    let inside = bench.home.join("inside");
    fs::create_dir(&inside).unwrap();
    let none = None::<&str>;
    mount(Some(&pod.target), &inside, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &inside, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
    let file = inside.join("README.md");
    let times = fs::metadata(&file).unwrap();
    fs::write(&file, "# Evil..\n").unwrap();
    let times = fs::FileTimes::new().set_modified(times.modified().unwrap()).set_accessed(times.accessed().unwrap());
    File::options().write(true).open(&file).unwrap().set_times(times).unwrap();

    bench.node.publish(&other).unwrap();
    bench.assert_shows(&other.target, &bench.commit);
    assert_eq!(fs::read(&file).unwrap(), b"# Evil..\n", "the pod keeps its tree");
    assert_eq!(fs::read(pod.target.join("README.md")).unwrap(), b"# Evil..\n");
    // A child that another test is starting may have a copy of an open file.
    umount2(&inside, MntFlags::MNT_DETACH).unwrap();
    for request in [&pod, &other] {
        assert_eq!(bench.node.unpublish(request).mounts, 1);
    }
    bench.node.assert_nothing_published();
}

#[test]
fn a_volume_in_use_is_unpublished_in_time() {
    let Some(bench) = Bench::real() else { return };
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    let mut open = File::open(request.target.join("README.md")).unwrap();
    // Its working directory is in the volume until its standard input ends.
    let mut inside = std::process::Command::new("cat");
    let mut inside = inside.current_dir(request.target.join("a")).stdin(Stdio::piped()).spawn().unwrap();

    let begin = Instant::now();
    assert_eq!(bench.node.unpublish(&request).mounts, 1);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    bench.node.assert_nothing_published();

    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "# Second\n", "processes that have the tree open keep it");
    drop(inside.stdin.take());
    assert!(inside.wait().unwrap().success());
}

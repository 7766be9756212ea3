//! Promises that only real mounts can test.

use std::env;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::mount::Attachment;
use gitrepo_core::mount::Mount;
use gitrepo_core::mount::MountError;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use gitrepo_tests::require;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::RenameFlags;
use nix::fcntl::renameat2;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::makedev;
use nix::sys::stat::mknod;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;

use super::Bench;

type LinuxBench = Bench<LinuxMounter>;

/// Ends the loops of other threads even if the test fails: otherwise the scope would wait forever.
#[derive(Default)]
struct Done(AtomicBool);

struct SetDone<'a>(&'a Done);

impl Done {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it when the returned guard is dropped.
    fn at_the_end(&self) -> SetDone<'_> {
        SetDone(self)
    }
}

impl Drop for SetDone<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn a_bind_shows_the_source_without_mounts_below_it(bench: &LinuxBench) {
    let bind = bench.bind("outer", true);
    let below = bench.directory("source-outer/below");
    let inner = Mount { target: below, ..bench.bind("inner", true) };
    bench.mounter.attach(&inner).unwrap();
    bench.mounter.attach(&bind).unwrap();

    assert_eq!(fs::read(bind.target.join("canary")).unwrap(), b"alive");
    assert_eq!(fs::read_dir(bind.target.join("below")).unwrap().count(), 0);
}

pub(super) fn root_cannot_write_through_a_read_only_bind(bench: &LinuxBench) {
    let bind = bench.bind("read-only", true);
    bench.mounter.attach(&bind).unwrap();

    let canary = bind.target.join("canary");
    let attempts = [
        ("write", fs::write(&canary, "dead")),
        ("create", File::create_new(bind.target.join("stray")).map(drop)),
        ("mkdir", fs::create_dir(bind.target.join("stray"))),
        ("symlink", symlink("anywhere", bind.target.join("stray"))),
        ("unlink", fs::remove_file(&canary)),
        ("rename", fs::rename(&canary, bind.target.join("renamed"))),
        ("link", fs::hard_link(&canary, bind.target.join("linked"))),
        ("chmod", fs::set_permissions(&canary, fs::Permissions::from_mode(0o777))),
        ("chown", std::os::unix::fs::chown(&canary, Some(1), Some(1))),
    ];
    for (attempt, result) in attempts {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS), "{attempt}");
    }
    assert_untouched(bind.attachment.path());
}

fn assert_untouched(source: &Path) {
    let names: Vec<_> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["canary"]);
    assert_eq!(fs::read(source.join("canary")).unwrap(), b"alive");
}

pub(super) fn a_writable_bind_writes_the_source(bench: &LinuxBench) {
    let bind = bench.bind("writable", false);
    bench.mounter.attach(&bind).unwrap();
    fs::write(bind.target.join("new"), "content").unwrap();
    assert_eq!(fs::read(bind.attachment.path().join("new")).unwrap(), b"content");
}

pub(super) fn no_write_succeeds_from_the_first_visible_moment(bench: &LinuxBench) {
    let bind = bench.bind("hammered", true);
    let (refused, written, done) = (AtomicUsize::new(0), AtomicUsize::new(0), Done::default());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (canary, stray) = (bind.target.join("canary"), bind.target.join("stray"));
            while !done.is_set() {
                match OpenOptions::new().write(true).open(&canary) {
                    Ok(_) => written.fetch_add(1, Ordering::Relaxed),
                    Err(error) if error.raw_os_error() == Some(libc::EROFS) => refused.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}: the mount is missing");
                        0
                    }
                };
                // This succeeds in the covered directory, and must not reach the source.
                if File::create_new(&stray).is_ok() {
                    let _covered = fs::remove_file(&stray);
                }
            }
        });
        let _end = done.at_the_end();
        for _ in 0..200 {
            let before = refused.load(Ordering::Relaxed);
            bench.mounter.attach(&bind).unwrap();
            while refused.load(Ordering::Relaxed) == before && written.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            bench.mounter.unmount(&bind.target).unwrap();
        }
    });
    assert_eq!(written.into_inner(), 0);
    assert_untouched(bind.attachment.path());
}

pub(super) fn a_setuid_program_runs_as_its_caller(bench: &LinuxBench) {
    let Some(id) = require::find("id") else { panic!("coreutils are missing") };
    let bind = bench.bind("setuid", false);
    let program = bind.attachment.path().join("id");
    fs::copy(id, &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    bench.mounter.attach(&bind).unwrap();

    let output = Command::new(bind.target.join("id")).arg("-u").uid(65534).gid(65534).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "65534\n");
}

pub(super) fn a_device_cannot_be_opened(bench: &LinuxBench) {
    let bind = bench.bind("device", false);
    mknod(&bind.attachment.path().join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
        .unwrap();
    File::open(bind.attachment.path().join("null")).expect("the device works without nodev");
    bench.mounter.attach(&bind).unwrap();
    assert_eq!(File::open(bind.target.join("null")).unwrap_err().raw_os_error(), Some(libc::EACCES));
}

pub(super) fn noexec_of_the_source_is_kept(bench: &LinuxBench) {
    let volume = bench.directory("volume");
    mount(Some("tmpfs"), &volume, Some("tmpfs"), MsFlags::MS_NOEXEC, None::<&str>).unwrap();
    let bind = Mount {
        attachment: Attachment::Bind { source: bench.directory("volume/source") },
        ..bench.bind("noexec", true)
    };
    bench.mounter.attach(&bind).unwrap();
    let options = &bench.mounts_on(&bind.target)[0].options;
    for flag in ["ro", "nosuid", "nodev", "noexec", "relatime"] {
        assert!(options.iter().any(|option| option == flag), "{flag} is not in {options:?}");
    }
}

pub(super) fn a_target_in_use_is_unmounted_in_time_and_its_user_keeps_the_tree(bench: &LinuxBench) {
    let bind = bench.bind("busy", true);
    for _ in 0..3 {
        bench.mounter.attach(&bind).unwrap();
    }
    let mut open = File::open(bind.target.join("canary")).unwrap();
    let mut inside = Command::new("cat").current_dir(&bind.target).stdin(Stdio::piped()).spawn().unwrap();

    let start = Instant::now();
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 3);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(bench.mounts_on(&bind.target), []);
    fs::remove_dir(&bind.target).unwrap();
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 0);

    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "alive");
    let working_directory = format!("/proc/{}/cwd/canary", inside.id());
    assert_eq!(fs::read(working_directory).unwrap(), b"alive");
    inside.kill().unwrap();
    inside.wait().unwrap();
}

pub(super) fn a_mount_below_the_target_is_unmounted_with_it(bench: &LinuxBench) {
    let bind = bench.bind("outer", true);
    fs::create_dir(bind.attachment.path().join("below")).unwrap();
    bench.mounter.attach(&bind).unwrap();
    let inner = Mount { target: bind.target.join("below"), ..bench.bind("inner", true) };
    bench.mounter.attach(&inner).unwrap();

    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 1);
    assert_eq!(bench.mounts_on(&bind.target), []);
    assert_eq!(bench.mounts_on(&inner.target), []);
    assert_eq!(fs::read(inner.attachment.path().join("canary")).unwrap(), b"alive");
}

pub(super) fn a_deleted_source_is_not_shown(bench: &LinuxBench) {
    let bind = bench.bind("deleted", true);
    bench.mounter.attach(&bind).unwrap();
    fs::remove_file(bind.attachment.path().join("canary")).unwrap();
    fs::remove_dir(bind.attachment.path()).unwrap();
    assert!(!bench.mounter.shows(&bind).unwrap());

    fs::create_dir(bind.attachment.path()).unwrap();
    assert!(!bench.mounter.shows(&bind).unwrap(), "a new directory of the same name is not the attached one");
    assert!(bench.mounts_on(&bind.target)[0].root.to_str().unwrap().ends_with("//deleted"));
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 1);
}

/// CVE-2017-1002101, CVE-2021-25741: swapping a path component during a mount must not redirect it.
pub(super) fn a_parent_swapped_for_a_symlink_does_not_redirect_a_mount(bench: &LinuxBench) {
    let bind = Mount { target: bench.directory("parent/target"), ..bench.bind("swapped", true) };
    let victim = bench.directory("victim/target");
    let (parent, link) = (bench.path("parent"), bench.path("link"));
    symlink(bench.path("victim"), &link).unwrap();
    let swap = || renameat2(AT_FDCWD, &parent, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();

    let done = Done::default();
    let (mut bound, mut refused) = (0, 0);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.is_set() {
                swap();
            }
        });
        let _end = done.at_the_end();
        while (bound < 50 || refused < 50) && start.elapsed() < Duration::from_secs(10) {
            match bench.mounter.attach(&bind) {
                Ok(()) => bound += 1,
                Err(MountError::Symlink { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(bench.mounts_on(&victim), []);
    assert!(bound > 0 && refused > 0, "{bound} bound, {refused} refused: the swap never interfered");
    if parent.is_symlink() {
        swap();
    }
    assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), bound);
}

pub(super) fn permanent_mounts_are_in_every_list(bench: &LinuxBench) {
    let source = bench.bind("stays", true).attachment.path().to_owned();
    let stays: Vec<_> = (0..200).map(|number| bench.directory(format!("stays-{number}"))).collect();
    let goes: Vec<_> = (0..50).map(|number| bench.directory(format!("goes-{number}"))).collect();
    let bind = |target: &Path| Mount::bind(&source, target, true);
    // Mounts that come and go are before, between and after the permanent ones.
    for (number, target) in stays.iter().enumerate() {
        if let Some(target) = goes.get(number) {
            bench.mounter.attach(&bind(target)).unwrap();
        }
        bench.mounter.attach(&bind(target)).unwrap();
    }
    let done = Done::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.is_set() {
                for target in &goes {
                    bench.mounter.unmount(target).unwrap();
                    bench.mounter.attach(&bind(target)).unwrap();
                }
            }
        });
        let _end = done.at_the_end();
        for _ in 0..50 {
            let list = bench.mounter.list().unwrap();
            let seen = list.iter().filter(|mount| stays.contains(&mount.target)).count();
            assert_eq!(seen, stays.len());
        }
    });
}

pub(super) fn nothing_is_left_in_the_working_directory(bench: &LinuxBench) {
    let bind = bench.bind("any", true);
    bench.mounter.attach(&bind).unwrap();
    let workdir = bench.path("mounting");
    assert_eq!(workdir.exists(), bench.mounter.strategy() == Strategy::PrivateDirectory);
    if workdir.exists() {
        assert_eq!(workdir.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&workdir).unwrap().count(), 0);
    }
    let mounts = bench.mounter.list().unwrap();
    assert!(!mounts.iter().any(|mount| mount.target.starts_with(&workdir)), "{mounts:?}");
}

#[test]
fn a_mount_on_a_shared_target_reaches_its_peers_read_only() {
    for strategy in [Strategy::Detached, Strategy::PrivateDirectory] {
        let Some(bench) = Bench::linux(strategy, MsFlags::MS_SHARED) else { return };
        let peer = bench.directory("peer");
        mount(Some(&bench.home), &peer, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let bind = bench.bind("propagated", true);
        bench.mounter.attach(&bind).unwrap();

        let seen = peer.join(bind.target.strip_prefix(&bench.home).unwrap());
        assert_eq!(fs::read(seen.join("canary")).unwrap(), b"alive");
        let error = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(seen.join("canary")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));

        assert_eq!(bench.mounter.unmount(&bind.target).unwrap(), 1);
        assert!(!seen.join("canary").exists(), "the peer sees the unmount too");
        let left = bench.mounter.list().unwrap();
        assert!(!left.iter().any(|mount| mount.target.starts_with(peer.join("mounting"))), "{left:?}");
    }
}

#[test]
fn an_ordinary_user_is_told_that_mounting_is_not_permitted() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let home = place.path().canonicalize().unwrap();
    for strategy in [Strategy::Detached, Strategy::PrivateDirectory] {
        let mounter = LinuxMounter::with_strategy(home.join("mounting"), strategy);
        let error = mounter.attach(&Mount::bind(home.clone(), home.clone(), true)).unwrap_err();
        assert_eq!(error.kind(), gitrepo_core::error::Kind::PermissionDenied, "{error}");
    }
}

/// Promise 6 of `docs/semantics.md`: the mount that a runtime makes in a container does not have the flags of the
/// volume on the host.
#[test]
fn in_a_pod_set_user_id_and_devices_of_a_writable_volume_work_as_on_any_disk() {
    let Some(bench) = Bench::linux(Strategy::of_this_kernel(), MsFlags::MS_PRIVATE) else { return };
    let (Some(id), Some(setpriv)) = (require::find("id"), require::find("setpriv")) else {
        panic!("coreutils or util-linux are missing")
    };
    let bind = bench.bind("writable", false);
    bench.mounter.attach(&bind).unwrap();
    fs::copy(id, bind.attachment.path().join("id")).unwrap();
    fs::set_permissions(bind.attachment.path().join("id"), fs::Permissions::from_mode(0o4755)).unwrap();
    mknod(&bind.attachment.path().join("null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
        .unwrap();
    let inside = bench.directory("inside");
    let none = None::<&str>;
    mount(Some(&bind.target), &inside, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &inside, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();

    let run = |place: &Path, more: &[&str]| {
        let mut command = Command::new(&setpriv);
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let output = command.args(user).args(more).arg(place.join("id")).arg("-u").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&bind.target, &[]), "65534\n", "on the host");
    assert_eq!(run(&inside, &[]), "0\n", "in the pod");
    assert_eq!(run(&inside, &["--no-new-privs"]), "65534\n", "in the pod with allowPrivilegeEscalation: false");
    assert!(File::open(bind.target.join("null")).is_err() && File::open(inside.join("null")).is_ok());
}

/// The filters of container runtimes answer EPERM or ENOSYS to calls that they do not know.
#[test]
fn mounting_works_behind_a_filter_that_hides_newer_calls() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let Some(bench) = Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED) else { return };
        let bind = bench.bind("filtered", true);
        thread::scope(|scope| {
            scope.spawn(|| {
                hide_newer_calls(errno);
                let mounter = LinuxMounter::new(bench.path("mounting"));
                assert_eq!(mounter.strategy(), Strategy::PrivateDirectory);
                mounter.attach(&bind).unwrap();
                mounter.attach(&bind).unwrap();
                assert_eq!(fs::write(bind.target.join("canary"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
                assert_eq!(mounter.unmount(&bind.target).unwrap(), 2);
                assert_eq!(mounter.unmount(&bind.target).unwrap(), 0);
            });
        });
        assert_untouched(bind.attachment.path());
    }
}

/// Forbids the calling thread the system calls of Linux 4.11 to 5.12, for the rest of its life.
pub(super) fn hide_newer_calls(errno: i32) {
    let calls =
        [libc::SYS_statx, libc::SYS_openat2, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr];
    hide_calls(&calls, errno);
}

/// Forbids the calling thread these system calls.
pub(super) fn hide_calls(calls: &[libc::c_long], errno: i32) {
    refuse(calls.iter().map(|&call| (call, Vec::new())), errno);
}

/// Forbids the calling thread one ioctl.
pub(super) fn refuse_control(request: u64, errno: i32) {
    let is_this = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request).unwrap();
    refuse([(libc::SYS_ioctl, vec![SeccompRule::new(vec![is_this]).unwrap()])], errno);
}

fn refuse(rules: impl IntoIterator<Item = (libc::c_long, Vec<SeccompRule>)>, errno: i32) {
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.try_into().unwrap()),
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

//! A process is killed while it mounts: nothing writable becomes visible, and a sweep removes its leftovers.

use std::env;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use gitrepo_core::mount::Mount;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::linux::Strategy;
use nix::mount::MsFlags;

use super::Bench;

const HOME: &str = "GITREPO_TEST_MOUNTER_HOME";
const STRATEGY: &str = "GITREPO_TEST_MOUNTER_STRATEGY";
const READY: &str = "ready to be killed";

#[test]
fn a_sweep_removes_leftovers_of_a_killed_process() {
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        let Some(bench) = Bench::linux(Strategy::PrivateDirectory, propagation) else { return };
        let bind = bench.bind("killed", true);
        let mut swept = 0;
        for round in 0..40 {
            let mut child = mounting_process(&bench);
            // This only chooses another moment in each round; nothing depends on what is done by then.
            thread::sleep(Duration::from_micros(round * 97 % 2000));
            child.kill().unwrap();
            child.wait().unwrap();

            assert!(bench.mounts_on(&bind.target).iter().all(|mount| mount.is_read_only()));
            swept += bench.mounter.sweep().unwrap();
            bench.mounter.attach(&bind).unwrap();
            bench.mounter.unmount(&bind.target).unwrap();

            let workdir = bench.path("mounting");
            assert_eq!(fs::read_dir(&workdir).unwrap().count(), 0);
            let mounts = bench.mounter.list().unwrap();
            assert!(!mounts.iter().any(|mount| mount.target.starts_with(&workdir)), "{mounts:?}");
            assert_eq!(fs::read(bind.attachment.path().join("canary")).unwrap(), b"alive");
        }
        assert!(swept > 0, "no kill interrupted a mount");
    }
}

#[test]
fn a_sweep_spares_the_work_of_a_running_process() {
    let Some(bench) = Bench::linux(Strategy::PrivateDirectory, MsFlags::MS_SHARED) else { return };
    let _bind = bench.bind("killed", true);
    let mut child = mounting_process(&bench);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3000 {
                    assert_eq!(bench.mounter.sweep().unwrap(), 0);
                }
            });
        }
    });
    assert_eq!(child.try_wait().unwrap(), None, "the process still mounts");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn mounting_process(bench: &Bench<LinuxMounter>) -> Child {
    start("killed::mount_until_killed", &bench.home, Strategy::PrivateDirectory)
}

/// Starts a program of this suite, which mounts until it is killed, in this thread's mount namespace.
pub(super) fn start(program: &str, home: &Path, strategy: Strategy) -> Child {
    let suite = module_path!().split("::").nth(1).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("{suite}::{program}"), "--ignored", "--nocapture"])
        .env(HOME, home)
        .env(STRATEGY, format!("{strategy:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == READY), "the process ended early");
    child
}

/// In such a program: the home and the mounter to use; `None` in a run of all ignored tests.
pub(super) fn started() -> Option<(PathBuf, LinuxMounter)> {
    let home = PathBuf::from(env::var_os(HOME)?);
    let strategies = [Strategy::Detached, Strategy::PrivateDirectory];
    let strategy = strategies.into_iter().find(|strategy| env::var(STRATEGY).unwrap() == format!("{strategy:?}"))?;
    let mounter = LinuxMounter::with_strategy(home.join("mounting"), strategy);
    Some((home, mounter))
}

/// In such a program: says that it may be killed.
pub(super) fn is_ready() {
    let mut output = std::io::stdout();
    writeln!(output, "\n{READY}").unwrap();
}

#[test]
#[ignore = "not a test: the program of the process to be killed"]
fn mount_until_killed() {
    let Some((home, mounter)) = started() else { return };
    let bind = Mount::bind(home.join("source-killed"), home.join("target-killed"), true);
    is_ready();
    loop {
        mounter.attach(&bind).unwrap();
        mounter.unmount(&bind.target).unwrap();
    }
}

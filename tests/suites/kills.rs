//! Kills `mount`, its worker and `unmount` at 200 random moments, with snapshots in either format: the next command always
//! succeeds, and a sweep leaves nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::loopfs::loop_devices_below;
use gitrepo_tests::process;
use gitrepo_tests::program;
use gitrepo_tests::program::Running;
use gitrepo_tests::random;
use gitrepo_tests::random::Random;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// How many kills there are in each of two lanes with a store each. Only kills of a running command count.
const KILLS: &str = "GITREPO_TEST_KILLS";

/// Number of commits to choose from, so that a killed mount often fetches.
const COMMITS: usize = 40;

/// The argument with which pointers are replaced.
const LFS: &str = "--lfs";

/// Bytes of a lane's file system.
const DISK: u64 = 256 << 20;

#[test]
fn two_hundred_kills_leave_a_store_that_works_and_nothing_after_a_sweep() {
    run([|| Shell::new_with(DISK, Format::Directory); 2]);
}

#[test]
fn two_hundred_kills_leave_whole_images_and_no_loop_device() {
    run([|| Shell::new_with(DISK, Format::Image), Shell::with_loop_devices]);
}

fn run(shells: [fn() -> Option<Shell>; 2]) {
    let seed = random::seed();
    // Each lane has its own thread, because it has its own mount namespace.
    let [one, two] = shells;
    let lanes = [(seed, one), (!seed, two)].map(|(seed, shell)| std::thread::spawn(move || run_lane(seed, shell)));
    for lane in lanes {
        lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

fn run_lane(seed: u64, shell: fn() -> Option<Shell>) {
    let Some(mut lane) = shell().map(|shell| Lane::new(seed, shell)) else { return };
    let kills = usize::try_from(random::from_environment(KILLS, 100)).unwrap();
    let met = (0..8 * kills).filter(|_| lane.kill_one()).take(kills).count();
    assert_eq!(met, kills, "too many commands ended before they were killed");
    lane.assert_nothing_is_left();
}

struct Lane {
    random: Random,
    shell: Shell,
    executable: PathBuf,
    server: HttpServer,
    repository: Repository,
    commits: Vec<String>,
    /// The same commits with the content of their pointers, in another repository.
    whole: Repository,
    whole_commits: BTreeMap<String, String>,
    /// The commit that each target shows, and with which argument it was mounted.
    mounted: BTreeMap<PathBuf, (String, Option<&'static str>)>,
    /// Commits that were mounted before.
    known: BTreeSet<String>,
    /// How long each command may run before it is killed, at most.
    spans: [Duration; 3],
}

/// A process to kill.
#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Command,
    /// The worker of the command, if it has one at that moment.
    Worker,
}

/// A command to kill.
#[derive(Clone, Copy)]
enum Command {
    /// Mounts a commit that has to be fetched.
    Fetch,
    Mount,
    Unmount,
}

impl Lane {
    fn new(seed: u64, shell: Shell) -> Self {
        // Its own executable distinguishes its processes from those of other tests.
        let executable = shell.home().join("gitrepo-cli");
        fs::copy(program::executable("gitrepo-cli"), &executable).unwrap();
        let shell = shell.with_executable(executable.clone());
        let repository = Repository::new("killed");
        let (lfs, whole) = (Lfs::new(), Repository::new("whole"));
        let commits: Vec<_> = (0..COMMITS)
            .map(|number| repository.commit("main", &content(number).file("o.bin", lfs.add(&object(number)))))
            .collect();
        let with_object = |number| whole.commit("main", &content(number).file("o.bin", object(number)));
        let whole_commits = (0..COMMITS).map(|number| (commits[number].clone(), with_object(number))).collect();
        let server = lfs.start(HttpServer::builder().serve(&repository));
        let mut lane = Self {
            random: Random(seed),
            shell,
            executable,
            server,
            repository,
            commits,
            whole,
            whole_commits,
            mounted: BTreeMap::new(),
            known: BTreeSet::new(),
            spans: [Duration::ZERO; 3],
        };
        lane.measure();
        lane
    }

    /// Measures how long the commands take on this machine, so that kills meet them running.
    fn measure(&mut self) {
        let target = self.shell.target("measured");
        let commit = self.commits[0].clone();
        for command in [Command::Fetch, Command::Mount] {
            let begin = Instant::now();
            self.shell.mount(&self.url(), &target, &[&format!("--revision={commit}")]).assert_success();
            self.spans[command as usize] = begin.elapsed();
            let begin = Instant::now();
            self.shell.unmount(&target).assert_success();
            self.spans[Command::Unmount as usize] = begin.elapsed();
        }
        self.known.insert(commit);
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    /// Kills one command at a random moment, then does its work. Returns whether the command was still running.
    fn kill_one(&mut self) -> bool {
        let target = self.shell.target(&format!("pod-{}", self.random.below(4)));
        match self.mounted.get(&target).cloned() {
            None => {
                let commit = self.commits[self.random.below(COMMITS)].clone();
                let copy = [
                    None,
                    None,
                    Some(LFS),
                    Some("--writable=private"),
                    Some("--writable=shared"),
                    Some("--writable=copy"),
                ][self.random.below(6)];
                let command = if self.known.insert(commit.clone()) { Command::Fetch } else { Command::Mount };
                let victim = if self.random.below(4) == 0 { Victim::Worker } else { Victim::Command };
                let met = self.kill(victim, command, |shell, url| mount(shell, url, &target, &commit, copy));
                self.shell.run(&["ls"]).assert_success();
                mount(&self.shell, &self.url(), &target, &commit, copy).wait().assert_success();
                self.assert_shows(&target, &commit, copy);
                self.mounted.insert(target, (commit, copy));
                met
            }
            Some((commit, copy)) => {
                let met = self.kill(Victim::Command, Command::Unmount, |shell, _| shell.spawn_unmount(&target));
                self.shell.run(&["ls"]).assert_success();
                if self.random.below(2) == 0 {
                    // Whether it was unmounted or not, it can be mounted and is complete.
                    mount(&self.shell, &self.url(), &target, &commit, copy).wait().assert_success();
                    self.assert_shows(&target, &commit, copy);
                    return met;
                }
                // 66: the volume does not exist any more.
                let code = self.shell.unmount(&target).code();
                assert!(code == 0 || code == 66, "{code}");
                assert_eq!(self.shell.mounts_on(&target), 0);
                self.mounted.remove(&target);
                met
            }
        }
    }

    /// Kills a command or its worker. Returns whether the command was still running.
    fn kill(&mut self, victim: Victim, command: Command, start: impl FnOnce(&Shell, &str) -> Running) -> bool {
        let span = self.spans[command as usize];
        let moment = self.random.within(span);
        let running = start(&self.shell, &self.url());
        // This only chooses the moment of the kill; nothing depends on what is done by then.
        std::thread::sleep(moment);
        let worker = || process::running(&self.executable).into_iter().find(|process| *process != running.id());
        match worker().filter(|_| victim == Victim::Worker) {
            // It may have ended meanwhile.
            Some(worker) => drop(kill(Pid::from_raw(worker.try_into().unwrap()), Signal::SIGKILL)),
            None => running.signal(Signal::SIGKILL),
        }
        let met = !running.wait().status.success();
        // Commands take longer, or no longer as long, as other work on the machine comes and goes.
        self.spans[command as usize] = if met { span + span / 16 } else { moment };
        met
    }

    fn assert_shows(&self, target: &Path, commit: &str, how: Option<&str>) {
        assert_eq!(self.shell.mounts_on(target), 1, "{}", target.display());
        match how {
            Some(LFS) => assert_same_tree(&self.whole, &self.whole_commits[commit], ".", target),
            _ => assert_same_tree(&self.repository, commit, ".", target),
        }
    }

    fn assert_nothing_is_left(&self) {
        for (target, (commit, how)) in &self.mounted {
            self.assert_shows(target, commit, *how);
            self.shell.unmount(target).assert_success();
        }
        wait_for_none("processes", || process::running(&self.executable));
        wait_for_none("loop devices", || loop_devices_below(self.shell.home()));
        // The first one may compact the repository when it has removed the files of unused locks.
        for _ in 0..2 {
            let swept = self.shell.run(&["sweep", "--json"]).assert_success();
            assert!(swept.stdout.contains("\"failures\":[]"), "{swept:?}");
        }
        assert_eq!(self.shell.leftovers(), [] as [PathBuf; 0]);
        let locks = entries(&self.shell.store().join("locks"));
        let of_sweep = |lock: &PathBuf| lock.ends_with("sweep") || lock.ends_with("evict");
        assert!(locks.iter().all(of_sweep), "only the sweep's own locks: {locks:?}");
        let snapshots = entries(&self.shell.store().join("snapshots"));
        // A plain copy is made of a directory, whatever other volumes show, and objects make another tree.
        assert!(!snapshots.is_empty() && snapshots.len() <= 3 * COMMITS, "{snapshots:?}");
        let fetches = self.server.packs();
        for snapshot in snapshots {
            let meta = fs::read_to_string(snapshot.join("meta.json")).unwrap();
            let commit = self.commits.iter().find(|commit| meta.contains(commit.as_str())).unwrap();
            let how = meta.contains("\"lfs\":true").then_some(LFS);
            if snapshot.join("root").exists() {
                match how {
                    Some(_) => {
                        assert_same_tree(&self.whole, &self.whole_commits[commit], ".", &snapshot.join("root"));
                    }
                    None => assert_same_tree(&self.repository, commit, ".", &snapshot.join("root")),
                }
                continue;
            }
            let target = self.shell.target("image");
            mount(&self.shell, &self.url(), &target, commit, how).wait().assert_success();
            self.assert_shows(&target, commit, how);
            self.shell.unmount(&target).assert_success();
        }
        assert_eq!(self.server.packs(), fetches, "every image is whole");
        wait_for_none("loop devices", || loop_devices_below(self.shell.home()));
    }
}

/// Waits until the kernel has removed what goes with a process: a worker ends after its parent, and a loop device is freed
/// after its last user, without any notification.
fn wait_for_none<T: std::fmt::Debug>(what: &str, list: impl Fn() -> Vec<T>) {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let left = list();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < patience, "{what} are left: {left:?}");
        std::thread::yield_now();
    }
}

/// The object of a commit.
fn object(number: usize) -> Vec<u8> {
    gitrepo_tests::fixtures::noise(u64::try_from(number).unwrap() + 10_000, 50_000)
}

fn content(number: usize) -> Files {
    let seed = u64::try_from(number).unwrap();
    (0..20)
        .fold(Files::new().file(".gitattributes", ATTRIBUTES), |files, file| {
            let text = gitrepo_tests::fixtures::text(seed * 100 + file, 4000);
            files.file(format!("directory-{}/file-{file}", file % 4), text)
        })
        .executable("run", format!("#!/bin/sh\necho {number}\n"))
        .symlink("link", "run")
}

fn mount(shell: &Shell, url: &str, target: &Path, commit: &str, how: Option<&str>) -> Running {
    let revision = format!("--revision={commit}");
    let more: Vec<&str> = [revision.as_str()].into_iter().chain(how).collect();
    shell.spawn_mount(url, target, &more)
}

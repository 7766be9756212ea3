//! Cuts the power at random moments of mounts, unmounts and sweeps. What the disk has then is whole or absent: every
//! commit can be published again, byte for byte, and a sweep leaves nothing.
//!
//! The disk is the file behind a loop device. Its copy of one moment is what a power failure would have left: the kernel
//! had not written the rest yet. The copy is mounted, which replays its journal, and used like after a reboot.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::loopfs::Image;
use gitrepo_tests::namespace;
use gitrepo_tests::process;
use gitrepo_tests::program;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::random;
use gitrepo_tests::random::Random;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::tree::assert_same_tree;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

/// How often the power fails, with snapshots in each format.
const FAILURES: &str = "GITREPO_TEST_POWER_FAILURES";

const DISK: u64 = 64 << 20;

/// Number of commits to choose from.
const COMMITS: usize = 8;

/// Each client has a target for a read-only volume and for each kind of writable copy, named after it.
const KINDS: [&str; 4] = ["volume", "private", "shared", LFS];

/// The kind of a read-only volume whose pointers are replaced.
const LFS: &str = "lfs";

/// The time between two failures, at most.
const SPAN: Duration = Duration::from_millis(400);

struct Node {
    shell: Shell,
    executable: PathBuf,
    server: HttpServer,
    repository: Repository,
    commits: Vec<String>,
    /// The same commits with the content of their pointers, in another repository.
    whole: Repository,
    whole_commits: Vec<String>,
    /// Held while a command starts, and while the disk is copied.
    starting: Mutex<()>,
    /// Whether the clients are to end.
    over: AtomicBool,
}

/// Ends the clients, also when a check fails.
struct EndOfClients<'a>(&'a AtomicBool);

impl Drop for EndOfClients<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stopped processes, which go on when this is dropped, also when the copy fails: their clients wait for them.
#[derive(Default)]
struct Stopped(BTreeSet<u32>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, Signal::SIGCONT));
    }
}

fn after_a_power_failure_every_commit_is_published_again_byte_for_byte(format: Format) {
    let Some(shell) = Shell::new_with(DISK, format) else { return };
    let seed = random::seed();
    // Its own executable distinguishes its processes from those of other tests.
    let place = TempDir::new().unwrap();
    let executable = place.path().join("gitrepo-cli");
    fs::copy(program::executable("gitrepo-cli"), &executable).unwrap();
    let repository = Repository::new("powerless");
    let (lfs, whole) = (Lfs::new(), Repository::new("whole"));
    let object = |number: usize| fixtures::noise(u64::try_from(number).unwrap() + 10_000, 300_000);
    let with = |number, file: &[u8]| content(number).file("o.bin", file);
    let pointer = |number| lfs.add(&object(number));
    let commits =
        (0..COMMITS).map(|number| repository.commit("main", &with(number, pointer(number).as_bytes()))).collect();
    let whole_commits = (0..COMMITS).map(|number| whole.commit("main", &with(number, &object(number)))).collect();
    let node = Node {
        shell: shell.with_executable(executable.clone()),
        executable,
        server: lfs.start(HttpServer::builder().serve(&repository)),
        repository,
        commits,
        whole,
        whole_commits,
        starting: Mutex::new(()),
        over: AtomicBool::new(false),
    };
    let node = &node;
    std::thread::scope(|scope| {
        let _end = EndOfClients(&node.over);
        for (client, seed) in [("one", seed ^ 1 << 32), ("two", seed ^ 2 << 32)] {
            scope.spawn(move || node.client(client, Random(seed)));
        }
        let mut random = Random(seed);
        for _ in 0..random::from_environment(FAILURES, 8) {
            let image = node.cut_power(&mut random);
            let first = random.below(COMMITS);
            // In its own thread, because it has its own mounts.
            let checked = scope.spawn(move || node.assert_usable(&image, first)).join();
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

impl Node {
    /// Mounts commits, unmounts them and sweeps, until it is over.
    fn client(&self, client: &str, mut random: Random) {
        let mut mounted = [false; KINDS.len()];
        while !self.over.load(Ordering::Relaxed) {
            let chosen = random.below(KINDS.len());
            let target = self.shell.target(&format!("{client}-{}", KINDS[chosen]));
            let sweep: &[&str] = if random.below(2) == 0 { &["sweep"] } else { &["sweep", "--unreferenced"] };
            let words = match random.below(8) {
                // There is no store to sweep before the first mount.
                0 if self.shell.store().join("VERSION").exists() => {
                    sweep.iter().map(|word| (*word).to_owned()).collect()
                }
                _ if mounted[chosen] => unmount(&target),
                _ => self.mount(&self.commits[random.below(COMMITS)], &target),
            };
            mounted[chosen] ^= words[0] != "sweep";
            let child = {
                let _starting = self.starting.lock().unwrap();
                self.command(&self.shell, &words).spawn().unwrap()
            };
            Outcome::from(child.wait_with_output().unwrap()).assert_success();
        }
    }

    /// Returns what is on the disk at a random moment.
    fn cut_power(&self, random: &mut Random) -> Image {
        // This only chooses the moment; nothing depends on what is done by then.
        std::thread::sleep(random.within(SPAN));
        if random.below(2) == 0 {
            // The kernel may write everything at any time.
            nix::unistd::syncfs(File::open(self.shell.home()).unwrap()).unwrap();
            std::thread::sleep(random.within(SPAN / 40));
        }
        let _starting = self.starting.lock().unwrap();
        let mut stopped = Stopped::default();
        // Until those that a process had started meanwhile are stopped, too.
        while let Some(pid) = process::running(&self.executable).into_iter().find(|pid| stopped.0.insert(*pid)) {
            signal(pid, Signal::SIGSTOP);
        }
        self.shell.disk().image()
    }

    /// Publishes every commit from a copy of the disk, as after the reboot.
    fn assert_usable(&self, image: &Image, first: usize) {
        namespace::private_mounts();
        let boot = another_boot();
        let shell = self.shell.with_disk(image);
        let succeed = |words: &[String]| Outcome::from(self.command(&shell, words).output().unwrap()).assert_success();
        let mut volumes = Vec::new();
        if shell.store().join("VERSION").exists() {
            let listed = succeed(&["ls".into(), "--json".into()]).stdout;
            volumes = serde_json::from_str::<Vec<serde_json::Value>>(&listed).unwrap();
            succeed(&["cache".into(), "verify".into()]);
        }
        let published_again = |commit: &str, target: &Path| {
            succeed(&self.mount(commit, target));
            if kind_of(target) == LFS {
                let number = self.commits.iter().position(|known| known == commit).unwrap();
                assert_same_tree(&self.whole, &self.whole_commits[number], ".", target);
            } else {
                assert_same_tree(&self.repository, commit, ".", target);
            }
            succeed(&unmount(target));
        };
        // Those that were published show what they did before.
        for volume in volumes {
            published_again(volume["commit"].as_str().unwrap(), Path::new(volume["target"].as_str().unwrap()));
        }
        for number in 0..COMMITS {
            let commit = &self.commits[(first + number) % COMMITS];
            published_again(commit, &shell.target("again-volume"));
            published_again(commit, &shell.target("again-lfs"));
        }
        let swept = succeed(&["sweep".into(), "--json".into()]);
        assert!(swept.stdout.contains("\"failures\":[]"), "{swept:?}");
        assert_eq!(shell.leftovers(), [] as [PathBuf; 0]);
        drop(boot);
    }

    /// The words of a mount, of the kind in the target's name.
    fn mount(&self, commit: &str, target: &Path) -> Vec<String> {
        let words = ["mount", &self.server.url(&self.repository), target.to_str().unwrap(), "--revision", commit];
        let more = match kind_of(target) {
            "volume" => None,
            LFS => Some("--lfs".to_owned()),
            writable => Some(format!("--writable={writable}")),
        };
        words.into_iter().map(str::to_owned).chain(more).collect()
    }

    fn command(&self, shell: &Shell, words: &[String]) -> Command {
        shell.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// What the end of a target's name says.
fn kind_of(target: &Path) -> &str {
    target.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap().1
}

fn unmount(target: &Path) -> Vec<String> {
    vec!["unmount".into(), target.display().to_string()]
}

/// Shows this thread, and what it starts, another boot's id.
fn another_boot() -> TempDir {
    let place = TempDir::new().unwrap();
    let id = place.path().join("boot_id");
    fs::write(&id, "00000000-0000-0000-0000-000000000000\n").unwrap();
    let shown = "/proc/sys/kernel/random/boot_id";
    nix::mount::mount(Some(&id), shown, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    place
}

fn signal(process: u32, signal: Signal) {
    // It may have ended meanwhile.
    kill(Pid::from_raw(process.cast_signed()), signal).ok();
}

/// A few files, of which most are the same in every commit.
fn content(number: usize) -> Files {
    let seed = u64::try_from(number).unwrap() + 1;
    (0..30)
        .fold(Files::new().file(".gitattributes", ATTRIBUTES), |files, file| {
            let seed = if file % 5 == 0 { seed * 100 + file } else { file + 1 };
            files.file(format!("directory-{}/file-{file}", file % 4), fixtures::text(seed, 6000))
        })
        .executable("run", format!("#!/bin/sh\necho {number}\n"))
        .symlink("link", "run")
}

mod directories {
    #[test]
    fn after_a_power_failure_every_commit_is_published_again_byte_for_byte() {
        super::after_a_power_failure_every_commit_is_published_again_byte_for_byte(super::Format::Directory);
    }
}

mod images {
    #[test]
    fn after_a_power_failure_every_commit_is_published_again_byte_for_byte() {
        super::after_a_power_failure_every_commit_is_published_again_byte_for_byte(super::Format::Image);
    }
}

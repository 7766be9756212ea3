//! Kills `mount`, `unmount` and `sweep` before each single step that changes files, names or mounts, and lets each step
//! fail. The next command always succeeds, and a sweep leaves nothing.
//!
//! A step is a system call of the installed program. The suite `kills` also kills workers, at
//! random moments.

use std::collections::BTreeSet;
use std::io;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::lfs::ATTRIBUTES;
use gitrepo_tests::lfs::Lfs;
use gitrepo_tests::loopfs::Image;
use gitrepo_tests::program::Outcome;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::steps;
use gitrepo_tests::steps::Fault;
use gitrepo_tests::steps::Run;
use gitrepo_tests::steps::Step;
use gitrepo_tests::tree::Tree;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::Signal;

/// Bytes of the file system, which is copied for each step.
const DISK: u64 = 24 << 20;

/// Fetches after which a sweep compacts the repository: `MANY` of the store and one.
const FETCHES: usize = 33;

/// Set this to try every step, and not only the first of each kind.
const ALL: &str = "GITREPO_TEST_ALL_STEPS";

/// Far less kinds of steps than there are.
const FEW: usize = 150;

/// The errors with which steps fail, by their names.
const ERRORS: &str = "GITREPO_TEST_STEP_ERRORS";

/// Exit statuses, after `sysexits.h`.
const NOT_FOUND: i32 = 66;
const UNAVAILABLE: i32 = 69;
const NO_SPACE: i32 = 73;

/// A command, and what was there before it.
struct Case {
    name: &'static str,
    disk: Disk,
    /// What was mounted before, if anything.
    mounted: Option<Mount>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Disk {
    /// No store yet.
    Empty,
    /// The first commit was fetched.
    Fetched,
    /// As many commits as a sweep compacts.
    Fragmented,
}

/// A tree of a commit, and the kind of copy, if it is writable.
#[derive(Clone, Copy)]
struct Mount {
    commit: usize,
    subdirectory: &'static str,
    writable: Option<&'static str>,
    /// Whether the tree is composed with those of its submodules, even if it has none.
    recursive: bool,
    /// Whether it is with `.git`.
    keeps: bool,
    /// Whether its pointers of Git LFS are replaced.
    lfs: bool,
}

#[derive(Clone, Copy)]
enum Then {
    Mount(Mount),
    Unmount,
    /// After somebody else has removed the mount, as a reboot does.
    SweepAbandoned,
    SweepAll,
    /// A sweep that compacts.
    Sweep,
}

const FIRST: Mount = Mount { commit: 0, subdirectory: ".", writable: None, recursive: false, keeps: false, lfs: false };
const SECOND: Mount = Mount { commit: 1, ..FIRST };
const PART: Mount = Mount { subdirectory: "a", ..FIRST };
const PART_OF_SECOND: Mount = Mount { subdirectory: "a", ..SECOND };
const KEPT: Mount = Mount { keeps: true, ..FIRST };
const KEPT_PRIVATE: Mount = Mount { keeps: true, ..PRIVATE };
const PRIVATE: Mount = Mount { writable: Some("private"), ..FIRST };
const COPY: Mount = Mount { writable: Some("copy"), ..FIRST };
const COMPOSED: Mount = Mount { recursive: true, ..FIRST };
const OBJECTS: Mount = Mount { lfs: true, ..FIRST };
const OBJECTS_OF_SECOND: Mount = Mount { lfs: true, ..SECOND };
const SHARED: Mount = Mount { writable: Some("shared"), ..FIRST };

/// The shortest come first: what is tried in one is not tried again in another.
const CASES: &[Case] = &[
    Case { name: "a hit", disk: Disk::Fetched, mounted: None, then: Then::Mount(FIRST) },
    Case { name: "an unmount", disk: Disk::Fetched, mounted: Some(FIRST), then: Then::Unmount },
    Case { name: "an unmount of a private layer", disk: Disk::Fetched, mounted: Some(PRIVATE), then: Then::Unmount },
    Case { name: "an unmount of a shared layer", disk: Disk::Fetched, mounted: Some(SHARED), then: Then::Unmount },
    Case { name: "a sweep of a volume", disk: Disk::Fetched, mounted: Some(FIRST), then: Then::SweepAbandoned },
    Case { name: "a sweep of everything", disk: Disk::Fetched, mounted: None, then: Then::SweepAll },
    Case { name: "a view", disk: Disk::Fetched, mounted: None, then: Then::Mount(PART) },
    Case { name: "an unmount of a copy", disk: Disk::Fetched, mounted: Some(COPY), then: Then::Unmount },
    Case { name: "a private layer", disk: Disk::Fetched, mounted: None, then: Then::Mount(PRIVATE) },
    Case { name: "a shared layer", disk: Disk::Fetched, mounted: None, then: Then::Mount(SHARED) },
    Case { name: "a copy", disk: Disk::Fetched, mounted: None, then: Then::Mount(COPY) },
    Case { name: "a tree with submodules", disk: Disk::Fetched, mounted: None, then: Then::Mount(COMPOSED) },
    Case { name: "a repository", disk: Disk::Fetched, mounted: None, then: Then::Mount(KEPT) },
    Case { name: "a writable repository", disk: Disk::Fetched, mounted: None, then: Then::Mount(KEPT_PRIVATE) },
    Case { name: "objects of Git LFS", disk: Disk::Fetched, mounted: None, then: Then::Mount(OBJECTS) },
    Case {
        name: "another commit with objects",
        disk: Disk::Fetched,
        mounted: None,
        then: Then::Mount(OBJECTS_OF_SECOND),
    },
    Case { name: "a fetch of another commit", disk: Disk::Fetched, mounted: None, then: Then::Mount(SECOND) },
    Case { name: "a fetch of a directory", disk: Disk::Fetched, mounted: None, then: Then::Mount(PART_OF_SECOND) },
    Case { name: "a directory into a new store", disk: Disk::Empty, mounted: None, then: Then::Mount(PART) },
    Case { name: "a fetch into a new store", disk: Disk::Empty, mounted: None, then: Then::Mount(FIRST) },
    Case { name: "a sweep that compacts", disk: Disk::Fragmented, mounted: None, then: Then::Sweep },
];

/// Commands that do the same may leave something else behind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Consequences {
    Usual,
    /// A compaction does what a fetch does.
    OfACompaction,
    /// So does a narrow fetch, and what it brought must not pass for a commit.
    OfANarrowFetch,
    /// What brings objects to a commit that is there leaves no pack.
    OfObjects,
}

impl Case {
    fn consequences(&self, fault: Fault) -> Consequences {
        match (self.disk, self.then, fault) {
            (Disk::Fragmented, ..) => Consequences::OfACompaction,
            (Disk::Empty, Then::Mount(mount), Fault::Kill)
            | (Disk::Fetched, Then::Mount(mount @ Mount { commit: 1, .. }), Fault::Kill)
                if mount.subdirectory != "." =>
            {
                Consequences::OfANarrowFetch
            }
            (_, Then::Mount(Mount { lfs: true, commit: 0, .. }), _) => Consequences::OfObjects,
            _ => Consequences::Usual,
        }
    }
}

struct Scene {
    shell: Shell,
    server: HttpServer,
    repository: Repository,
    commits: Vec<String>,
    target: PathBuf,
    /// Of [`Disk`], in its order.
    disks: [Image; 3],
    /// Of [`FIRST`], [`SECOND`], [`PART`] and [`PART_OF_SECOND`].
    trees: [Tree; 4],
    /// Of [`OBJECTS`] and [`OBJECTS_OF_SECOND`].
    trees_of_objects: [Tree; 2],
}

impl Scene {
    fn new(format: Format) -> Option<Self> {
        let shell = Shell::new_with(DISK, format)?;
        let repository = Repository::new("steps");
        repository.configure("uploadpack.allowFilter", "true");
        let (lfs, whole) = (Lfs::new(), Repository::new("whole"));
        let content = |number: usize, shows_objects: bool| {
            let number = u64::try_from(number).unwrap();
            let (changing, object) = (fixtures::text(number + 1, 3000), fixtures::noise(number + 100, 9000));
            let pointer = lfs.add(&object);
            let files = Files::new().file("a/changing", changing).file("a/b/constant", fixtures::noise(1, 20_000));
            let files = files.file(".gitattributes", ATTRIBUTES);
            let files = if shows_objects { files.file("a.bin", object) } else { files.file("a.bin", pointer) };
            files.executable("run", "#!/bin/sh\n").symlink("link", "a/b")
        };
        let commits: Vec<_> = (0..FETCHES).map(|number| repository.commit("main", &content(number, false))).collect();
        let trees_of_objects = [0, 1].map(|number| {
            let commit = whole.commit("main", &content(number, true));
            Tree::of(&whole, &commit, ".")
        });
        let server = lfs.start(HttpServer::builder().serve(&repository));
        let target = shell.target("pod");
        let save = |shell: &Shell| {
            nix::unistd::syncfs(std::fs::File::open(shell.home()).unwrap()).unwrap();
            shell.disk().image()
        };
        let empty = save(&shell);
        let mut fetched = None;
        for commit in &commits {
            shell.mount(&server.url(&repository), &target, &["--revision", commit]).assert_success();
            shell.unmount(&target).assert_success();
            fetched.get_or_insert_with(|| save(&shell));
        }
        let fragmented = save(&shell);
        let disks = [empty, fetched.unwrap(), fragmented];
        let trees = [FIRST, SECOND, PART, PART_OF_SECOND]
            .map(|mount| Tree::of(&repository, &commits[mount.commit], mount.subdirectory));
        Some(Self { shell, server, repository, commits, target, disks, trees, trees_of_objects })
    }

    /// Runs each command again and again, each time with the fault at another step: in a short run at the first step of
    /// each kind that was not tried yet.
    fn run(&mut self, fault: Fault, tried: &mut BTreeSet<(Consequences, String)>) {
        let all = std::env::var_os(ALL).is_some();
        let mut failures = 0;
        for case in CASES {
            let steps = self.run_with(case, |_, _| None).steps;
            let (mut number, count) = (0, steps.len());
            for (at, step) in steps.into_iter().enumerate() {
                let kind = step.kind(self.shell.home());
                let is_idle = match fault {
                    // It leaves the same as a kill before the next step.
                    Fault::Kill => step.is_sync(),
                    Fault::Fail(errno) => errno == Errno::ENOSPC && step.is_deletion(),
                };
                let group = case.consequences(fault);
                if is_idle || !tried.insert((group, kind.clone())) && !all {
                    continue;
                }
                let home = self.shell.home().to_owned();
                let mut met = None;
                let Run { outcome, .. } = self.run_with(case, |step, before| {
                    let chosen = if all { before == at } else { met.is_none() && step.kind(&home) == kind };
                    chosen.then(|| met = Some(step.to_string())).map(|()| fault)
                });
                match met {
                    // One run shows all failures, which are printed.
                    Some(step) => {
                        let check = || self.assert_harmless(case, fault, &outcome, &step);
                        failures += usize::from(std::panic::catch_unwind(AssertUnwindSafe(check)).is_err());
                    }
                    // Few steps depend on time.
                    None => {
                        tried.remove(&(group, kind));
                        continue;
                    }
                }
                number += 1;
            }
            writeln!(io::stderr(), "{}, {fault:?}: {number} of {count} steps", case.name)
                .expect("standard error is open");
        }
        assert_eq!(failures, 0, "failures are above");
    }

    /// Prepares the node and runs the command.
    fn run_with(&mut self, case: &Case, decide: impl FnMut(&Step, usize) -> Option<Fault> + Send) -> Run {
        self.shell.revert(&self.disks[case.disk as usize]);
        if let Some(mount) = case.mounted {
            self.succeed(&self.mount(mount), case.name);
        }
        if let Then::SweepAbandoned = case.then {
            nix::mount::umount2(&self.target, MntFlags::empty()).unwrap();
        }
        steps::run(&mut self.command(&self.words(case.then)), decide)
    }

    fn assert_harmless(&self, case: &Case, fault: Fault, outcome: &Outcome, step: &str) {
        let scene = format!("{}, {fault:?} at {step}\n{outcome:?}", case.name);
        match fault {
            Fault::Kill => assert_eq!(outcome.status.signal(), Some(Signal::SIGKILL as i32), "{scene}"),
            Fault::Fail(errno) => self.assert_failed_well(case.then, errno, outcome, &scene),
        }
        self.assert_can_be_repeated(case.then, &scene);
    }

    /// A step that is not needed may fail. Otherwise the failure is temporary and says why.
    fn assert_failed_well(&self, then: Then, errno: Errno, outcome: &Outcome, scene: &str) {
        let mounted = self.shell.mounts_on(&self.target);
        if outcome.status.success() {
            let wanted = usize::from(matches!(then, Then::Mount(_)));
            assert_eq!(mounted, wanted, "{scene}");
            return;
        }
        let code = if errno == Errno::ENOSPC { NO_SPACE } else { UNAVAILABLE };
        assert_eq!(outcome.status.code(), Some(code), "{scene}");
        assert!(outcome.stderr.contains(&io::Error::from(errno).to_string()), "{scene}");
        if let Then::Mount(_) = then {
            assert!(mounted == 0 && !self.target.exists(), "{scene}");
        }
    }

    fn assert_can_be_repeated(&self, then: Then, scene: &str) {
        let again = self.command(&self.words(then)).output().map(Outcome::from).unwrap();
        // The volume may not exist any more.
        let done = matches!(then, Then::Unmount) && again.status.code() == Some(NOT_FOUND);
        assert!(again.status.success() || done, "{scene}\n{again:?}");
        let shown = match then {
            Then::Mount(mount) => mount,
            // Whatever was swept, the commit can be mounted.
            _ => {
                assert_eq!(self.shell.mounts_on(&self.target), 0, "{scene}");
                self.succeed(&self.mount(FIRST), scene);
                FIRST
            }
        };
        assert_eq!(self.shell.mounts_on(&self.target), 1, "{scene}");
        if shown.keeps {
            assert_clean(&self.target);
            assert_whole(&self.target, &self.repository, &self.commits[shown.commit], 1);
        } else if shown.lfs {
            self.trees_of_objects[shown.commit].assert_is(&self.target);
        } else {
            self.trees[if shown.subdirectory == "." { shown.commit } else { 2 + shown.commit }].assert_is(&self.target);
        }
        self.succeed(&self.words(Then::Unmount), scene);
        if shown.subdirectory != "." {
            self.succeed(&self.mount(Mount { subdirectory: ".", ..shown }), scene);
            self.trees[shown.commit].assert_is(&self.target);
            self.succeed(&self.words(Then::Unmount), scene);
        }
        let swept = self.succeed(&["sweep".into(), "--json".into()], scene);
        assert!(swept.stdout.contains("\"failures\":[]"), "{scene}\n{swept:?}");
        assert_eq!(self.shell.leftovers(), [] as [PathBuf; 0], "{scene}");
    }

    fn words(&self, then: Then) -> Vec<String> {
        match then {
            Then::Mount(mount) => self.mount(mount),
            Then::Unmount => vec!["unmount".into(), self.target.display().to_string()],
            Then::SweepAll => vec!["sweep".into(), "--unreferenced".into()],
            Then::Sweep | Then::SweepAbandoned => vec!["sweep".into()],
        }
    }

    fn mount(&self, mount: Mount) -> Vec<String> {
        let target = self.target.display().to_string();
        let revision = format!("--revision={}", self.commits[mount.commit]);
        let subdirectory = format!("--subdirectory={}", mount.subdirectory);
        let writable = mount.writable.map(|copy| format!("--writable={copy}"));
        let keeps = mount.keeps.then(|| "--git-dir=keep".to_owned());
        ["mount".into(), self.server.url(&self.repository), target, revision, subdirectory]
            .into_iter()
            .chain(writable)
            .chain(mount.recursive.then(|| "--submodules=recursive".to_owned()))
            .chain(keeps)
            .chain(mount.lfs.then(|| "--lfs".to_owned()))
            .collect()
    }

    fn command(&self, words: &[String]) -> Command {
        self.shell.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn succeed(&self, words: &[String], scene: &str) -> Outcome {
        let outcome = self.command(words).output().map(Outcome::from).unwrap();
        assert!(outcome.status.success(), "{scene}\n{words:?}: {outcome:?}");
        outcome
    }
}

/// Runs with both formats, of which the second tries only what the first did not.
fn in_both_formats(fault: Fault) {
    if !require::feature(steps::available(), "notifications of system calls, or another program has them") {
        return;
    }
    let (mut tried, mut is_complete) = (BTreeSet::new(), true);
    for format in [Format::Image, Format::Directory] {
        match Scene::new(format) {
            Some(mut scene) => scene.run(fault, &mut tried),
            None => is_complete = false,
        }
    }
    assert!(!is_complete || tried.len() > FEW, "only {} kinds of steps", tried.len());
}

#[test]
fn a_command_killed_at_any_step_can_be_repeated() {
    in_both_formats(Fault::Kill);
}

#[test]
fn a_command_that_fails_at_any_step_is_undone_and_can_be_repeated() {
    for name in std::env::var(ERRORS).as_deref().unwrap_or("EIO").split_whitespace() {
        let errors = [Errno::EIO, Errno::ENOSPC, Errno::EROFS];
        let errno = errors.into_iter().find(|errno| format!("{errno:?}") == name);
        in_both_formats(Fault::Fail(errno.unwrap_or_else(|| panic!("{ERRORS} names {name}"))));
    }
}

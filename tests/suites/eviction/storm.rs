//! An eviction storm: the budget holds two snapshots, and clients in two mount namespaces use many more commits. Every
//! mounted tree stays whole, no call fails, and the disk stays below its mark.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::random;
use gitrepo_tests::random::Random;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::files_below;
use nix::sched::CloneFlags;
use nix::sys::statvfs::statvfs;

/// How many seconds the storm lasts, and how many clients there are.
const SECONDS: &str = "GITREPO_TEST_STORM_SECONDS";
const CLIENTS: &str = "GITREPO_TEST_STORM_CLIENTS";

/// Bytes of a commit's content.
const SIZE: usize = 1 << 20;

const COMMITS: usize = 5;

/// How often a client reads a tree while it is mounted.
const READINGS: usize = 4;

/// What a client may take at once: the tree that it shows, and a fetch with its pack, its segment and the tree made of it.
const PER_CLIENT: u64 = 4 * SIZE as u64;

/// What the file system and the store's small files take.
const SLACK: u64 = 4 << 20;

struct Storm {
    shell: Shell,
    server: HttpServer,
    /// Each with its commits.
    repositories: Vec<(Repository, Vec<String>)>,
    clients: usize,
    ends: Instant,
    budget: u64,
    /// The largest number of bytes that were taken at any time.
    most: AtomicU64,
    /// How often a tree was mounted and read.
    mounts: AtomicU64,
    taken_before: u64,
}

/// The content of a commit's file.
fn noise(repository: usize, commit: usize) -> Vec<u8> {
    fixtures::noise(u64::try_from(repository * COMMITS + commit + 1).unwrap(), SIZE)
}

fn a_storm_of_evictions_harms_no_mounted_tree(format: Format) {
    let clients = usize::try_from(random::from_environment(CLIENTS, 4)).unwrap();
    let disk = (64 << 20) + u64::try_from(clients).unwrap() * 2 * PER_CLIENT;
    let Some(shell) = Shell::new_with(disk, format) else { return };
    let mut server = None;
    // More commits than could be kept, in repositories of which some are idle at any time.
    let repositories: Vec<_> = (0..clients + 2)
        .map(|repository| {
            let made = Repository::new(&format!("storm-{repository}"));
            let commits = (0..COMMITS)
                .map(|commit| {
                    let files = Files::new().file("noise", noise(repository, commit)).file("few", "bytes\n");
                    made.commit("main", &files)
                })
                .collect();
            server.get_or_insert_with(|| HttpServer::start(&made)).add(&made);
            (made, commits)
        })
        .collect();
    // A directory takes its content twice: in the segment and in the tree.
    let times = if format == Format::Image { 1 } else { 2 };
    let budget = 2 * times * u64::try_from(SIZE).unwrap() + (128 << 10);
    shell.configure(&format!(r#"{{"cache": {{"reserveBytes": "0", "maxBytes": {budget}}}}}"#));
    let seed = random::seed();
    let length = Duration::from_secs(random::from_environment(SECONDS, 8));
    let mut storm = Storm {
        server: server.unwrap(),
        repositories,
        clients,
        ends: Instant::now(),
        budget,
        most: AtomicU64::new(0),
        mounts: AtomicU64::new(0),
        taken_before: 0,
        shell,
    };
    storm.taken_before = storm.taken();
    // The store is there for all.
    storm.client(0, Random(seed));
    storm.ends = Instant::now() + length;
    storm.run(seed);
    storm.assert_calm();
}

impl Storm {
    fn run(&self, seed: u64) {
        std::thread::scope(|scope| {
            for namespace in 0..2 {
                scope.spawn(move || {
                    if namespace == 1 {
                        nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
                    }
                    std::thread::scope(|scope| {
                        for client in (namespace..self.clients).step_by(2) {
                            let random = Random(seed ^ u64::try_from(client).unwrap() << 32);
                            scope.spawn(move || self.client(client, random));
                        }
                        scope.spawn(|| self.sweep());
                    });
                });
            }
        });
    }

    /// Mounts commits and reads them, until the storm is over.
    fn client(&self, client: usize, mut random: Random) {
        let target = self.shell.target(&format!("client-{client}"));
        let mut rounds = 0;
        while rounds == 0 || Instant::now() < self.ends {
            let (repository, commit) = (random.below(self.repositories.len()), random.below(COMMITS));
            let (made, commits) = &self.repositories[repository];
            let revision = format!("--revision={}", commits[commit]);
            self.shell.mount(&self.server.url(made), &target, &[&revision]).assert_success();
            for _ in 0..READINGS {
                assert_whole(&target, repository, commit);
                self.most.fetch_max(self.taken(), Ordering::Relaxed);
                std::thread::yield_now();
            }
            self.shell.unmount(&target).assert_success();
            rounds += 1;
            self.mounts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sweep(&self) {
        while Instant::now() < self.ends {
            self.shell.run(&["sweep"]).assert_success();
        }
    }

    /// Bytes that are taken on the file system.
    fn taken(&self) -> u64 {
        let space = statvfs(self.shell.home()).unwrap();
        let taken = (space.blocks() - space.blocks_free()) * space.fragment_size();
        taken.saturating_sub(self.taken_before)
    }

    /// After the storm, nothing is left over, and the store keeps to its budget.
    fn assert_calm(&self) {
        let most = self.most.load(Ordering::Relaxed);
        let mark = self.budget + u64::try_from(self.clients).unwrap() * PER_CLIENT + SLACK;
        let mounts = self.mounts.load(Ordering::Relaxed);
        writeln!(io::stderr(), "{mounts} mounts; {most} bytes were taken, the mark is {mark}")
            .expect("standard error is open");
        assert!(most <= mark, "{most} bytes were taken; the mark is {mark}");
        self.shell.run(&["sweep"]).assert_success();
        assert_eq!(self.shell.leftovers(), [] as [std::path::PathBuf; 0]);
        let mut seen = BTreeSet::new();
        let places = ["snapshots", "repositories"].map(|place| self.shell.store().join(place));
        let files = places.iter().flat_map(|place| files_below(place)).map(|file| file.metadata().unwrap());
        let left: u64 = files.filter(|file| seen.insert(file.ino())).map(|file| file.len()).sum();
        assert!(left <= self.budget + (64 << 10), "{left} bytes are left, more than {}", self.budget);
        // A tree of plain files may stay without the segment that it was made from.
        let snapshots = u64::try_from(entries(&places[0]).len()).unwrap();
        assert!(snapshots <= self.budget / SIZE as u64 + 1, "{snapshots} commits are left");
    }
}

/// Reads every byte.
fn assert_whole(target: &Path, repository: usize, commit: usize) {
    let names: BTreeSet<_> = entries(target).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["few", "noise"].map(Into::into).into());
    assert!(fs::read(target.join("noise")).unwrap() == noise(repository, commit), "the content is another one");
    assert_eq!(fs::read(target.join("few")).unwrap(), b"bytes\n");
}

mod directories {
    #[test]
    fn a_storm_of_evictions_harms_no_mounted_tree() {
        super::a_storm_of_evictions_harms_no_mounted_tree(gitrepo_tests::snapshot_format::Format::Directory);
    }
}

mod images {
    #[test]
    fn a_storm_of_evictions_harms_no_mounted_tree() {
        super::a_storm_of_evictions_harms_no_mounted_tree(gitrepo_tests::snapshot_format::Format::Image);
    }
}

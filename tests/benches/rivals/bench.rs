//! The place of the contest: filesystem, server, turns and measures.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use gitrepo_tests::bench::in_use::InUse;
use gitrepo_tests::bench::machine::Machine;
use gitrepo_tests::bench::results::Case;
use gitrepo_tests::bench::results::Results;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::results::Series;
use gitrepo_tests::bench::usage;
use gitrepo_tests::bench::usage::Commands;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::program;
use gitrepo_tests::repository::Repository;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;
use serde_json::json;

use crate::Arguments;
use crate::contender::Contender;

/// Sparse: it takes what the contenders write.
const FILESYSTEM: u64 = 24 << 30;

/// A command and its arguments.
pub(crate) type Words = Vec<String>;

/// See the module.
pub(crate) struct Bench {
    /// How often each contender runs.
    pub(crate) rounds: usize,
    /// The contenders that can run here.
    pub(crate) contenders: Vec<Contender>,
    /// git-sync, if it is a contender.
    pub(crate) git_sync: PathBuf,
    cli: PathBuf,
    server: HttpServer,
    filesystem: LoopFs,
    cache: PathBuf,
    divide: usize,
    results: Results,
}

/// A case that is being measured.
pub(crate) struct Turns {
    case: Case,
}

impl Bench {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let cli = program::executable("gitrepo-cli");
        let filesystem = LoopFs::complete_in(&arguments.out, FILESYSTEM);
        let mut contenders = Contender::ALL.to_vec();
        contenders.retain(|contender| *contender != Contender::GitSync || arguments.git_sync.is_some());
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let machine = Machine::this("a fresh ext4 on a loop device", &workspace);
        let bench = Self {
            rounds: arguments.rounds,
            contenders,
            git_sync: arguments.git_sync.clone().unwrap_or_default(),
            cli,
            server: HttpServer::builder().start(),
            filesystem,
            cache: arguments.out.join("repositories"),
            divide: arguments.divide,
            results: Results { machine, rounds: arguments.rounds, cases: Vec::new() },
        };
        for (format, ttl) in [("image", "1h"), ("directory", "1h"), ("image", "0s"), ("directory", "0s")] {
            let configuration = json!({ "snapshotFormat": format, "cache": { "accessTtl": ttl } });
            fs::write(bench.configuration(format, ttl == "0s"), configuration.to_string()).unwrap();
        }
        bench
    }

    pub(crate) fn into_results(self) -> Results {
        self.results
    }

    /// The repository of a workload, divided as the user asked, and its URL.
    pub(crate) fn serve(&self, workload: Workload) -> (Repository, Workload, String) {
        let workload = if self.divide > 1 { workload.divided(self.divide) } else { workload };
        eprintln!("repository {workload}");
        let repository = workload.repository(&self.cache);
        self.server.add(&repository);
        let url = self.server.url(&repository);
        (repository, workload, url)
    }

    /// The configuration file of a format; with proofs of access that are stale at once.
    pub(crate) fn configuration(&self, format: &str, stale: bool) -> PathBuf {
        self.place(&format!("{format}{}.json", if stale { "-stale" } else { "" }))
    }

    /// A path on the filesystem.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.filesystem.path().join(name)
    }

    /// `gitrepo-cli` with arguments.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Words {
        [text(&self.cli)].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
    }

    /// Reads all files of a directory.
    pub(crate) fn reader(&self, directory: &Path) -> Words {
        [text(&std::env::current_exe().unwrap()), usage::READ, text(directory)].map(str::to_owned).into()
    }

    /// Measures commands that start together. In round 0 it watches the memory of all processes, which takes time, so that
    /// round's other figures are not counted.
    pub(crate) fn measure(&self, round: usize, commands: Vec<Words>) -> Result<(Sample, Option<u64>), String> {
        self.sync();
        let (before, sent, server) = (self.in_use(), self.server.bytes_sent(), everything());
        let usage = Commands { commands, watched: round == 0 }.measure(&BTreeMap::new())?;
        let begun = Instant::now();
        self.sync();
        let durable = usage.wall + begun.elapsed().as_secs_f64();
        self.server.settle();
        let after = self.in_use();
        let sample = Sample {
            wall: usage.wall,
            durable,
            cpu: usage.cpu,
            server_cpu: (everything() - server - usage.cpu).max(0.0),
            memory: usage.largest,
            wire: self.server.bytes_sent() - sent,
            disk: after.bytes.cast_signed() - before.bytes.cast_signed(),
            inodes: after.inodes.cast_signed() - before.inodes.cast_signed(),
        };
        Ok((sample, usage.together))
    }

    /// Runs a command that prepares or cleans up.
    pub(crate) fn run(&self, words: &[String]) {
        git::output(Command::new(&words[0]).args(&words[1..]).env_clear().envs(git::environment()));
    }

    /// Removes a directory of the filesystem in which nothing is mounted.
    pub(crate) fn remove(&self, directory: &Path) {
        assert!(directory.starts_with(self.filesystem.path()), "{}", directory.display());
        git::output(Command::new("rm").args(["-rf", "--one-file-system"]).arg(directory));
    }

    /// Drops the kernel's caches, then loads the program that reads: its own start is not part of the case.
    pub(crate) fn cool(&self, reader: &[String]) {
        self.sync();
        fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        self.run(&[&reader[0], "--help"].map(str::to_owned));
    }

    fn sync(&self) {
        nix::unistd::syncfs(File::open(self.filesystem.path()).unwrap()).unwrap();
    }

    fn in_use(&self) -> InUse {
        InUse::of(self.filesystem.path())
    }

    /// Rounds 0 to `rounds`, and in each the contenders in an order of its own.
    pub(crate) fn turns<C: Copy>(rounds: usize, contenders: &[C]) -> impl Iterator<Item = (usize, C)> {
        let count = contenders.len();
        (0..=rounds).flat_map(move |round| (0..count).map(move |turn| (round, contenders[(turn + round) % count])))
    }

    /// Begins a case.
    pub(crate) fn case(key: &str, title: &str, rivals: &[&str]) -> Turns {
        let rivals = rivals.iter().map(|rival| (*rival).to_owned()).collect();
        Turns { case: Case { key: key.to_owned(), title: title.to_owned(), rivals, series: Vec::new() } }
    }

    /// Ends a case.
    pub(crate) fn finish(&mut self, turns: Turns) {
        if !turns.case.series.is_empty() {
            eprintln!("measured {}", turns.case.key);
            self.results.cases.push(turns.case);
        }
    }
}

impl Turns {
    /// Keeps what a contender took in a round. Returns whether it could do it.
    pub(crate) fn add(&mut self, contender: &str, round: usize, taken: Result<(Sample, Option<u64>), String>) -> bool {
        let series = self.series(contender);
        match taken {
            Ok((_, together)) if round == 0 => series.together = together,
            Ok((sample, _)) => series.samples.push(sample),
            Err(why) => {
                series.unavailable =
                    why.lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
                series.samples.clear();
                return false;
            }
        }
        true
    }

    fn series(&mut self, contender: &str) -> &mut Series {
        let all = &mut self.case.series;
        let index = all.iter().position(|series| series.contender == contender).unwrap_or_else(|| {
            all.push(Series {
                contender: contender.to_owned(),
                ours: contender.starts_with("gitrepo"),
                samples: Vec::new(),
                together: None,
                unavailable: None,
            });
            all.len() - 1
        });
        &mut all[index]
    }
}

/// Processor seconds of this process and of all that it has waited for: servers, and contenders.
fn everything() -> f64 {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .map(|who| usage::processor(&getrusage(who).unwrap()))
        .iter()
        .sum()
}

/// A path in an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

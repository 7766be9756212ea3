//! `cargo bench -p gitrepo-tests --bench publish`: compares `gitrepo-cli` with `git clone --depth 1` in one run, on one
//! fresh ext4, as root.
//!
//! Contenders take turns, so that a slow moment of the machine affects all of them; compare ratios, not seconds. An
//! argument sets the number of files (default: 3,000): `cargo bench -p gitrepo-tests --bench publish -- 30000`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is run by hand")]

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::namespace;
use gitrepo_tests::program;
use gitrepo_tests::require;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;

const ROUNDS: usize = 7;
const MEASURE: &str = "measure";

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == MEASURE) {
        return measure(&arguments[1..]);
    }
    if !require::root("mounts a fresh filesystem") {
        return;
    }
    let files = arguments.iter().find_map(|argument| argument.to_str()?.parse().ok()).unwrap_or(3000);
    namespace::private_mounts();
    let filesystem = LoopFs::new(8 << 30);
    let repository = fixtures::many(files);
    let server = HttpServer::start(&repository);
    let bench = Bench { url: server.url(&repository), place: filesystem.path().to_owned() };

    println!("{files} files over HTTP on the loopback, {ROUNDS} rounds, contenders in turn\n");
    let contenders: [Contender; 4] = [
        ("git clone --depth 1", Bench::git_clone),
        ("gitrepo-cli clone", Bench::clone),
        ("gitrepo-cli mount, miss", Bench::mount_miss),
        ("gitrepo-cli mount, hit", Bench::mount_hit),
    ];
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    // Round 0 warms the caches and is not counted.
    for round in 0..=ROUNDS {
        for (kept, (_, run)) in samples.iter_mut().zip(&contenders) {
            let sample = run(&bench, round);
            if round > 0 {
                kept.push(sample);
            }
        }
    }
    report(&contenders.map(|(name, _)| name), &samples);
}

/// A contender's name and one round of it.
type Contender = (&'static str, fn(&Bench, usize) -> Sample);

struct Bench {
    url: String,
    place: PathBuf,
}

#[derive(Clone, Copy)]
struct Sample {
    wall: Duration,
    peak_kib: i64,
}

impl Bench {
    fn git_clone(&self, round: usize) -> Sample {
        let target = self.place.join(format!("git-{round}"));
        let sample = run("git".as_ref(), &["clone", "--quiet", "--depth", "1", &self.url, text(&target)]);
        Command::new("rm").arg("-rf").arg(&target).status().unwrap();
        sample
    }

    fn clone(&self, round: usize) -> Sample {
        let target = self.place.join(format!("clone-{round}"));
        let sample = run(&cli(), &["clone", &self.url, text(&target)]);
        Command::new("rm").arg("-rf").arg(&target).status().unwrap();
        sample
    }

    fn mount_miss(&self, round: usize) -> Sample {
        let (store, target) = (self.place.join(format!("store-{round}")), self.place.join("miss"));
        let sample = run(&cli(), &["mount", &self.url, text(&target), "--store", text(&store)]);
        run(&cli(), &["unmount", text(&target), "--store", text(&store)]);
        Command::new("rm").arg("-rf").arg(&store).status().unwrap();
        sample
    }

    /// A full commit id with a fresh proof, like every pod of a rollout except the first.
    fn mount_hit(&self, round: usize) -> Sample {
        let (store, target) = (self.place.join("store"), self.place.join("hit"));
        let commit = git::line(Command::new("git").args(["ls-remote", &self.url, "HEAD"]));
        let commit = commit.split_whitespace().next().unwrap().to_owned();
        if round == 0 {
            let first = self.place.join("first");
            run(&cli(), &["mount", &self.url, text(&first), "--store", text(&store), "--revision", &commit]);
        }
        let sample = run(&cli(), &["mount", &self.url, text(&target), "--store", text(&store), "--revision", &commit]);
        run(&cli(), &["unmount", text(&target), "--store", text(&store)]);
        sample
    }
}

fn cli() -> PathBuf {
    program::executable("gitrepo-cli")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command under its own process, so that the peak memory of that process's children is the command's.
fn run(program: &Path, arguments: &[&str]) -> Sample {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(MEASURE).arg(program).args(arguments).envs(git::environment());
    let printed = git::line(&mut command);
    let mut numbers = printed.split_whitespace().map(|number| number.parse::<i64>().unwrap());
    let (Some(nanoseconds), Some(peak_kib)) = (numbers.next(), numbers.next()) else { panic!("{printed}") };
    Sample { wall: Duration::from_nanos(nanoseconds.unsigned_abs()), peak_kib }
}

fn measure(command: &[OsString]) {
    let start = Instant::now();
    let output = Command::new(&command[0]).args(&command[1..]).output().unwrap();
    let wall = start.elapsed();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    println!("{} {}", wall.as_nanos(), getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss());
}

fn report(names: &[&str], samples: &[Vec<Sample>]) {
    println!("| contender | wall, ms: median (range) | git / it: median (range) | peak MiB |");
    println!("|---|---|---|---|");
    for (name, own) in names.iter().zip(samples) {
        let wall = spread(own.iter().map(|sample| sample.wall.as_secs_f64() * 1000.0));
        let pairs = samples[0].iter().zip(own).map(|(git, it)| git.wall.as_secs_f64() / it.wall.as_secs_f64());
        let ratio = spread(pairs);
        let peak = own.iter().map(|sample| sample.peak_kib).max().unwrap() / 1024;
        println!(
            "| {name} | {:.0} ({:.0}–{:.0}) | {:.1} ({:.1}–{:.1}) | {peak} |",
            wall.1, wall.0, wall.2, ratio.1, ratio.0, ratio.2
        );
    }
}

/// Minimum, median and maximum.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2], values[values.len() - 1])
}

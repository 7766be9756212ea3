//! `make bench`: this project beside the other ways to get a commit's tree onto a node, in one run, on one fresh ext4,
//! as root.
//!
//! Contenders take turns, and another one begins each round, so that a slow moment of the machine affects all of them:
//! compare ratios, not seconds. Round 0 warms the caches and measures the memory of all processes together; it is not
//! counted. git does not wait until its files are on disk and we do, so each sample also has the time until all is on
//! disk.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is run by hand")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is run by hand")]

mod bench;
mod contender;
mod driver;
mod hits;
mod hundred;
mod life;
mod neighbour;
mod new_commit;
mod pods;
mod reading;
mod subdirectory;
mod view;
mod workspaces;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use clap::Parser;
use gitrepo_tests::bench::goals;
use gitrepo_tests::bench::plot;
use gitrepo_tests::bench::results::Results;
use gitrepo_tests::bench::tables;
use gitrepo_tests::bench::usage;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::require;

use bench::Bench;

/// The cases that are plotted.
const PLOTTED: [&str; 6] = ["miss-small", "miss-large", "miss-history", "new-commit", "hundred-same", "driver-hundred"];

/// A name and what measures it.
type Group = (&'static str, fn(&mut Bench));

/// Groups of cases, in the order in which they run and are reported.
const GROUPS: [Group; 13] = [
    ("small", |bench| life::run(bench, Workload::SMALL, true)),
    ("large", |bench| life::run(bench, Workload::LARGE, true)),
    ("refs", |bench| life::run(bench, Workload::REFS, false)),
    ("history", |bench| life::run(bench, Workload::HISTORY, false)),
    ("read", reading::run),
    ("hits", hits::run),
    ("commit", new_commit::run),
    ("view", view::run),
    ("subdirectory", subdirectory::run),
    ("hundred", hundred::run),
    ("driver", driver::run),
    ("neighbour", neighbour::run),
    ("workspaces", workspaces::run),
];

/// Compares gitrepo with the other ways to get a commit's tree onto a node.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each contender runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Groups of cases: small, large, refs, history, read, hits, commit, view, subdirectory, hundred, driver,
    /// neighbour, workspaces [default: all]
    #[arg(long, value_delimiter = ' ')]
    cases: Vec<String>,
    /// The program git-sync, as a further contender
    #[arg(long)]
    git_sync: Option<PathBuf>,
    /// Directory for results, generated repositories and the filesystem
    #[arg(long)]
    out: PathBuf,
    /// Divides the size of the repositories, to try something quickly
    #[arg(long, default_value_t = 1)]
    divide: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    if usage::serve(&std::env::args().skip(1).collect::<Vec<_>>()) {
        return;
    }
    let mut arguments = Arguments::parse();
    arguments.cases.retain(|group| !group.is_empty());
    for group in &arguments.cases {
        assert!(GROUPS.iter().any(|(name, _)| name == group), "there are no cases {group:?}: see --help");
    }
    assert!(arguments.rounds > 0 && arguments.divide > 0, "--rounds and --divide begin at 1");
    if !require::root("to mount") || !require::tool("mkfs.ext4") {
        return;
    }
    fs::create_dir_all(&arguments.out).unwrap();
    let mut bench = Bench::new(&arguments);
    for (name, run) in GROUPS {
        if arguments.cases.is_empty() || arguments.cases.iter().any(|group| group == name) {
            run(&mut bench);
        }
    }
    let results = bench.into_results();
    if arguments.cases.is_empty() {
        goals::cases()
            .for_each(|key| assert!(results.case(key).is_some(), "a goal is about {key}, which was not measured"));
    }
    report(&results, &arguments.out);
}

fn report(results: &Results, out: &Path) {
    let (summary, goals) = (tables::summary(results), tables::goals(results));
    let whole = format!("# Benchmarks\n\n{summary}\n## Goals\n\n{goals}\n## Cases\n\n{}", tables::details(results));
    println!("{whole}");
    let json = serde_json::to_string_pretty(results).unwrap();
    for (name, text) in [
        ("bench.json", json),
        ("bench.md", whole),
        ("summary.md", summary),
        ("bench.svg", plot::svg(results, &PLOTTED)),
    ] {
        fs::write(out.join(name), text).unwrap();
    }
}

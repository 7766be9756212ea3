//! `cargo bench -p gitrepo-tests --bench resolve`: compares `gitrepo-cli resolve` with `git ls-remote`, for one branch
//! among 50,000 refs.
//!
//! Contenders take turns. Fails if we send more than 1.5 times git's bytes, or take more than 1.5 times its time. An argument
//! sets the number of refs.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is run by hand")]

use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::program;

const ROUNDS: usize = 15;
const MOST: f64 = 1.5;
const BRANCH: &str = "refs/heads/main";

struct Contender {
    name: &'static str,
    /// The arguments follow; the URL comes before the last.
    command: Vec<String>,
    samples: Vec<(Duration, u64)>,
}

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(50_000);
    let (repository, commit) = fixtures::small();
    repository.add_refs(count, &commit);
    let server = HttpServer::start(&repository);
    let url = server.url(&repository);
    let cli = program::executable("gitrepo-cli").display().to_string();
    let contender = |name, words: &[&str]| Contender {
        name,
        command: words.iter().map(|word| (*word).to_owned()).chain([url.clone(), BRANCH.to_owned()]).collect(),
        samples: Vec::new(),
    };
    let mut contenders = [
        contender("git ls-remote", &["git", "ls-remote"]),
        contender("git -c protocol.version=0 ls-remote", &["git", "-c", "protocol.version=0", "ls-remote"]),
        contender("gitrepo-cli resolve", &[&cli, "resolve"]),
    ];
    println!("one branch of {count} refs over HTTP on the loopback, {ROUNDS} rounds, contenders in turn\n");
    // Round 0 warms the caches and is not counted.
    for round in 0..=ROUNDS {
        for contender in &mut contenders {
            let before = server.bytes_sent();
            let begun = Instant::now();
            let mut command = Command::new(&contender.command[0]);
            let printed = git::line(command.args(&contender.command[1..]).envs(git::environment()));
            let sample = (begun.elapsed(), server.bytes_sent() - before);
            assert!(printed.starts_with(&commit), "{printed}");
            if round > 0 {
                contender.samples.push(sample);
            }
        }
    }
    println!("| contender | wall, ms: median (range) | bytes received |");
    println!("|---|---|---|");
    for Contender { name, samples, .. } in &mut contenders {
        samples.sort_unstable();
        let milliseconds = |index: usize| samples[index].0.as_secs_f64() * 1000.0;
        println!(
            "| {name} | {:.1} ({:.1}–{:.1}) | {} |",
            milliseconds(ROUNDS / 2),
            milliseconds(0),
            milliseconds(ROUNDS - 1),
            samples[0].1
        );
    }
    let [(git_time, git_bytes), _, (time, bytes)] = contenders.map(|contender| contender.samples[ROUNDS / 2]);
    let ratios = [time.as_secs_f64() / git_time.as_secs_f64(), bytes as f64 / git_bytes as f64];
    println!("\nours / git's: time {:.2}, bytes {:.2}", ratios[0], ratios[1]);
    assert!(ratios.iter().all(|ratio| *ratio <= MOST), "more than {MOST} times git's");
}

//! `cargo bench -p gitrepo-tests --bench large_blob`: publishes a file of 5 GB, and fails if one of our processes needs
//! 100 MiB for that. Needs root and some 16 GB in the temporary directory, which it removes.
//!
//! An argument sets the size of the file in MB: `cargo bench -p gitrepo-tests --bench large_blob -- 500`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark is run by hand")]

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::fixtures;
use gitrepo_tests::git;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::namespace;
use gitrepo_tests::process;
use gitrepo_tests::process::Memory;
use gitrepo_tests::program;
use gitrepo_tests::repository::RawEntry;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::require;
use tempfile::TempDir;

const MEGABYTE: u64 = 1_000_000;
/// Of one process, in KiB.
const MOST: u64 = 100 * 1024;
/// Between two looks at the processes.
const PACE: Duration = Duration::from_millis(20);

fn main() {
    if !require::root("mounts") {
        return;
    }
    let megabytes: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5000);
    namespace::private_mounts();
    let repository = Repository::new("large");
    // Stored as it is: to compress so much takes minutes, and gains nothing.
    repository.configure("core.looseCompression", "0");
    repository.configure("core.bigFileThreshold", "1m");
    repository.configure("pack.compression", "0");
    let noise = fixtures::noise(1, 64 << 20);
    let blob = write_blob(&repository, &noise, megabytes * MEGABYTE);
    let tree = repository.raw_tree(&[RawEntry("100644", b"large", &blob)]);
    repository.set_branch("main", &repository.commit_tree(&tree));
    let server = HttpServer::start(&repository);

    let place = TempDir::with_prefix("gitrepo-large-").unwrap();
    let (store, target) = (place.path().join("store"), place.path().join("target"));
    let mut command = Command::new(program::executable("gitrepo-cli"));
    command.args(["mount", &server.url(&repository)]).arg(&target).arg("--store").arg(&store);
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peaks: BTreeMap<u32, Memory> = BTreeMap::new();
    let status = loop {
        for pid in process::with_descendants(child.id()) {
            if let Some(now) = Memory::of(pid) {
                let peak = peaks.entry(pid).or_default();
                *peak = Memory { all: peak.all.max(now.all), anonymous: peak.anonymous.max(now.anonymous) };
            }
        }
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(PACE),
        }
    };
    assert!(status.success(), "{status}");
    println!("a file of {megabytes} MB over HTTP on the loopback: published in {:.0} s", begun.elapsed().as_secs_f64());
    assert!(is_noise(&target.join("large"), &noise, megabytes * MEGABYTE), "the file is another one");
    let mut unmount = Command::new(program::executable("gitrepo-cli"));
    git::output(unmount.arg("unmount").arg(&target).arg("--store").arg(&store));
    for Memory { all, anonymous } in peaks.values() {
        println!("a process had at most {all} KiB of memory, of which {anonymous} KiB its own, and the rest files");
    }
    assert!(peaks.len() >= 2, "the worker was not seen");
    assert!(peaks.values().all(|peak| peak.all < MOST), "more than {MOST} KiB");
}

/// Stores a blob of noise that repeats after 64 MiB, further than compression looks back.
fn write_blob(repository: &Repository, noise: &[u8], bytes: u64) -> String {
    let path = repository.root().join("content");
    let mut file = File::create(&path).unwrap();
    let mut left = bytes;
    while left > 0 {
        let length = noise.len().min(usize::try_from(left).unwrap());
        file.write_all(&noise[..length]).unwrap();
        left -= length as u64;
    }
    drop(file);
    let id = git::line(&mut repository.git(["hash-object", "-w", "--no-filters", "../content"]));
    fs::remove_file(path).unwrap();
    id
}

fn is_noise(path: &Path, noise: &[u8], bytes: u64) -> bool {
    let mut file = File::open(path).unwrap();
    let mut part = vec![0; noise.len()];
    let mut left = bytes;
    while left > 0 {
        let length = noise.len().min(usize::try_from(left).unwrap());
        file.read_exact(&mut part[..length]).unwrap();
        if part[..length] != noise[..length] {
            return false;
        }
        left -= length as u64;
    }
    file.read(&mut part).unwrap() == 0
}

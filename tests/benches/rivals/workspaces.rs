//! Writable workspaces of a large repository, a hundred at once, without and with `.git`, on a node that has its content.

use std::path::Path;
use std::time::Instant;

use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::goals::SHALLOW;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::git;
use gitrepo_tests::kubelet::csi::Volume;

use crate::bench::Bench;
use crate::contender::Contender;
use crate::pods::Pods;

const WORKSPACES: usize = 100;

pub(crate) fn run(bench: &mut Bench) {
    let (_repository, workload, url) = bench.serve(Workload::LARGE);
    let title = format!("{WORKSPACES} writable workspaces at once, {}", workload.describe());
    let mut without = Bench::case("workspaces", &title, &[]);
    let mut with = Bench::case("workspaces-git", &format!("{title}, with .git"), &[]);
    let first = "`git status` of them, the first in each; for git, in a fresh clone";
    let mut status = Bench::case("workspaces-status", &format!("the median {first}"), &[SHALLOW]);
    let mut slowest = Bench::case("workspaces-status-slowest", &format!("the slowest {first}"), &[SHALLOW]);
    // Round 0 also brings the content.
    let pods = workspaces(&url, "omit");
    for round in 0..=bench.rounds {
        let published = pods.as_ref().map_err(ToOwned::to_owned).and_then(Pods::hit);
        if !without.add(IMAGE, round, published) {
            break;
        }
    }
    drop(pods);
    let place = Contender::Shallow.place(bench, "workspaces");
    bench.run(&Contender::Shallow.get(bench, &url, "main", &place));
    let clone = Contender::Shallow.tree(&place);
    let pods = workspaces(&url, "keep");
    for round in 0..=bench.rounds {
        let published = pods.as_ref().map_err(ToOwned::to_owned).and_then(Pods::publish);
        if !with.add(IMAGE, round, published) {
            break;
        }
        if let Ok(pods) = &pods {
            let mut taken: Vec<_> = pods.targets().map(|target| first_status(&target)).collect();
            taken.sort_unstable_by(f64::total_cmp);
            for (turns, ours) in [(&mut status, taken[taken.len() / 2]), (&mut slowest, taken[taken.len() - 1])] {
                turns.add(IMAGE, round, Ok(sample(ours)));
                forget_names();
                turns.add(SHALLOW, round, Ok(sample(first_status(&clone))));
            }
            pods.unpublish().unwrap();
        }
    }
    bench.remove(&place);
    for turns in [without, with, status, slowest] {
        bench.finish(turns);
    }
}

fn workspaces(url: &str, git_dir: &str) -> Result<Pods, String> {
    let attributes =
        [("repository", url), ("revision", "main"), ("directory", "."), ("writable", "private"), ("gitDir", git_dir)];
    Pods::new("image", Volume::inline("work", &attributes), WORKSPACES)
}

fn sample(wall: f64) -> (Sample, Option<u64>) {
    (Sample { wall, ..Sample::default() }, None)
}

/// Makes the kernel forget the names and inodes of files, as of files that nobody has looked at.
fn forget_names() {
    std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// How long `git status` takes, in seconds. It has to find nothing.
fn first_status(workspace: &Path) -> f64 {
    let begun = Instant::now();
    let mut command = git::command(workspace);
    let output = git::output(command.args(["-c", "safe.directory=*", "status", "--porcelain"]));
    let taken = begun.elapsed().as_secs_f64();
    assert!(output.is_empty(), "{}: {}", workspace.display(), String::from_utf8_lossy(&output));
    taken
}

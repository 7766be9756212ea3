//! Writable workspaces of a large repository, a hundred at once, without and with `.git`, on a node that has its content.

use std::path::Path;
use std::time::Instant;

use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::git;
use gitrepo_tests::kubelet::csi::Volume;

use crate::bench::Bench;
use crate::pods::Pods;

const WORKSPACES: usize = 100;

pub(crate) fn run(bench: &mut Bench) {
    let (_repository, workload, url) = bench.serve(Workload::LARGE);
    let title = format!("{WORKSPACES} writable workspaces at once, {}", workload.describe());
    let mut without = Bench::case("workspaces", &title, &[]);
    let mut with = Bench::case("workspaces-git", &format!("{title}, with .git"), &[]);
    let mut status = Bench::case("workspaces-status", "the slowest `git status` of them, the first in each", &[]);
    // Round 0 also brings the content.
    let pods = workspaces(&url, "omit");
    for round in 0..=bench.rounds {
        let published = pods.as_ref().map_err(ToOwned::to_owned).and_then(Pods::hit);
        if !without.add(IMAGE, round, published) {
            break;
        }
    }
    drop(pods);
    let pods = workspaces(&url, "keep");
    for round in 0..=bench.rounds {
        let published = pods.as_ref().map_err(ToOwned::to_owned).and_then(Pods::publish);
        if !with.add(IMAGE, round, published) {
            break;
        }
        if let Ok(pods) = &pods {
            status.add(IMAGE, round, Ok(slowest_status(pods)));
            pods.unpublish().unwrap();
        }
    }
    for turns in [without, with, status] {
        bench.finish(turns);
    }
}

fn workspaces(url: &str, git_dir: &str) -> Result<Pods, String> {
    let attributes =
        [("repository", url), ("revision", "main"), ("directory", "."), ("writable", "private"), ("gitDir", git_dir)];
    Pods::new("image", Volume::inline("work", &attributes), WORKSPACES)
}

fn slowest_status(pods: &Pods) -> (Sample, Option<u64>) {
    let wall = pods.targets().map(|target| status(&target)).fold(0.0, f64::max);
    (Sample { wall, ..Sample::default() }, None)
}

/// How long `git status` takes, in seconds. It has to find nothing.
fn status(workspace: &Path) -> f64 {
    let begun = Instant::now();
    let mut command = git::command(workspace);
    let output = git::output(command.args(["-c", "safe.directory=*", "status", "--porcelain"]));
    let taken = begun.elapsed().as_secs_f64();
    assert!(output.is_empty(), "{}: {}", workspace.display(), String::from_utf8_lossy(&output));
    taken
}

//! Volumes of one commit through `gitrepo-csi`, as pods ask for them, on a node that has nothing of the repository: one,
//! and a hundred at once; and of one that it has. The driver is one process, however many pods ask.

use gitrepo_tests::bench::goals::DIRECTORY;
use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::kubelet::csi::Volume;

use crate::bench::Bench;
use crate::pods::Pods;

/// A hit takes little time, so it is measured more often.
const OFTEN: usize = 4;

const FORMATS: [(&str, &str); 2] = [(IMAGE, "image"), (DIRECTORY, "directory")];

pub(crate) fn run(bench: &mut Bench) {
    let (repository, workload, url) = bench.serve(Workload::SMALL);
    for (key, title, volumes) in [
        ("driver-one", "one volume through gitrepo-csi", 1),
        ("driver-hundred", "100 volumes at once through gitrepo-csi, one commit", 100),
    ] {
        let mut turns = Bench::case(key, &format!("{title}, {}", workload.describe()), &[]);
        for (round, (contender, format)) in Bench::turns(bench.rounds, &FORMATS) {
            turns.add(contender, round, on_a_new_node(&url, format, volumes));
        }
        bench.finish(turns);
    }
    let what = format!("hit by commit id through gitrepo-csi, {}", workload.describe());
    let mut turns = Bench::case("driver-hit", &what, &[]);
    let commit = repository.resolve("main");
    let nodes = FORMATS.map(|(contender, format)| (contender, Pods::new(format, read_only(&url, &commit), 1)));
    let nodes: Vec<_> = nodes.iter().map(|(contender, pods)| (*contender, pods.as_ref())).collect();
    for (round, (contender, pods)) in Bench::turns(bench.rounds * OFTEN, &nodes) {
        turns.add(contender, round, pods.map_err(ToOwned::to_owned).and_then(Pods::hit));
    }
    bench.finish(turns);
}

/// Publishes so many volumes on a new node.
fn on_a_new_node(url: &str, format: &str, volumes: usize) -> Result<(Sample, Option<u64>), String> {
    let pods = Pods::new(format, read_only(url, "main"), volumes)?;
    let sample = pods.publish()?;
    pods.unpublish()?;
    Ok(sample)
}

fn read_only(url: &str, revision: &str) -> Volume {
    Volume::inline("sources", &[("repository", url), ("revision", revision)]).read_only()
}

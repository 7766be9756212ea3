//! Volumes of one commit through `gitrepo-csi`, as pods ask for them, on a node that has nothing of the repository: one,
//! and a hundred at once. The driver is one process, however many pods ask.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Instant;

use gitrepo_tests::bench::goals::DIRECTORY;
use gitrepo_tests::bench::goals::IMAGE;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::bench::workload::Workload;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::Volume;
use nix::sys::statvfs::statvfs;
use serde_json::json;

use crate::bench::Bench;

const FILESYSTEM: u64 = 4 << 30;

pub(crate) fn run(bench: &mut Bench) {
    let (_repository, workload, url) = bench.serve(Workload::SMALL);
    for (key, title, volumes) in [
        ("driver-one", "one volume through gitrepo-csi", 1),
        ("driver-hundred", "100 volumes at once through gitrepo-csi, one commit", 100),
    ] {
        let mut turns = Bench::case(key, &format!("{title}, {}", workload.describe()), &[]);
        for (round, (contender, format)) in Bench::turns(bench.rounds, &[(IMAGE, "image"), (DIRECTORY, "directory")]) {
            turns.add(contender, round, publish(&url, format, volumes));
        }
        bench.finish(turns);
    }
}

/// Publishes so many volumes on a new node.
fn publish(url: &str, format: &str, volumes: usize) -> Result<(Sample, Option<u64>), String> {
    let node = Node::configured(FILESYSTEM, &json!({ "snapshotFormat": format })).ok_or("needs root")?;
    let volume = Volume::inline("sources", &[("repository", url), ("revision", "main")]).read_only();
    let pods: Vec<_> = (0..volumes).map(|number| Pod::new(&format!("pod-{number}"))).collect();
    sync(node.home());
    let used = used(node.home());
    let begun = Instant::now();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let publish = |pod| {
            let target = node.kubelet().target(pod, &volume);
            node.kubelet().call_publish(volume.request(pod, target.to_str().unwrap()))
        };
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || publish(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let wall = begun.elapsed().as_secs_f64();
    sync(node.home());
    let durable = begun.elapsed().as_secs_f64();
    let taken = self::used(node.home()).cast_signed() - used.cast_signed();
    for pod in &pods {
        let target = node.kubelet().target(pod, &volume);
        node.kubelet().call_unpublish(&volume.id(pod), target.to_str().unwrap()).map_err(|failed| failed.message)?;
    }
    outcomes.into_iter().collect::<Result<Vec<_>, _>>().map_err(|failed| failed.message)?;
    // The driver lives on, and its usage is not known before it ends.
    Ok((Sample { wall, durable, disk: taken, ..Sample::default() }, None))
}

fn sync(place: &Path) {
    nix::unistd::syncfs(File::open(place).unwrap()).unwrap();
}

fn used(place: &Path) -> u64 {
    let status = statvfs(place).unwrap();
    (status.blocks() - status.blocks_free()) * status.fragment_size()
}

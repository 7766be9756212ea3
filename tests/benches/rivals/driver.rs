//! Volumes of one commit through `gitrepo-csi`, as pods ask for them, on a node that has nothing of the repository: one,
//! and a hundred at once; and of one that it has. The driver is one process, however many pods ask.

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
    let nodes = FORMATS.map(|(contender, format)| (contender, Pods::new(format, &url, &commit, 1)));
    let nodes: Vec<_> = nodes.iter().map(|(contender, pods)| (*contender, pods.as_ref())).collect();
    for (round, (contender, pods)) in Bench::turns(bench.rounds * OFTEN, &nodes) {
        turns.add(contender, round, pods.map_err(ToOwned::to_owned).and_then(Pods::hit));
    }
    bench.finish(turns);
}

/// Publishes so many volumes on a new node.
fn on_a_new_node(url: &str, format: &str, volumes: usize) -> Result<(Sample, Option<u64>), String> {
    let pods = Pods::new(format, url, "main", volumes)?;
    let sample = pods.publish()?;
    pods.unpublish()?;
    Ok(sample)
}

/// The pods of a node, each with a volume of one revision.
struct Pods {
    node: Node,
    volume: Volume,
    pods: Vec<Pod>,
}

impl Pods {
    fn new(format: &str, url: &str, revision: &str, count: usize) -> Result<Self, String> {
        let node = Node::configured(FILESYSTEM, &json!({ "snapshotFormat": format })).ok_or("needs root")?;
        let volume = Volume::inline("sources", &[("repository", url), ("revision", revision)]).read_only();
        let pods: Vec<_> = (0..count).map(|number| Pod::new(&format!("pod-{number}"))).collect();
        for pod in &pods {
            // The kubelet makes these, so they count neither as time nor as space.
            let target = node.kubelet().target(pod, &volume);
            std::fs::create_dir_all(target.parent().unwrap()).map_err(|error| error.to_string())?;
        }
        Ok(Self { node, volume, pods })
    }

    /// Publishes the volumes of all pods at once.
    fn publish(&self) -> Result<(Sample, Option<u64>), String> {
        let home = self.node.home();
        sync(home);
        let used = used(home);
        let begun = Instant::now();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = self.pods.iter().map(|pod| scope.spawn(|| self.publish_one(pod))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let wall = begun.elapsed().as_secs_f64();
        sync(home);
        let durable = begun.elapsed().as_secs_f64();
        let disk = self::used(home).cast_signed() - used.cast_signed();
        outcomes.into_iter().collect::<Result<(), String>>()?;
        // The driver lives on, and its usage is not known before it ends.
        Ok((Sample { wall, durable, disk, ..Sample::default() }, None))
    }

    /// Publishes the volume of the one pod, and unpublishes it.
    fn hit(&self) -> Result<(Sample, Option<u64>), String> {
        let sample = self.publish()?;
        self.unpublish()?;
        Ok(sample)
    }

    fn publish_one(&self, pod: &Pod) -> Result<(), String> {
        let target = self.node.kubelet().target(pod, &self.volume);
        let request = self.volume.request(pod, target.to_str().unwrap());
        self.node.kubelet().call_publish(request).map_err(|failed| failed.message)
    }

    fn unpublish(&self) -> Result<(), String> {
        for pod in &self.pods {
            let target = self.node.kubelet().target(pod, &self.volume);
            let unpublished = self.node.kubelet().call_unpublish(&self.volume.id(pod), target.to_str().unwrap());
            unpublished.map_err(|failed| failed.message)?;
        }
        Ok(())
    }
}

fn sync(place: &Path) {
    nix::unistd::syncfs(File::open(place).unwrap()).unwrap();
}

fn used(place: &Path) -> u64 {
    let status = statvfs(place).unwrap();
    (status.blocks() - status.blocks_free()) * status.fragment_size()
}

//! Pods with volumes through `gitrepo-csi`.

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use gitrepo_tests::bench::in_use::InUse;
use gitrepo_tests::bench::results::Sample;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::csi::Node;
use gitrepo_tests::kubelet::csi::Volume;
use serde_json::json;

const FILESYSTEM: u64 = 4 << 30;

/// The pods of a node, each with a volume.
pub(crate) struct Pods {
    node: Node,
    volume: Volume,
    pods: Vec<Pod>,
}

impl Pods {
    /// So many pods with such a volume each, on a new node.
    pub(crate) fn new(format: &str, volume: Volume, count: usize) -> Result<Self, String> {
        let node = Node::configured(FILESYSTEM, &json!({ "snapshotFormat": format })).ok_or("needs root")?;
        let pods: Vec<_> = (0..count).map(|number| Pod::new(&format!("pod-{number}"))).collect();
        for pod in &pods {
            // The kubelet makes these, so they count neither as time nor as space.
            let target = node.kubelet().target(pod, &volume);
            std::fs::create_dir_all(target.parent().unwrap()).map_err(|error| error.to_string())?;
        }
        Ok(Self { node, volume, pods })
    }

    /// Publishes the volumes of all pods at once.
    pub(crate) fn publish(&self) -> Result<(Sample, Option<u64>), String> {
        let home = self.node.home();
        sync(home);
        let before = InUse::of(home);
        let begun = Instant::now();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = self.pods.iter().map(|pod| scope.spawn(|| self.publish_one(pod))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let wall = begun.elapsed().as_secs_f64();
        sync(home);
        let durable = begun.elapsed().as_secs_f64();
        let after = InUse::of(home);
        let disk = after.bytes.cast_signed() - before.bytes.cast_signed();
        let inodes = after.inodes.cast_signed() - before.inodes.cast_signed();
        outcomes.into_iter().collect::<Result<(), String>>()?;
        // The driver lives on, and its usage is not known before it ends.
        Ok((Sample { wall, durable, disk, inodes, ..Sample::default() }, None))
    }

    /// Publishes the volumes of all pods at once, and unpublishes them.
    pub(crate) fn hit(&self) -> Result<(Sample, Option<u64>), String> {
        let sample = self.publish()?;
        self.unpublish()?;
        Ok(sample)
    }

    fn publish_one(&self, pod: &Pod) -> Result<(), String> {
        let target = self.node.kubelet().target(pod, &self.volume);
        let request = self.volume.request(pod, target.to_str().unwrap());
        self.node.kubelet().call_publish(request).map_err(|failed| failed.message)
    }

    /// Where the pods see their volumes.
    pub(crate) fn targets(&self) -> impl Iterator<Item = PathBuf> {
        self.pods.iter().map(|pod| self.node.kubelet().target(pod, &self.volume))
    }

    /// Unpublishes the volumes of all pods.
    pub(crate) fn unpublish(&self) -> Result<(), String> {
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

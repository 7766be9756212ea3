//! Publishes and unpublishes one volume repeatedly, and measures the driver's resources.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::node::Node;
use super::volume::Volume;
use crate::kubelet::Pod;
use crate::volumes::entries;

/// The driver's resources at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Mounts of the machine's file system.
    pub mounts: usize,
    /// Files and directories of the store.
    pub files: usize,
}

/// The results of a run.
#[derive(Debug)]
pub struct Soak {
    /// The durations of all publishes, sorted.
    pub publishes: Vec<Duration>,
    /// The durations of all unpublishes, sorted.
    pub unpublishes: Vec<Duration>,
    /// After the first tenth of the run.
    pub warm: Footprint,
    /// After the whole run.
    pub end: Footprint,
}

impl Node {
    /// The driver's resources now.
    pub fn footprint(&self) -> Footprint {
        let process = Path::new("/proc").join(self.driver_id().to_string());
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Footprint {
            resident_kib: resident.unwrap().trim().parse().unwrap(),
            descriptors: entries(&process.join("fd")).len(),
            mounts: self.mounts().len(),
            files: count(&self.store()),
        }
    }

    /// Publishes and unpublishes `volume` for one pod, `pairs` times.
    pub fn soak(&self, volume: &Volume, pairs: usize) -> Soak {
        let pod = Pod::new("soak");
        let (id, target) = (volume.id(&pod), self.kubelet().target(&pod, volume));
        let path = target.to_str().unwrap();
        let timed = |call: &dyn Fn()| {
            let begun = Instant::now();
            call();
            begun.elapsed()
        };
        let (mut publishes, mut unpublishes, mut warm) = (Vec::new(), Vec::new(), None);
        for pair in 0..pairs {
            if pair == pairs / 10 {
                warm = Some(self.footprint());
            }
            publishes.push(timed(&|| self.kubelet().call_publish(volume.request(&pod, path)).unwrap()));
            unpublishes.push(timed(&|| self.kubelet().call_unpublish(&id, path).unwrap()));
        }
        self.kubelet().forget(&pod, volume);
        publishes.sort_unstable();
        unpublishes.sort_unstable();
        Soak { publishes, unpublishes, warm: warm.unwrap(), end: self.footprint() }
    }
}

impl Soak {
    /// Fails if the driver uses more at the end than when warm, apart from allowances for the allocator and for closing
    /// connections.
    pub fn assert_no_growth(&self) {
        let Self { warm, end, .. } = self;
        assert_eq!((end.mounts, end.files), (warm.mounts, warm.files), "{warm:?} became {end:?}");
        assert!(end.descriptors <= warm.descriptors + 3, "{warm:?} became {end:?}");
        assert!(end.resident_kib <= warm.resident_kib + 4096, "{warm:?} became {end:?}");
    }
}

/// The entry at this percentile.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Files and directories below it.
fn count(directory: &Path) -> usize {
    let below = |path: &Path| if path.symlink_metadata().is_ok_and(|found| found.is_dir()) { count(path) } else { 0 };
    entries(directory).iter().map(|path| 1 + below(path)).sum()
}

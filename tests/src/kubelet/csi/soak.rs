//! Publishes and unpublishes one volume repeatedly, and measures the driver's resources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::node::Node;
use super::volume::Volume;
use crate::kubelet::Pod;
use crate::volumes::entries;

/// More time than an idle thread lives.
const PATIENCE: Duration = Duration::from_secs(120);

/// The driver's resources at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// The part of it that is the driver's alone (`Private_Dirty`), in KiB.
    pub private_kib: u64,
    /// Threads.
    pub threads: usize,
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
        let kib = |file: &str, field: &str| {
            let text = fs::read_to_string(process.join(file)).unwrap();
            let found = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
            found.unwrap_or_else(|| panic!("no {field} in {text}")).trim().parse().unwrap()
        };
        Footprint {
            resident_kib: kib("status", "VmRSS:"),
            private_kib: kib("smaps_rollup", "Private_Dirty:"),
            threads: entries(&process.join("task")).len(),
            descriptors: entries(&process.join("fd")).len(),
            mounts: self.mounts().len(),
            files: count(&self.store()),
        }
    }

    /// How many files and directories each directory of the store has, by its name.
    pub fn files_of_store(&self) -> BTreeMap<String, usize> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        entries(&self.store()).iter().filter(|path| path.is_dir()).map(|path| (name(path), count(path))).collect()
    }

    /// Waits until the driver's threads for calls and publishes have ended, some ten seconds after the last call. Each has
    /// memory of its own.
    pub fn come_to_rest(&self) {
        let tasks = Path::new("/proc").join(self.driver_id().to_string()).join("task");
        let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
        let is_at_work = |task: &PathBuf| ["core-call", "publish", "git-relay"].contains(&name(task).trim());
        let begun = Instant::now();
        while entries(&tasks).iter().any(is_at_work) {
            assert!(
                begun.elapsed() < PATIENCE,
                "the driver does not come to rest: {:?}",
                entries(&tasks).iter().map(name).collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
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

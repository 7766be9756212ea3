//! `limits.writableBytes` by project quota: on file systems that have them. Few kernels for virtual machines do: `make
//! vm-test` runs this suite with one that does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::quota::KernelQuota;
use gitrepo_core::quota::ProjectQuota;
use gitrepo_core::quota::ProjectUsage;
use gitrepo_core::remote::Git;
use gitrepo_core::store::Record;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::worker::InProcess;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::PERSON;
use gitrepo_tests::volumes::entries;

mod real;

const LIMIT: u64 = 8 << 20;

/// `make vm-test` takes too long for every change. Checking that its scripts parse does not.
#[test]
fn the_scripts_of_the_virtual_machine_parse() {
    for script in ["run.sh", "init"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm").join(script);
        assert!(Command::new("sh").arg("-n").arg(&path).status().unwrap().success(), "{}", path.display());
    }
}

/// A node on a file system with project quotas, and a server.
struct Bench {
    node: Node,
    home: PathBuf,
    server: HttpServer,
    repository: Repository,
    /// What a write beyond the limit gives.
    refusal: i32,
    _place: LoopFs,
}

impl Bench {
    /// On the two that people use.
    fn each() -> impl Iterator<Item = Self> {
        let ext4 = Self::on("ext4", "prjquota", libc::EDQUOT);
        // XFS treats the limit of a directory as the end of a disk.
        let xfs = Self::on("xfs", "pquota", libc::ENOSPC);
        ext4.into_iter().chain(xfs)
    }

    fn on(kind: &str, options: &str, refusal: i32) -> Option<Self> {
        let place = LoopFs::with_quotas(kind, options)?;
        let home = place.path().canonicalize().unwrap();
        let repository = Repository::new("app");
        repository.commit("main", &Files::new().file("README.md", "# Read me\n").file("a/b", "deep\n"));
        let server = HttpServer::start(&repository);
        Some(Self { node: node(&home, LIMIT), home, server, repository, refusal, _place: place })
    }

    fn url(&self) -> String {
        self.server.url(&self.repository)
    }

    fn record(&self, request: &VolumeRequest) -> Record {
        self.node.volumes.store().record(&request.volume_id, &request.target).unwrap().unwrap()
    }

    /// The only mark of a project in the store.
    fn mark(&self) -> PathBuf {
        let marks = self.marks();
        assert_eq!(marks.len(), 1, "{marks:?}");
        marks.into_iter().next().unwrap()
    }

    fn marks(&self) -> Vec<PathBuf> {
        let volumes = entries(&self.node.store().join("volumes"));
        let targets = volumes.iter().flat_map(|volume| entries(&volume.join("targets")));
        let places = targets.chain(volumes.iter().map(|volume| volume.join("shared")));
        places.map(|place| place.join("quota")).filter(|mark| mark.exists()).collect()
    }

    fn project(&self) -> u32 {
        KernelQuota.project_of(&self.mark()).unwrap()
    }

    fn usage(&self, project: u32) -> ProjectUsage {
        KernelQuota.usage(&self.home, project).unwrap()
    }

    /// What is at its limit or above it, and whether it is read-only, and stopped.
    fn overgrown(&self) -> BTreeSet<(PathBuf, bool, bool)> {
        let overgrown = self.node.volumes.overgrown(Duration::from_secs(60)).unwrap();
        overgrown.into_iter().map(|one| (one.target, one.frozen, one.stopped)).collect()
    }

    fn sweep(&self) -> usize {
        let report =
            self.node.volumes.sweep(&Abandoned::Unmounted { origin: PERSON }, Duration::from_secs(60)).unwrap();
        assert!(report.failures.is_empty() && !report.incomplete, "{report:?}");
        report.limits
    }
}

/// As another process opens it.
fn node(home: &Path, limit: u64) -> Node {
    let mut config = volumes::config();
    config.limits.writable_bytes = limit;
    config.snapshot_format = SnapshotChoice::Directory;
    let mounter = Arc::new(LinuxMounter::new(home.join("store/mounting")));
    Node::new(home, config, Arc::new(InProcess::new(Arc::new(Git::default()))), mounter)
}

/// Writes to a new file until a write fails, as a user without privileges. Returns its size and the failure.
fn fill(file: &Path) -> (u64, i32) {
    let mut shell = Command::new("sh");
    // Python says which failure it was.
    let program = "import sys\ntry:\n  with open(sys.argv[1], 'wb', 0) as f:\n    while f.write(bytes(65536)) == 65536 and \
                   f.tell() < 64 << 20: pass\n    f.write(bytes(65536))\nexcept OSError as e:\n  sys.exit(e.errno)\n";
    shell.args(["-c", "umask 0; exec python3 -c \"$0\" \"$1\"", program]).arg(file).uid(1000).gid(1000);
    let status = shell.status().unwrap();
    (fs::metadata(file).unwrap().len(), status.code().unwrap())
}

/// Bytes and inodes of all that is below these paths, with them.
fn counted(paths: &[PathBuf]) -> (u64, u64) {
    let mut all = (0, 0);
    for path in paths {
        let found = path.symlink_metadata().unwrap();
        all = (all.0 + found.blocks() * 512, all.1 + 1);
        if found.is_dir() {
            let (bytes, inodes) = counted(&entries(path));
            all = (all.0 + bytes, all.1 + inodes);
        }
    }
    all
}

//! The CSI driver's services, called as the kubelet and the provisioner call them, with a fake mounter, workers in
//! threads and a real git server.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::gateway::Bounds;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::mount::Mounter;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Policy;
use gitrepo_core::policy::UidRange;
use gitrepo_core::quota::KernelQuota;
use gitrepo_core::quota::ProjectQuota;
use gitrepo_core::remote::Git;
use gitrepo_core::store::Store;
use gitrepo_core::testing::FakeMounter;
use gitrepo_core::volume::Volumes;
use gitrepo_core::worker::InProcess;
use gitrepo_csi::controller::ControllerService;
use gitrepo_csi::housekeeping::Housekeeping;
use gitrepo_csi::jobs::Jobs;
use gitrepo_csi::metrics::Metrics;
use gitrepo_csi::metrics::Observed;
use gitrepo_csi::name_lock::NameLocks;
use gitrepo_csi::node::NodeService;
use gitrepo_csi::proto::csi::v1::NodeGetVolumeStatsRequest;
use gitrepo_csi::proto::csi::v1::NodeGetVolumeStatsResponse;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::VolumeCapability;
use gitrepo_csi::proto::csi::v1::node_server::Node;
use gitrepo_csi::proto::csi::v1::volume_capability::AccessMode;
use gitrepo_csi::proto::csi::v1::volume_capability::AccessType;
use gitrepo_csi::proto::csi::v1::volume_capability::MountVolume;
use gitrepo_csi::proto::csi::v1::volume_capability::access_mode::Mode;
use gitrepo_csi::storage::Storage;
use gitrepo_csi::user_namespaces::UserNamespaces;
use gitrepo_tests::http::Gate;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::volumes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::Request;
use tonic::Status;

mod any_message;
mod controller;
mod faults;
mod prefetch;
mod publish;
mod standing;
mod stats;
mod unpublish;
mod user_namespaces;

/// Enough for any request to come to a gate on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A driver, and a server with a repository of two commits.
struct Bench {
    runtime: Runtime,
    node: NodeService,
    mounter: Arc<FakeMounter>,
    server: HttpServer,
    repository: Repository,
    first: String,
    commit: String,
    home: PathBuf,
    _place: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with_mounter(FakeMounter::new())
    }

    fn with_mounter(mounter: FakeMounter) -> Self {
        let place = TempDir::new().unwrap();
        let home = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("kubelet/pods")).unwrap();
        let repository = Repository::new("app");
        let first = repository.commit("main", &Files::new().file("README.md", "# First\n"));
        let commit = repository.commit("main", &Files::new().file("README.md", "# Second\n").file("a/b", "deep\n"));
        let server = HttpServer::start(&repository);
        let mounter = Arc::new(mounter);
        let node = driver(&home, &mounter);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, node, mounter, server, repository, first, commit, home, _place: place }
    }

    /// Restarts the driver with the same store and mounts.
    fn restart(&mut self) {
        self.node = driver(&self.home, &self.mounter);
    }

    fn controller(&self) -> ControllerService {
        ControllerService::new(Arc::clone(&self.node.storage), Arc::clone(&self.node.metrics))
    }

    fn target(&self, pod: &str) -> PathBuf {
        self.home.join("kubelet/pods").join(pod)
    }

    fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// The kubelet's request for an inline volume.
    fn request(&self, pod: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: format!("csi-{pod}"),
            target_path: self.target(pod).to_str().unwrap().to_owned(),
            volume_capability: Some(capability(Mode::SingleNodeMultiWriter)),
            readonly: true,
            volume_context: map(&[
                ("repository", &self.server.url(&self.repository)),
                ("revision", "main"),
                ("csi.storage.k8s.io/ephemeral", "true"),
                ("csi.storage.k8s.io/pod.name", pod),
            ]),
            ..NodePublishVolumeRequest::default()
        }
    }

    fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        self.publish_within(request, None)
    }

    /// Publishes like a client that waits this many milliseconds.
    fn publish_within(&self, request: NodePublishVolumeRequest, milliseconds: Option<u32>) -> Result<(), Status> {
        let mut request = Request::new(request);
        if let Some(milliseconds) = milliseconds {
            request.set_timeout(Duration::from_millis(milliseconds.into()));
        }
        self.runtime.block_on(self.node.node_publish_volume(request)).map(drop)
    }

    /// Publishes with calls that end soon, until the clone hangs at `gate`.
    fn publish_up_to(&self, gate: &Gate, request: &NodePublishVolumeRequest) {
        let begun = Instant::now();
        while gate.arrived() == 0 {
            assert!(begun.elapsed() < PATIENCE, "no request comes to the gate");
            let status = self.publish_within(request.clone(), Some(300)).unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
    }

    fn unpublish(&self, pod: &str) -> Result<(), Status> {
        self.unpublish_within(pod, None)
    }

    fn unpublish_within(&self, pod: &str, milliseconds: Option<u32>) -> Result<(), Status> {
        let target_path = self.target(pod).to_str().unwrap().to_owned();
        let mut request = Request::new(NodeUnpublishVolumeRequest { volume_id: format!("csi-{pod}"), target_path });
        if let Some(milliseconds) = milliseconds {
            request.set_timeout(Duration::from_millis(milliseconds.into()));
        }
        self.runtime.block_on(self.node.node_unpublish_volume(request)).map(drop)
    }

    /// Unpublishes a volume whose clone hangs at `gate`. That ends the worker, and the gate opens too late for it.
    fn unpublish_at(&self, pod: &str, gate: &Gate) {
        self.unpublish(pod).unwrap();
        gate.open();
    }

    fn stats(&self, volume_id: &str, path: &Path) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume_id.to_owned(),
            volume_path: path.to_str().unwrap().to_owned(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let answer = self.runtime.block_on(self.node.node_get_volume_stats(Request::new(request)));
        answer.map(tonic::Response::into_inner)
    }

    fn mounts(&self, pod: &str) -> usize {
        let target = self.target(pod);
        self.mounter.list().unwrap().iter().filter(|mount| mount.target == target).count()
    }

    /// The directory that is mounted for a pod.
    fn shown(&self, pod: &str) -> PathBuf {
        let target = self.target(pod);
        self.mounter
            .mounts()
            .into_iter()
            .find(|mount| mount.target == target)
            .expect("a mount")
            .attachment
            .path()
            .to_owned()
    }

    fn readme(&self, pod: &str) -> String {
        std::fs::read_to_string(self.shown(pod).join("app/README.md")).unwrap()
    }

    fn metrics(&self) -> String {
        self.node.metrics.render(&Observed::default()).unwrap()
    }

    /// Waits until no job is running.
    fn until_idle(&self) {
        self.runtime.block_on(async {
            while self.node.jobs.count().running > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    fn assert_nothing_is_left(&self) {
        self.until_idle();
        let left = volumes::leftovers(&self.store(), &self.home.join("kubelet/pods"));
        assert!(left.is_empty(), "left behind: {left:#?}");
        assert!(self.mounter.mounts().is_empty(), "still mounted: {:#?}", self.mounter.mounts());
    }
}

fn driver(home: &Path, mounter: &Arc<FakeMounter>) -> NodeService {
    driver_with(volumes::config(), home, mounter)
}

fn driver_with(config: Config, home: &Path, mounter: &Arc<FakeMounter>) -> NodeService {
    driver_with_quota(config, home, mounter, Arc::new(KernelQuota))
}

fn driver_with_quota(
    config: Config,
    home: &Path,
    mounter: &Arc<FakeMounter>,
    quota: Arc<dyn ProjectQuota>,
) -> NodeService {
    let metrics = Arc::new(Metrics::default());
    let worker = Arc::new(InProcess::new(Arc::new(Git::default())));
    let bounds = Bounds::of(UidRange::parse("7-9").unwrap());
    let gateway = Gateway::new(Policy::new(config), worker).bounded(bounds);
    let (root, mounter) = (home.join("store"), Arc::clone(mounter));
    let open = move || {
        let mounter = Arc::clone(&mounter) as Arc<dyn Mounter>;
        Ok(Volumes::new(Store::open(&root)?, gateway.clone(), mounter).with_quota(Arc::clone(&quota)))
    };
    let storage = Arc::new(Storage::new(open));
    let jobs = Jobs::new(Arc::clone(&storage), Arc::clone(&metrics), Duration::from_secs(600));
    let (node_id, kubelet_dir, locks) = ("node-1".to_owned(), home.join("kubelet"), NameLocks::default());
    let user_namespaces = UserNamespaces::new(Arc::clone(&storage), kubelet_dir.join("pods"));
    NodeService { node_id, kubelet_dir, storage, jobs, locks, user_namespaces, metrics }
}

fn housekeeping(bench: &Bench) -> Housekeeping {
    Housekeeping {
        storage: Arc::clone(&bench.node.storage),
        jobs: bench.node.jobs.clone(),
        pods: Some(bench.home.join("kubelet/pods")),
        metrics: Arc::clone(&bench.node.metrics),
    }
}

fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

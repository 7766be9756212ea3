//! Set-up and tear-down of a pod's volume (pkg/volume/csi/csi_mounter.go, operationexecutor).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_csi::proto::csi::v1::NodeGetCapabilitiesRequest;
use gitrepo_csi::proto::csi::v1::NodeGetVolumeStatsRequest;
use gitrepo_csi::proto::csi::v1::NodeGetVolumeStatsResponse;
use gitrepo_csi::proto::csi::v1::NodePublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::NodeUnpublishVolumeRequest;
use gitrepo_csi::proto::csi::v1::node_service_capability::Type;
use gitrepo_csi::proto::csi::v1::node_service_capability::rpc;
use serde_json::json;
use tonic::Code;
use tonic::Status;

use super::call;
use super::registration;
use super::registration::Registered;
use super::volume::Volume;
use crate::kubelet::Pod;
use crate::volumes::mounts_on;

/// `csiTimeout`.
pub(super) const CSI_TIMEOUT: Duration = Duration::from_secs(120);

/// Not the kubelet's. It makes the test of a driver that never registers fail.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kubelet with one CSI driver, whose CSIDriver object has `podInfoOnMount: true`, `attachRequired: false` and
/// `fsGroupPolicy: None`.
pub struct Kubelet {
    root: PathBuf,
    driver: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limit: Option<Duration>,
    registered: Option<Registered>,
    /// By pod and volume. Volumes that are not here are never unpublished.
    volumes: BTreeMap<(String, String), Standing>,
    calls: Vec<String>,
}

/// The kubelet's view of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Mounted,
    /// It may be mounted: the last answer did not tell.
    Uncertain,
    /// Found on disk after a restart: uncertain, whatever the driver answers.
    Reconstructed,
}

/// Why a volume could not be set up or torn down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The driver's code; `None` if it could not be called.
    pub code: Option<Code>,
    /// The driver's message, which is in the pod's event.
    pub message: String,
}

/// The outcome of a tear-down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TornDown {
    /// The driver was called.
    Unpublished,
    /// The kubelet knew nothing to unpublish.
    NothingKnown,
}

impl Failed {
    /// Whether the kubelet then forgets a volume that is not mounted (`IsFinalError`).
    pub fn is_final(&self) -> bool {
        use Code::*;
        self.code
            .is_some_and(|code| ![Cancelled, DeadlineExceeded, Unavailable, ResourceExhausted, Aborted].contains(&code))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        assert_eq!(status.details(), &[0; 0], "details of {status}");
        Self { code: Some(status.code()), message: status.message().to_owned() }
    }
}

impl Kubelet {
    /// A kubelet with the directory `root`.
    pub(super) fn new(root: &Path, driver: &str) -> Self {
        for directory in ["pods", "plugins", "plugins_registry"] {
            DirBuilder::new().recursive(true).mode(0o750).create(root.join(directory)).unwrap();
        }
        Self { root: root.to_owned(), driver: driver.to_owned(), state: Mutex::default() }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The socket where it finds the driver.
    pub fn registration_socket(&self) -> PathBuf {
        self.root.join("plugins_registry").join(format!("{}-reg.sock", self.driver))
    }

    /// The CSI endpoint that the driver reported.
    pub fn endpoint(&self) -> PathBuf {
        self.registered().expect("the driver is registered").endpoint
    }

    /// The node id that the driver reported.
    pub fn node_id(&self) -> String {
        self.registered().expect("the driver is registered").node_id
    }

    /// Registers the driver once its socket appears, and retries while the socket exists.
    pub fn register(&self) {
        let begun = Instant::now();
        let socket = self.registration_socket();
        let mut last = "there is no socket".to_owned();
        loop {
            match socket.exists().then(|| registration::register(&socket, &self.driver)) {
                Some(Ok(registered)) => {
                    self.lock().registered = Some(registered);
                    return;
                }
                Some(Err(error)) => last = error,
                None => {}
            }
            assert!(begun.elapsed() < PATIENCE, "the driver does not register: {last}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Restarts with only the state on disk: every volume of these pods is published again.
    pub fn restart(&self, running: &[(&Pod, &Volume)]) {
        let mut state = self.lock();
        state.registered = None;
        state.volumes.clear();
        for (pod, volume) in running {
            state.volumes.insert(key(pod, volume), Standing::Reconstructed);
        }
        drop(state);
        self.register();
    }

    /// From now on limits calls to less than two minutes.
    pub fn limit_calls(&self, limit: Duration) {
        self.lock().limit = Some(limit);
    }

    /// The methods called since the last time.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().calls)
    }

    /// Where a pod's volume is mounted.
    pub fn target(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        let volumes = self.root.join("pods").join(&pod.uid).join("volumes");
        volumes.join("kubernetes.io~csi").join(&volume.name).join("mount")
    }

    /// Sets a volume up for a pod: `SetUpAt`, and records the outcome.
    pub fn set_up(&self, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        let endpoint = self.found()?.endpoint;
        let limit = self.limit();
        if volume.is_persistent() && !self.lock().volumes.contains_key(&key(pod, volume)) {
            // MountDevice, which does nothing for a driver that does not stage.
            self.capabilities(&endpoint, limit)?;
        }
        let ended = self.publish(&endpoint, limit, pod, volume);
        self.remember(pod, volume, ended.as_ref().err());
        ended
    }

    /// Sets it up, which must succeed, and returns its target.
    pub fn must_set_up(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        self.set_up(pod, volume).unwrap_or_else(|failed| panic!("MountVolume.SetUp failed for {volume:?}: {failed:?}"));
        self.target(pod, volume)
    }

    fn publish(&self, endpoint: &Path, limit: Duration, pod: &Pod, volume: &Volume) -> Result<(), Failed> {
        let target = self.target(pod, volume);
        let directory = target.parent().unwrap();
        if volume.is_persistent() {
            assert!(!self.has(endpoint, limit, rpc::Type::StageUnstageVolume)?, "nothing here is staged");
        }
        DirBuilder::new().recursive(true).mode(0o750).create(directory).unwrap();
        assert!(self.has(endpoint, limit, rpc::Type::VolumeMountGroup)?, "or the kubelet changes every file's owner");
        let data = json!({
            "driverName": self.driver,
            "nodeName": self.node_id(),
            "specVolID": volume.name,
            "volumeHandle": volume.id(pod),
            "volumeLifecycleMode": if volume.is_persistent() { "Persistent" } else { "Ephemeral" },
        });
        fs::write(directory.join("vol_data.json"), data.to_string()).unwrap();
        assert!(self.has(endpoint, limit, rpc::Type::SingleNodeMultiWriter)?, "or a claim is for one pod of a node");
        self.note("NodePublishVolume");
        let request = volume.request(pod, target.to_str().unwrap());
        call::node(endpoint, limit, request, async |mut client, request| client.node_publish_volume(request).await)?;
        assert!(mounts_on(&target) > 0, "{} was published and is no mount point", target.display());
        Ok(())
    }

    /// Begins to set a volume up, and goes away after `patience`. Remembers that the volume may be mounted.
    pub fn abandon_set_up(&self, pod: &Pod, volume: &Volume, patience: Duration) -> Result<(), Failed> {
        let endpoint = self.found()?.endpoint;
        let target = self.target(pod, volume);
        DirBuilder::new().recursive(true).mode(0o750).create(target.parent().unwrap()).unwrap();
        let request = volume.request(pod, target.to_str().unwrap());
        let ended = call::node(&endpoint, self.limit(), request, async |mut client, request| {
            let published = tokio::time::timeout(patience, client.node_publish_volume(request)).await;
            published.unwrap_or_else(|_| Err(Status::cancelled("the caller goes away")))
        });
        let ended = ended.map(drop).map_err(Failed::from);
        self.remember(pod, volume, ended.as_ref().err());
        ended
    }

    /// What the kubelet records, in memory and on disk, after an attempt.
    fn remember(&self, pod: &Pod, volume: &Volume, failed: Option<&Failed>) {
        let key = key(pod, volume);
        let mut state = self.lock();
        let before = state.volumes.get(&key).copied();
        let Some(failed) = failed else {
            state.volumes.insert(key, Standing::Mounted);
            return;
        };
        if !failed.is_final() {
            if failed.code.is_some() && before != Some(Standing::Mounted) {
                state.volumes.insert(key, before.unwrap_or(Standing::Uncertain));
            }
            return;
        }
        if before == Some(Standing::Uncertain) {
            state.volumes.remove(&key);
        }
        drop(state);
        self.remove(&self.target(pod, volume));
    }

    /// Tears a pod's volume down: `TearDownAt`, if the kubelet knows anything about it.
    pub fn tear_down(&self, pod: &Pod, volume: &Volume) -> Result<TornDown, Failed> {
        if !self.lock().volumes.contains_key(&key(pod, volume)) {
            return Ok(TornDown::NothingKnown);
        }
        let endpoint = self.found()?.endpoint;
        let target = self.target(pod, volume);
        let limit = self.limit();
        let request =
            NodeUnpublishVolumeRequest { volume_id: volume.id(pod), target_path: target.to_str().unwrap().to_owned() };
        self.note("NodeUnpublishVolume");
        call::node(&endpoint, limit, request, async |mut client, request| client.node_unpublish_volume(request).await)?;
        assert_eq!(mounts_on(&target), 0, "{} leaks for ever: unpublished, and a mount point", target.display());
        assert!(!target.exists(), "the driver has to remove {}", target.display());
        self.remove(&target);
        self.lock().volumes.remove(&key(pod, volume));
        if volume.is_persistent() {
            // UnmountDevice.
            self.capabilities(&endpoint, limit)?;
        }
        Ok(TornDown::Unpublished)
    }

    /// Tears it down with a call, which must succeed.
    pub fn must_tear_down(&self, pod: &Pod, volume: &Volume) {
        let torn_down = self.tear_down(pod, volume);
        assert_eq!(torn_down, Ok(TornDown::Unpublished), "UnmountVolume.TearDown of {volume:?}");
    }

    /// Forgets a pod without any call, and removes what `os.Remove` can remove: what happens to a pod that is
    /// force-deleted while its node is down.
    pub fn forget(&self, pod: &Pod, volume: &Volume) {
        self.lock().volumes.remove(&key(pod, volume));
        self.remove(&self.target(pod, volume));
    }

    /// The usage of a volume.
    pub fn stats(&self, pod: &Pod, volume: &Volume) -> Result<NodeGetVolumeStatsResponse, Failed> {
        let endpoint = self.endpoint();
        assert!(self.has(&endpoint, CSI_TIMEOUT, rpc::Type::GetVolumeStats)?);
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.id(pod),
            volume_path: self.target(pod, volume).to_str().unwrap().to_owned(),
            staging_target_path: String::new(),
        };
        self.note("NodeGetVolumeStats");
        Ok(call::node(&endpoint, CSI_TIMEOUT, request, async |mut client, request| {
            client.node_get_volume_stats(request).await
        })?)
    }

    /// One raw call to publish, which the kubelet does not record.
    pub fn call_publish(&self, request: NodePublishVolumeRequest) -> Result<(), Failed> {
        let target = PathBuf::from(&request.target_path);
        drop(DirBuilder::new().recursive(true).mode(0o750).create(target.parent().unwrap_or(Path::new("/"))));
        call::node(&self.endpoint(), self.limit(), request, async |mut client, request| {
            client.node_publish_volume(request).await
        })?;
        Ok(())
    }

    /// One raw call to unpublish.
    pub fn call_unpublish(&self, volume_id: &str, target_path: &str) -> Result<(), Failed> {
        let request =
            NodeUnpublishVolumeRequest { volume_id: volume_id.to_owned(), target_path: target_path.to_owned() };
        call::node(&self.endpoint(), self.limit(), request, async |mut client, request| {
            client.node_unpublish_volume(request).await
        })?;
        Ok(())
    }

    /// `removeMountDir`: does nothing on a mount point; otherwise removes the directory, the files beside it, and their
    /// parent.
    fn remove(&self, target: &Path) {
        if mounts_on(target) > 0 {
            return;
        }
        let directory = target.parent().unwrap();
        for removed in
            [fs::remove_dir(target), fs::remove_file(directory.join("vol_data.json")), fs::remove_dir(directory)]
        {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    panic!("the kubelet cannot remove {}: {error}", directory.display())
                }
                _ => {}
            }
        }
    }

    fn has(&self, endpoint: &Path, limit: Duration, wanted: rpc::Type) -> Result<bool, Failed> {
        Ok(self.capabilities(endpoint, limit)?.contains(&i32::from(wanted)))
    }

    fn capabilities(&self, endpoint: &Path, limit: Duration) -> Result<Vec<i32>, Failed> {
        self.note("NodeGetCapabilities");
        let answer = call::node(endpoint, limit, NodeGetCapabilitiesRequest {}, async |mut client, request| {
            client.node_get_capabilities(request).await
        });
        // Before the publish itself any failure is transient.
        let answer = answer.map_err(|status| Failed { code: None, message: status.to_string() })?;
        let kinds = answer.capabilities.into_iter().filter_map(|capability| capability.r#type);
        Ok(kinds.map(|Type::Rpc(rpc)| rpc.r#type).collect())
    }

    fn found(&self) -> Result<Registered, Failed> {
        let message = || format!("driver name {} not found in the list of registered CSI drivers", self.driver);
        self.registered().ok_or_else(|| Failed { code: None, message: message() })
    }

    /// The driver, while its socket exists.
    fn registered(&self) -> Option<Registered> {
        let mut state = self.lock();
        if !self.registration_socket().exists() {
            state.registered = None;
        }
        state.registered.clone()
    }

    fn limit(&self) -> Duration {
        self.lock().limit.unwrap_or(CSI_TIMEOUT)
    }

    fn note(&self, method: &str) {
        self.lock().calls.push(method.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(pod: &Pod, volume: &Volume) -> (String, String) {
    (pod.uid.clone(), volume.name.clone())
}

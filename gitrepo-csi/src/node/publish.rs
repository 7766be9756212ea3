//! `NodePublishVolume`.

use std::path::Path;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::State;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::audit;
use gitrepo_frontend::node_credentials;

use super::NodeService;
use super::publication::Publication;
use super::publication::not_kept_read_only;
use crate::deadline;
use crate::failure::CallFailure;
use crate::jobs::Jobs;
use crate::jobs::Order;
use crate::name_lock::NameLock;
use crate::proto::csi::v1::NodePublishVolumeRequest;
use crate::rpc_log::Call;

impl NodeService {
    /// Publishes the volume, or joins the job that publishes it. A failure with a final code leaves nothing behind,
    /// since the kubelet may never unpublish such a volume.
    pub(super) async fn publish(
        &self,
        call: &mut Call,
        request: NodePublishVolumeRequest,
        deadline: Instant,
    ) -> Result<Published, CallFailure> {
        let (volume_id, target) = (request.volume_id.clone(), request.target_path.clone());
        let failure = match self.try_publish(call, request, deadline).await {
            Ok(published) => {
                call.published(&published);
                if published.format == Format::Overlay {
                    let namespaces = self.user_namespaces.clone();
                    tokio::task::spawn_blocking(move || namespaces.watch(Path::new(&target)));
                }
                return Ok(published);
            }
            Err(failure) => failure,
        };
        self.jobs.told(&volume_id, Path::new(&target));
        Err(if failure.is_final() { self.undo(failure, volume_id, target, deadline).await } else { failure })
    }

    async fn try_publish(
        &self,
        call: &mut Call,
        request: NodePublishVolumeRequest,
        deadline: Instant,
    ) -> Result<Published, CallFailure> {
        // The pod's author controls the request, so parsing it must not block the runtime.
        let kubelet_dir = self.kubelet_dir.clone();
        let publication =
            deadline::keep(deadline, deadline::READING, move || Publication::read(request, &kubelet_dir)).await?;
        call.repository(&publication.request.spec.repository);
        // Hold the lock until the job is in the table: otherwise two concurrent calls would not see each other.
        let lock = match publication.one_target {
            true => Some(self.lock(&publication.request.volume_id, deadline).await?),
            false => None,
        };
        let jobs = self.jobs.clone();
        let job = match self.storage.call(deadline, move |volumes| find(volumes, &jobs, publication)).await? {
            Found::Published(published) => return Ok(published),
            Found::Missing(order) => self.jobs.join(*order)?,
        };
        drop(lock);
        job.until(deadline).await.map_err(advised)
    }

    async fn lock(&self, volume_id: &str, deadline: Instant) -> Result<NameLock, CallFailure> {
        let busy = |_| CallFailure::new(Kind::Busy, "another call for the volume has not ended; try again");
        tokio::time::timeout_at(deadline.into(), self.locks.lock(volume_id)).await.map_err(busy)
    }

    /// Ends a job that an earlier call for the volume started, and undoes its work, before the kubelet forgets the
    /// volume. Returns `failure`, or if that takes too long, a failure after which the kubelet remembers the volume.
    async fn undo(&self, failure: CallFailure, volume_id: String, target: String, deadline: Instant) -> CallFailure {
        match self.jobs.end(&volume_id, Path::new(&target), deadline::left(deadline)).await {
            Ok(false) => failure,
            Ok(true) => {
                let cancel = deadline::cancel(deadline);
                let undo =
                    move |volumes: &Volumes| Ok(volumes.unpublish(Some(&volume_id), Path::new(&target), &cancel)?);
                match self.storage.call(deadline, undo).await {
                    Ok(_) => failure,
                    Err(undoing) => CallFailure::new(
                        Kind::Busy,
                        format!("{failure}; an earlier attempt could not be undone yet ({undoing}); try again"),
                    ),
                }
            }
            Err(busy) => busy,
        }
    }
}

/// Adds advice where to name the secret, which core cannot give.
fn advised(failure: CallFailure) -> CallFailure {
    match failure.kind {
        Kind::Unauthenticated => failure.advising("the volume's nodePublishSecretRef names the Secret with the keys"),
        _ => failure,
    }
}

/// The volume on the target before a job starts.
enum Found {
    /// The requested volume is published already.
    Published(Published),
    /// It is not published.
    Missing(Box<Order>),
}

fn find(volumes: &Volumes, jobs: &Jobs, publication: Publication) -> Result<Found, CallFailure> {
    let Publication { request, requester, credentials, namespace, one_target, read_only_by } = publication;
    if let Some(source) = read_only_by {
        volumes.check_only_image(&request).map_err(|error| match error {
            PublishError::NotAnImage { .. } => not_kept_read_only(source, &error),
            error => not_final(error),
        })?;
    }
    if let Some(published) = volumes.serves(&request).map_err(not_final)? {
        audit::published(&requester, &request, &published);
        return Ok(Found::Published(published));
    }
    // Check the jobs before the records: if a job ends in between, the second check finds its record.
    let works_elsewhere = jobs.works_elsewhere(&request.volume_id, &request.target);
    if one_target && (works_elsewhere || is_published_elsewhere(volumes, &request)?) {
        return Err(second_target(&request.target));
    }
    let of_the_node = &volumes.snapshots().gateway().policy().config().node_credentials;
    let url = &request.spec.repository;
    let credentials = node_credentials::for_pod(of_the_node, url, namespace.as_deref(), credentials?)?;
    Ok(Found::Missing(Box::new(Order::new(request, requester, credentials))))
}

/// Makes the failure one after which the kubelet remembers the volume: if records or mounts cannot be read, the volume
/// may be published. Only `AlreadyExists` stays final: then the target shows something else.
fn not_final(error: impl Into<CallFailure>) -> CallFailure {
    let failure = error.into();
    match failure.kind {
        Kind::AlreadyExists => failure,
        _ if failure.is_final() => CallFailure::new(Kind::Unavailable, failure.message),
        _ => failure,
    }
}

fn is_published_elsewhere(volumes: &Volumes, request: &VolumeRequest) -> Result<bool, CallFailure> {
    let targets = volumes.targets_of(&request.volume_id).map_err(not_final)?;
    Ok(targets.iter().any(|volume| volume.state == State::Mounted && volume.record.target != request.target))
}

fn second_target(target: &Path) -> CallFailure {
    CallFailure::new(
        Kind::FailedPrecondition,
        format!(
            "the volume is published for another pod of this node, and its access mode allows only one pod: {} has to \
             wait until that pod is gone; or use ReadWriteOnce, ReadOnlyMany or ReadWriteMany",
            target.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use gitrepo_core::gateway::Gateway;
    use gitrepo_core::policy::Config;
    use gitrepo_core::policy::HostPattern;
    use gitrepo_core::policy::Policy;
    use gitrepo_core::remote::Git;
    use gitrepo_core::store::Store;
    use gitrepo_core::testing::FakeMounter;
    use gitrepo_core::worker::InProcess;
    use tempfile::TempDir;

    use super::*;
    use crate::capability::tests::filesystem;
    use crate::metrics::Metrics;
    use crate::name_lock::NameLocks;
    use crate::proto::csi::v1::volume_capability::access_mode::Mode;
    use crate::storage::Storage;
    use crate::user_namespaces::UserNamespaces;

    /// Returns a node service that refuses every repository.
    fn service(place: &TempDir) -> NodeService {
        let store = place.path().join("store");
        let open = move || {
            let mut config = Config::for_drivers();
            config.denied_hosts = vec![HostPattern::parse("*").unwrap()];
            let worker = InProcess::new(Arc::new(Git::default()));
            let gateway = Gateway::new(Policy::new(config), Arc::new(worker));
            let mounter = Arc::new(FakeMounter::new());
            Ok(Volumes::new(Store::open(&store)?, gateway, mounter))
        };
        let metrics = Arc::new(Metrics::default());
        let storage = Arc::new(Storage::new(open));
        let jobs = Jobs::new(Arc::clone(&storage), Arc::clone(&metrics), Duration::from_secs(60));
        let kubelet_dir = place.path().join("kubelet");
        let user_namespaces = UserNamespaces::new(Arc::clone(&storage), kubelet_dir.join("pods"));
        let (node_id, locks) = ("node".to_owned(), NameLocks::default());
        NodeService { node_id, kubelet_dir, storage, jobs, locks, user_namespaces, metrics }
    }

    /// Publishes with this much time, and returns the failure.
    fn fails(service: &NodeService, mode: Mode, patience: Duration) -> CallFailure {
        let repository = ("repository".to_owned(), "https://git.example.org/app.git".to_owned());
        let request = NodePublishVolumeRequest {
            volume_id: "volume".to_owned(),
            target_path: service.kubelet_dir.join("pods/1/mount").display().to_string(),
            volume_capability: Some(filesystem(mode, &[], "")),
            volume_context: [repository].into(),
            ..NodePublishVolumeRequest::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut call = Call::new(&service.metrics, "NodePublishVolume");
        runtime.block_on(service.publish(&mut call, request, Instant::now() + patience)).unwrap_err()
    }

    #[test]
    fn publishes_of_a_volume_for_one_target_wait_for_its_lock() {
        let place = tempfile::tempdir().unwrap();
        let service = service(&place);
        let patience = Duration::from_secs(60);
        let lock = service.locks.try_lock("volume").unwrap();
        for mode in [Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter] {
            assert_eq!(fails(&service, mode, Duration::from_millis(300)).kind, Kind::Busy);
        }
        assert_eq!(fails(&service, Mode::SingleNodeMultiWriter, patience).kind, Kind::PermissionDenied);
        drop(lock);
        for _ in 0..2 {
            assert_eq!(fails(&service, Mode::SingleNodeWriter, patience).kind, Kind::PermissionDenied);
        }
    }

    #[test]
    fn a_failure_to_read_the_records_is_not_final() {
        let place = tempfile::tempdir().unwrap();
        let service = service(&place);
        let volumes = service.storage.volumes().unwrap().store().root().join("volumes");
        std::fs::remove_dir(&volumes).unwrap();
        std::fs::write(&volumes, "").unwrap();
        let failure = fails(&service, Mode::SingleNodeMultiWriter, Duration::from_secs(60));
        assert_eq!(failure.kind, Kind::Unavailable, "{failure}");
    }
}

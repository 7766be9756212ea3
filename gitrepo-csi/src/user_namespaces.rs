//! Pods with a user namespace (`hostUsers: false`): makes the overlays of their volumes copies, which the container runtime
//! can map.
//!
//! The kubelet writes the mapping into the pod's directory when it makes the pod's sandbox (kubelet
//! `pkg/kubelet/userns`), soon after the pod's volumes are published. So the directory of every pod with an overlay is
//! watched. If a container is started before the copy is complete, the runtime fails, and the kubelet tries again.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::store::Record;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;
use gitrepo_frontend::pods;
use nix::sys::inotify::AddWatchFlags;
use nix::sys::inotify::InitFlags;
use nix::sys::inotify::Inotify;
use nix::sys::inotify::InotifyEvent;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::ORIGIN;
use crate::deadline;
use crate::deadline::EndsWith;
use crate::failure::CallFailure;
use crate::storage::Storage;
use crate::sys;

/// The time between two looks at all volumes, in case an event was lost or a copy failed.
const INTERVAL: Duration = Duration::from_secs(60);

/// For the log, if the kernel tells nothing of the directories of pods.
const EVERY_MINUTE: &str = "pods with user namespaces are noticed only every minute";

/// How long one copy may take.
const TO_COPY: Duration = Duration::from_secs(5 * 60);

/// The pods of a node whose volumes may have to become copies. Clones share everything.
#[derive(Clone)]
pub struct UserNamespaces {
    storage: Arc<Storage>,
    pods: PathBuf,
    events: Arc<Events>,
}

/// What the kernel tells about the directories of pods.
struct Events {
    /// `None` if the kernel has no more instances: then only the looks at all volumes find pods.
    inotify: Option<Inotify>,
    /// Wakes the work when a pod turned out to have a user namespace as it was about to be watched.
    found: Notify,
}

impl UserNamespaces {
    /// Watches no pod yet. The directories of all pods are in `pods`.
    pub fn new(storage: Arc<Storage>, pods: PathBuf) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .inspect_err(|error| tracing::warn!(%error, "{EVERY_MINUTE}"))
            .ok();
        Self { storage, pods, events: Arc::new(Events { inotify, found: Notify::new() }) }
    }

    /// Watches the pod of a target that shows an overlay.
    pub fn watch(&self, target: &Path) {
        let Some(pod) = self.pod_of(target) else { return };
        if let Some(inotify) = &self.events.inotify {
            // The kubelet renames the finished file. A pod that is gone needs no watch.
            let arrival = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
            if let Err(error) = inotify.add_watch(&pod, arrival) {
                tracing::debug!(pod = %pod.display(), %error, "a pod cannot be watched");
            }
        }
        if pods::have_user_namespace(target) {
            self.events.found.notify_one();
        }
    }

    /// Makes overlays copies as soon as they have to be, for ever.
    pub async fn run(self) {
        let readable = self.events.inotify.as_ref().and_then(|inotify| {
            let opened = inotify.as_fd().try_clone_to_owned().and_then(sys::readable);
            opened.inspect_err(|error| tracing::warn!(%error, "{EVERY_MINUTE}")).ok()
        });
        let mut hopeless = BTreeSet::new();
        loop {
            match self.look(hopeless).await {
                Ok(still) => hopeless = still,
                Err(failure) => {
                    tracing::warn!(error = failure.message, "cannot look for volumes of pods with user namespaces");
                    hopeless = BTreeSet::new();
                }
            }
            tokio::select! {
                () = self.events.found.notified() => {}
                () = self.told(readable.as_ref()) => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Looks at all volumes: makes the overlays of pods with a user namespace copies, and watches the other pods. Returns
    /// the targets that will never show a copy, of which the log says so once.
    pub async fn look(&self, hopeless: BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, CallFailure> {
        let (this, cancel) = (self.clone(), Cancel::new());
        let ends = EndsWith(cancel.clone());
        let looked = deadline::on_a_thread(move || {
            let volumes = this.storage.volumes()?;
            let records = volumes.store().records()?.into_iter().filter(|record| record.origin == ORIGIN);
            let of_pods =
                records.filter(|record| !record.shows.is_read_only() && this.pod_of(&record.target).is_some());
            let replaced = of_pods.filter(|record| {
                if !pods::have_user_namespace(&record.target) {
                    if record.shows.is_layer() {
                        this.watch(&record.target);
                    }
                    return false;
                }
                let is_known = hopeless.contains(&record.target);
                is_known || is_hopeless(&volumes, record, &cancel.within(TO_COPY))
            });
            Ok(replaced.map(|record| record.target).collect())
        });
        let looked = looked.await;
        drop(ends);
        looked
    }

    /// Waits until a watched pod may have a user namespace; without a watch, for ever.
    async fn told(&self, readable: Option<&AsyncFd<OwnedFd>>) {
        let (Some(readable), Some(inotify)) = (readable, &self.events.inotify) else { return pending().await };
        while let Ok(mut ready) = readable.readable().await {
            match ready.try_io(|_| inotify.read_events().map_err(io::Error::from)) {
                Ok(Ok(events)) if events.iter().any(is_news) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "{EVERY_MINUTE}");
                    break;
                }
                // Other files, or nothing any more.
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        pending().await
    }

    /// Returns the directory of the pod that a target belongs to.
    fn pod_of(&self, target: &Path) -> Option<PathBuf> {
        let below = target.strip_prefix(&self.pods).ok()?;
        below.components().next().map(|pod| self.pods.join(pod))
    }
}

/// Whether an event tells of a user namespace, or that events were lost.
fn is_news(event: &InotifyEvent) -> bool {
    event.name.as_ref().is_some_and(|name| name == pods::USER_NAMESPACE)
        || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
}

/// Makes the overlay of a target a copy. Returns whether it cannot become one.
fn is_hopeless(volumes: &Volumes, record: &Record, cancel: &Cancel) -> bool {
    let (volume_id, target) = (&record.volume_id, record.target.display());
    match volumes.replace_layer(record, &Watch::until(cancel.clone())) {
        Ok(true) => {
            tracing::info!(volume_id, %target, "the pod has a user namespace, so the overlay of its volume is a copy now");
            false
        }
        Ok(false) => false,
        Err(error) => {
            tracing::warn!(volume_id, %target, error = %chain(&error), "the volume of a pod with a user namespace is no copy");
            error.kind() == Kind::FailedPrecondition
        }
    }
}

//! Pods with a user namespace (`hostUsers: false`): makes the overlays of their volumes copies, which the container runtime
//! can map.
//!
//! The kubelet writes the mapping into the pod's directory when it makes the pod's sandbox (kubelet
//! `pkg/kubelet/userns`), soon after the pod's volumes are published. So the directory of every pod with an overlay is
//! watched. If a container is started before the copy is complete, the runtime fails, and the kubelet tries again.

use std::error::Error;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gitrepo_core::store::Record;
use gitrepo_core::volume::PublishError;
use gitrepo_frontend::pods;
use nix::errno::Errno;
use nix::sys::inotify::AddWatchFlags;
use nix::sys::inotify::InitFlags;
use nix::sys::inotify::Inotify;
use nix::sys::inotify::InotifyEvent;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

mod replacing;

use replacing::Replacing;

use crate::ORIGIN;
use crate::deadline;
use crate::failure::CallFailure;
use crate::storage::Storage;
use crate::sys;

/// The time between two looks at all volumes, in case an event was lost, and before a copy that failed is tried again.
const INTERVAL: Duration = Duration::from_secs(60);

/// For the log, if the kernel tells nothing of the directories of pods.
const EVERY_MINUTE: &str = "pods with user namespaces are noticed only every minute";

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
    /// Whether the log says already that pods are noticed late.
    is_known_late: AtomicBool,
}

impl Events {
    /// Logs, once for all pods, that they are noticed late.
    fn complain(&self, error: &dyn Error) {
        if !self.is_known_late.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "{EVERY_MINUTE}");
        }
    }
}

impl UserNamespaces {
    /// Watches no pod yet. The directories of all pods are in `pods`.
    pub fn new(storage: Arc<Storage>, pods: PathBuf) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .inspect_err(|error| tracing::warn!(%error, "{EVERY_MINUTE}"))
            .ok();
        let is_known_late = AtomicBool::new(inotify.is_none());
        Self { storage, pods, events: Arc::new(Events { inotify, found: Notify::new(), is_known_late }) }
    }

    /// Watches the pod of a target that shows an overlay.
    pub fn watch(&self, target: &Path) {
        let Some(pod) = self.pod_of(target) else { return };
        if let Some(inotify) = &self.events.inotify {
            // The kubelet renames the finished file.
            let arrival = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
            match inotify.add_watch(&pod, arrival) {
                Ok(_) => {}
                // The pod is gone.
                Err(Errno::ENOENT) => {}
                // Too many watches.
                Err(error) => self.events.complain(&error),
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
            opened.inspect_err(|error| self.events.complain(error)).ok()
        });
        let mut replacing = Replacing::new(Arc::clone(&self.storage));
        loop {
            match self.look().await {
                Ok(targets) => replacing.begin(targets),
                Err(failure) => {
                    tracing::warn!(error = failure.message, "cannot look for volumes of pods with user namespaces");
                }
            }
            tokio::select! {
                () = self.events.found.notified() => {}
                () = self.told(readable.as_ref()) => {}
                () = replacing.ended() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Looks at all volumes: returns the overlays that have to become copies, and watches the pods of the others.
    ///
    /// # Errors
    ///
    /// If the store or the mount table cannot be read.
    pub async fn look(&self) -> Result<Vec<Record>, CallFailure> {
        let this = self.clone();
        deadline::on_a_thread(move || {
            let volumes = this.storage.volumes()?;
            let mut found = Vec::new();
            for record in volumes.store().records()?.into_iter().filter(|record| record.origin == ORIGIN) {
                if record.shows.is_read_only() || this.pod_of(&record.target).is_none() {
                    continue;
                }
                if !pods::have_user_namespace(&record.target) {
                    if record.shows.is_layer() {
                        this.watch(&record.target);
                    }
                } else if volumes.shows_layer(&record).map_err(PublishError::from)? {
                    found.push(record);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Waits until a watched pod may have a user namespace; without a watch, for ever.
    async fn told(&self, readable: Option<&AsyncFd<OwnedFd>>) {
        let (Some(readable), Some(inotify)) = (readable, &self.events.inotify) else { return pending().await };
        while let Ok(mut ready) = readable.readable().await {
            match ready.try_io(|_| inotify.read_events().map_err(io::Error::from)) {
                Ok(Ok(events)) if events.iter().any(is_news) => return,
                Ok(Err(error)) => {
                    self.events.complain(&error);
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

//! Publishes that outlive their calls.
//!
//! A clone may take longer than the kubelet waits, and the server drops a handler's future when its client goes away.
//! So each publish is a job on a thread of its own, which leases the tree and then shows it on the target. A call for
//! the same volume and target joins the job. A call whose time is up answers `Timeout` and says how far the job is; the
//! job goes on. An unpublish ends the job, unless other volumes wait for the same tree: then the job leases, and shows
//! nothing. The work of a job stands in the store. Only a failure that no caller heard is kept, for a while, for the
//! next caller.
//!
//! Nothing waits while it holds the lock of the table.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::error::Kind;
use gitrepo_core::lease::Provenance;
use gitrepo_core::progress::Progress;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use tokio::sync::watch;

use crate::failure::CallFailure;
use crate::metrics::Metrics;
use crate::storage::Storage;

mod pod;
mod progress;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use progress::Seen;
use table::Job;
use table::JobKey;
use table::JobTable;
pub use waiting::Waiting;

/// A volume to publish.
pub struct Order {
    /// What to publish, and where.
    pub request: VolumeRequest,
    /// As whom to fetch it.
    pub credentials: Credentials,
}

/// How many jobs may run at once, each on a thread: more than a node has pods.
const MOST: usize = 2048;

/// The stack of a job's thread, in bytes. A limit on nested directories bounds the core's recursion.
const STACK: usize = 1 << 20;

/// How long every job that a call waits for may go on while the driver stops. Most clones take less in total.
const FOR_ALL: Duration = Duration::from_secs(10);

/// How long a job may take that starts while the driver stops: enough for a cached tree.
const FOR_NEW: Duration = Duration::from_secs(2);

/// How often the jobs of a stopping driver are judged.
const LOOK: Duration = Duration::from_millis(100);

/// How a job ends.
type Answer = Result<Published, CallFailure>;

/// The work of a job.
type Publish = dyn Fn(&Order, &Watch, &Running<'_>) -> Answer + Send + Sync;

/// The jobs of this driver. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCount {
    /// Jobs that run.
    pub running: usize,
    /// Failures that no caller has heard yet.
    pub unheard: usize,
}

struct Shared {
    publish: Box<Publish>,
    limit: Duration,
    table: Mutex<JobTable>,
}

/// A job's own view of the table.
struct Running<'a> {
    shared: &'a Shared,
    number: u64,
}

/// Leases the tree, then shows it on the target. If it fails, what it did for the target is undone.
fn publish(storage: &Storage, metrics: &Metrics, order: &Order, watch: &Watch, job: &Running<'_>) -> Answer {
    loop {
        let volumes = storage.volumes()?;
        let lease = volumes.lease(&order.request, &order.credentials, watch)?;
        if let Provenance::Remote { received_bytes } = lease.snapshot().provenance() {
            metrics.fetched(received_bytes);
        }
        job.begin_show()?;
        match volumes.show(&lease, watch) {
            Err(PublishError::Outdated { .. }) => job.leases_again(),
            shown => return Ok(shown?),
        }
    }
}

impl Running<'_> {
    /// The tree is leased, and its show begins. Fails if the target was unpublished meanwhile.
    fn begin_show(&self) -> Result<(), CallFailure> {
        match self.shared.table().begin_show(self.number) {
            true => Ok(()),
            false => Err(CallFailure::new(Kind::Cancelled, "the volume was unpublished while its tree was fetched")),
        }
    }

    /// The target needs another tree by now.
    fn leases_again(&self) {
        self.shared.table().leases_again(self.number);
    }
}

impl Jobs {
    /// Jobs that publish these volumes. Each may take `limit` in total.
    pub fn new(storage: Arc<Storage>, metrics: Arc<Metrics>, limit: Duration) -> Self {
        Self::with(limit, move |order, watch, job| publish(&storage, &metrics, order, watch, job))
    }

    fn with(limit: Duration, publish: impl Fn(&Order, &Watch, &Running<'_>) -> Answer + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { publish: Box::new(publish), limit, table: Mutex::default() }) }
    }

    /// Starts a job for this order, or joins the one there is.
    ///
    /// # Errors
    ///
    /// The failure of an earlier job that no caller heard. Of kind `Busy` if a different request works on the same
    /// target; if only its secrets differ, that job is cancelled, so that the next try uses the corrected secret.
    pub fn join(&self, order: Order) -> Result<Waiting, CallFailure> {
        let key = JobKey::new(&order.request.volume_id, &order.request.target);
        let mut table = self.shared.table();
        table.expire(Instant::now());
        if let Some(failure) = table.take_failure(&key, &order) {
            return Err(failure);
        }
        let shared = Arc::clone(&self.shared);
        if let Some(job) = table.join(&key, &order)? {
            drop(table);
            tracing::debug!(volume = key.volume_id(), "a call joins the publish in flight");
            return Ok(Waiting { shared, key, job });
        }
        if table.count().running >= MOST {
            return Err(CallFailure::new(
                Kind::ResourceExhausted,
                format!("{MOST} publishes are in flight; try again"),
            ));
        }
        let (answered, answer) = watch::channel(None);
        let job = Job::new(key.clone(), order, Cancel::new().within(self.shared.limit), answer);
        let number = table.number();
        self.start(number, &job, answered)?;
        let job = table.insert(number, job);
        drop(table);
        Ok(Waiting { shared, key, job })
    }

    /// Starts the thread. The caller holds the table's lock, so the thread cannot report before its job is in the
    /// table.
    fn start(&self, number: u64, job: &Job, answered: watch::Sender<Option<Answer>>) -> Result<(), CallFailure> {
        let watch = Watch::new(job.cancel.clone(), Arc::clone(&job.seen) as Arc<dyn Progress>);
        let (shared, order) = (Arc::clone(&self.shared), Arc::clone(&job.order));
        let work = move || {
            let running = Running { shared: &shared, number };
            let answer = catch_unwind(AssertUnwindSafe(|| (shared.publish)(&order, &watch, &running)));
            // Wipe the secrets as soon as possible.
            drop(order);
            let answer = answer.unwrap_or_else(|_| Err(vanished()));
            shared.table().finish(number, &answer);
            answered.send_replace(Some(answer));
        };
        thread::Builder::new().name("publish".to_owned()).stack_size(STACK).spawn(work).map(drop).map_err(|error| {
            CallFailure::new(Kind::ResourceExhausted, format!("cannot start a thread to publish with: {error}"))
        })
    }

    /// Ends the job of this target, if there is one, and waits until it is over. If other volumes wait for the same
    /// tree, the job goes on for them, and does nothing for this target. Returns whether a job was given up: what it
    /// did for the target remains.
    ///
    /// # Errors
    ///
    /// `Busy` if the job is not over after `patience`. It still ends.
    pub async fn end(&self, volume_id: &str, target: &Path, patience: Duration) -> Result<bool, CallFailure> {
        let ending = self.shared.table().end(&JobKey::new(volume_id, target));
        let Some(mut answer) = ending else { return Ok(false) };
        // A sender that is dropped without an answer also means the end.
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await.map(drop) {
            Ok(()) => Ok(true),
            Err(_) => Err(CallFailure::new(
                Kind::Busy,
                format!("the publish on {} is being given up; try again", target.display()),
            )),
        }
    }

    /// A call for this volume failed. The kubelet pauses longer after each failure, so the next calls wait until their
    /// deadline instead of answering early.
    pub fn told(&self, volume_id: &str, target: &Path) {
        self.shared.table().told(&JobKey::new(volume_id, target));
    }

    /// The volume was unpublished: its next call may answer early again.
    pub fn forget(&self, volume_id: &str, target: &Path) {
        self.shared.table().forget(&JobKey::new(volume_id, target));
    }

    /// Whether a job of this volume works on a target other than this one.
    pub fn works_elsewhere(&self, volume_id: &str, target: &Path) -> bool {
        self.shared.table().works_elsewhere(&JobKey::new(volume_id, target))
    }

    /// The number of jobs and of kept failures.
    pub fn count(&self) -> JobCount {
        self.shared.table().count()
    }

    /// Drops failures that were kept long enough.
    pub fn expire(&self) {
        self.shared.table().expire(Instant::now());
    }

    /// Refuses new requests, and cancels every job.
    pub fn close(&self) {
        drop(self.shared.table().close());
    }

    /// Refuses new requests, cancels every job, and waits for them to end. Returns how many still run after `patience`.
    pub async fn shut_down(&self, patience: Duration) -> usize {
        let answers = self.shared.table().close();
        let all = async {
            for mut answer in answers {
                drop(answer.wait_for(Option::is_some).await);
            }
        };
        match tokio::time::timeout(patience, all).await {
            Ok(()) => 0,
            Err(_) => self.count().running,
        }
    }

    /// Stops in good order. A pack that was not received completely is lost, and the next driver fetches it from the
    /// beginning. So jobs that will probably end `within` this time, by the rate at which their objects arrive, are
    /// finished, and a job that writes its tree always is. The others are cancelled. A job that starts meanwhile must
    /// end soon. Returns when no job is left, or when the time is up; the rest is cancelled then.
    pub async fn finish(&self, within: Duration) {
        let begun = Instant::now();
        self.shared.table().finish_up();
        let running = self.count().running;
        if running > 0 {
            tracing::info!(
                running,
                seconds = within.as_secs(),
                "the driver stops: publishes that are near their end are finished, if they end in these seconds"
            );
        }
        loop {
            let elapsed = begun.elapsed();
            let left = within.saturating_sub(elapsed);
            let stays = |seen: &Seen, is_waited_for: bool| {
                let has_time = elapsed < FOR_ALL || seen.age() < FOR_NEW;
                !left.is_zero() && ((is_waited_for && has_time) || seen.ends_within(left))
            };
            let (stay, given_up) = self.shared.table().give_up_but(stays);
            for (key, seen) in given_up {
                let (target, lost) = (key.target().display(), seen.lost());
                tracing::warn!(target_path = %target, progress = %seen, "given up, for the driver stops: {lost}");
            }
            if stay == 0 {
                return;
            }
            tokio::time::sleep(LOOK.min(left)).await;
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, JobTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is unknown what the job did and whether it was undone. So this failure is not final: the kubelet must retry or
/// unpublish.
fn vanished() -> CallFailure {
    CallFailure::new(Kind::Unavailable, "the publish ended without an answer, by a fault of this driver; see the log")
}

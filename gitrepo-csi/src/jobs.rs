//! Publishes that outlive their calls.
//!
//! A clone may take longer than the kubelet waits, and the server drops a handler's future when its client goes away.
//! So each publish is a job on its own thread, which leases the tree and then shows it on the target. A call for the
//! same volume and target joins the job. If a call's deadline passes, it answers `Timeout` with the job's progress, and
//! the job continues. An unpublish ends the job, unless other volumes wait for the same tree: then the job continues to
//! lease the tree, but does not show it. The result of a job is in the store. Only a failure that was reported to no
//! caller is kept, for a while, for the next caller.
//!
//! No thread waits while it holds the lock of the table.

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
use gitrepo_frontend::audit;
use gitrepo_frontend::audit::Requester;
use tokio::sync::watch;

use crate::failure::CallFailure;
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::wipe;

mod fingerprint;
mod pod;
mod progress;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use fingerprint::Fingerprint;
use progress::JobProgress;
use table::Job;
use table::JobKey;
use table::JobTable;
pub use waiting::Waiting;

/// A volume to publish.
pub struct Order {
    /// What to publish, and where.
    request: VolumeRequest,
    /// For whom.
    requester: Requester,
    /// The credentials to fetch it with.
    credentials: Credentials,
    /// Of the credentials.
    fingerprint: Fingerprint,
}

/// How many jobs may run at once, each on its own thread: more than a node has pods.
const MOST: usize = 2048;

/// How many of them may be of one tenant.
const MOST_OF_ONE: usize = MOST / 3 * 2;

/// The stack of a job's thread, in bytes. A limit on nested directories bounds the core's recursion.
const STACK: usize = 1 << 20;

/// How long any job with a waiting call may continue while the driver stops. Most clones take less in total.
const FOR_ALL: Duration = Duration::from_secs(10);

/// How long a job that starts while the driver stops may take: enough for a cached tree.
const FOR_NEW: Duration = Duration::from_secs(2);

/// How often a stopping driver decides which jobs may continue.
const LOOK: Duration = Duration::from_millis(100);

/// The result of a job.
type Answer = Result<Published, CallFailure>;

/// The function that does the work of a job.
type Publish = dyn Fn(&Order, &Watch, &Running<'_>) -> Answer + Send + Sync;

/// The jobs of this driver. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// The number of jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobCount {
    /// Running jobs.
    pub running: usize,
    /// Failures that were reported to no caller yet.
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

/// Leases the tree, then shows it on the target. A failed attempt undoes its changes to the target.
fn publish(storage: &Storage, metrics: &Metrics, order: &Order, watch: &Watch, job: &Running<'_>) -> Answer {
    loop {
        let volumes = storage.volumes()?;
        let audited = |error: PublishError| {
            audit::refused(&order.requester, &order.request, &order.credentials, &volumes, &error);
            error
        };
        let lease = volumes.lease(&order.request, &order.credentials, watch).map_err(audited)?;
        if let Provenance::Remote { received_bytes } = lease.snapshot().provenance() {
            metrics.fetched(received_bytes);
            storage.note_untidy();
        }
        job.begin_show()?;
        match volumes.show(&lease, watch) {
            Err(PublishError::Outdated { .. }) => job.leases_again(),
            result => {
                let published = result.map_err(audited)?;
                audit::published(&order.requester, &order.request, &published);
                return Ok(published);
            }
        }
    }
}

impl Order {
    /// An order of this volume. Hashes the secrets, so call it in [`wipe::after`].
    pub fn new(request: VolumeRequest, requester: Requester, credentials: Credentials) -> Self {
        let fingerprint = Fingerprint::of(&credentials);
        Self { request, requester, credentials, fingerprint }
    }
}

impl Running<'_> {
    /// Notes that the tree is leased and now shown. Fails if the target was unpublished meanwhile.
    fn begin_show(&self) -> Result<(), CallFailure> {
        match self.shared.table().begin_show(self.number) {
            true => Ok(()),
            false => Err(CallFailure::new(Kind::Cancelled, "the volume was unpublished while its tree was fetched")),
        }
    }

    /// Notes that the target needs another tree by now, which is leased next.
    fn leases_again(&self) {
        self.shared.table().leases_again(self.number);
    }
}

impl Jobs {
    /// Returns an empty set of jobs, which will publish volumes of `storage`. Each job may take `limit` in total.
    pub fn new(storage: Arc<Storage>, metrics: Arc<Metrics>, limit: Duration) -> Self {
        Self::with(limit, move |order, watch, job| publish(&storage, &metrics, order, watch, job))
    }

    fn with(limit: Duration, publish: impl Fn(&Order, &Watch, &Running<'_>) -> Answer + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { publish: Box::new(publish), limit, table: Mutex::default() }) }
    }

    /// Starts a job for this order, or joins the existing one.
    ///
    /// # Errors
    ///
    /// The failure of an earlier job that was reported to no caller. `Busy` if a job of a different request works on
    /// the same target; if only the secrets differ, cancels that job, so that the next try uses the corrected secret.
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
        if table.running_of(&order) >= MOST_OF_ONE {
            return Err(CallFailure::new(
                Kind::ResourceExhausted,
                format!("{MOST_OF_ONE} publishes for this namespace are in flight; try again"),
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
        let watch = Watch::new(job.cancel.clone(), Arc::clone(&job.progress) as Arc<dyn Progress>);
        let (shared, order) = (Arc::clone(&self.shared), Arc::clone(&job.order));
        let work = move || {
            let answer = wipe::after(|| {
                let running = Running { shared: &shared, number };
                let answer = catch_unwind(AssertUnwindSafe(|| (shared.publish)(&order, &watch, &running)));
                let answer = answer.unwrap_or_else(|_| Err(vanished()));
                shared.table().finish(number, &answer);
                // The last use of the secrets: whoever gets the answer finds them wiped.
                drop(order);
                answer
            });
            answered.send_replace(Some(answer));
        };
        thread::Builder::new().name("publish".to_owned()).stack_size(STACK).spawn(work).map(drop).map_err(|error| {
            CallFailure::new(Kind::ResourceExhausted, format!("cannot start a thread to publish with: {error}"))
        })
    }

    /// Ends the job of this target, if there is one, and waits for its end. If other volumes wait for the same tree,
    /// the job continues for them, and does nothing for this target. Returns whether it cancelled a job. It does not
    /// undo what that job did for the target.
    ///
    /// # Errors
    ///
    /// `Busy` if the job has not ended after `patience`. It ends later.
    pub async fn end(&self, volume_id: &str, target: &Path, patience: Duration) -> Result<bool, CallFailure> {
        let ending = self.shared.table().end(&JobKey::new(volume_id, target));
        let Some(mut answer) = ending else { return Ok(false) };
        // A job whose sender was dropped without an answer has ended, too.
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await.map(drop) {
            Ok(()) => Ok(true),
            Err(_) => Err(CallFailure::new(
                Kind::Busy,
                format!("the publish on {} is being cancelled; try again", target.display()),
            )),
        }
    }

    /// Notes that a call for this volume failed. The kubelet pauses longer after each failure, so the next calls wait
    /// until their deadline instead of answering early.
    pub fn told(&self, volume_id: &str, target: &Path) {
        self.shared.table().remember_failed_call(&JobKey::new(volume_id, target));
    }

    /// Notes that the volume was unpublished: its next call may answer early again.
    pub fn forget(&self, volume_id: &str, target: &Path) {
        self.shared.table().forget(&JobKey::new(volume_id, target));
    }

    /// Whether a job of this volume works on a target other than this one.
    pub fn works_elsewhere(&self, volume_id: &str, target: &Path) -> bool {
        self.shared.table().works_elsewhere(&JobKey::new(volume_id, target))
    }

    /// Returns the number of jobs and of kept failures.
    pub fn count(&self) -> JobCount {
        self.shared.table().count()
    }

    /// Drops failures that were kept long enough.
    pub fn expire(&self) {
        self.shared.table().expire(Instant::now());
    }

    /// Refuses new requests from now on, and cancels every job.
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

    /// Lets jobs near their end finish, since a partial pack is lost, and the next driver fetches it from the
    /// beginning. A job may continue if it writes its tree, or if it will probably end `within` this time, by the rate
    /// at which its objects arrive. The others are cancelled after a short time, as are jobs that start meanwhile.
    /// Returns when no job is left, or when the time is up; then the remaining jobs are cancelled.
    pub async fn finish(&self, within: Duration) {
        let begun = Instant::now();
        self.shared.table().finish_up();
        let running = self.count().running;
        if running > 0 {
            tracing::info!(
                running,
                seconds = within.as_secs(),
                "the driver is stopping: publishes that can end within these seconds may finish"
            );
        }
        loop {
            let elapsed = begun.elapsed();
            let left = within.saturating_sub(elapsed);
            let may_continue = |progress: &JobProgress, is_waited_for: bool| {
                let has_time = elapsed < FOR_ALL || progress.age() < FOR_NEW;
                !left.is_zero() && ((is_waited_for && has_time) || progress.ends_within(left))
            };
            let (continuing, given_up) = self.shared.table().give_up_unless(may_continue);
            for (key, progress) in given_up {
                let (target, lost) = (key.target().display(), progress.lost());
                tracing::warn!(target_path = %target, %progress, "given up because the driver is stopping: {lost}");
            }
            if continuing == 0 {
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

/// Returns the failure of a job that ended without an answer. It is unknown what the job did and whether it was undone,
/// so the failure is not final: the kubelet must retry or unpublish.
fn vanished() -> CallFailure {
    CallFailure::new(
        Kind::Unavailable,
        "the publish ended without an answer: this is a fault of this driver; see the log",
    )
}

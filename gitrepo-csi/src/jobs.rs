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
use gitrepo_core::error::Kind;
use gitrepo_core::progress::Progress;
use gitrepo_core::volume::Published;
use gitrepo_core::watch::Watch;
use tokio::sync::watch;

use crate::failure::Failure;

mod finish;
mod order;
mod progress;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

pub use order::Order;
use progress::Seen;
use table::Ending;
use table::Key;
use table::Table;
pub use waiting::Waiting;

/// Publishes in two steps, each of which may take long.
pub trait Publisher: Send + Sync + 'static {
    /// Brings the tree to the node. Does nothing for the target.
    fn lease<'a>(&'a self, order: &'a Order, watch: &'a Watch) -> Result<Box<dyn Leased + 'a>, Failure>;
}

/// A tree that is on the node while this value lives.
pub trait Leased {
    /// Shows the tree on the target. Undoes what it did if it fails. `None` if the target needs another tree by now:
    /// lease again.
    fn show(&self) -> Result<Option<Published>, Failure>;
}

/// How many jobs may run at once, each on a thread: more than a node has pods.
const MOST: usize = 2048;

/// The stack of a job's thread, in bytes. A limit on nested directories bounds the core's recursion.
const STACK: usize = 1 << 20;

/// How a job ends.
type Answer = Result<Published, Failure>;

/// The jobs of this driver. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// How many jobs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Jobs that run.
    pub running: usize,
    /// Failures that no caller has heard yet.
    pub unheard: usize,
}

/// How a job was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was no job, or it did nothing for the target and will not.
    Nothing,
    /// The job is over. What it did for its target remains.
    GivenUp,
}

struct Shared {
    publisher: Arc<dyn Publisher>,
    limit: Duration,
    table: Mutex<Table>,
}

impl Jobs {
    /// Jobs of this publisher. Each may take `limit` in total.
    pub fn new(publisher: Arc<dyn Publisher>, limit: Duration) -> Self {
        Self { shared: Arc::new(Shared { publisher, limit, table: Mutex::default() }) }
    }

    /// Ends the job of this target, if there is one, and waits until it is over. If other volumes wait for the same
    /// tree, the job goes on for them, and does nothing for this target.
    ///
    /// # Errors
    ///
    /// `Busy` if the job is not over after `patience`. It still ends.
    pub async fn end(&self, volume_id: &str, target: &Path, patience: Duration) -> Result<Ended, Failure> {
        let mut answer = match self.shared.table().end(&Key::new(volume_id, target)) {
            Ending::Nothing => return Ok(Ended::Nothing),
            Ending::GivenUp(answer) => answer,
        };
        // A sender that is dropped without an answer also means the end.
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await.map(drop) {
            Ok(()) => Ok(Ended::GivenUp),
            Err(_) => Err(Failure::new(
                Kind::Busy,
                format!("the publish on {} is being given up; try again", target.display()),
            )),
        }
    }

    /// A call for this volume failed. The kubelet pauses longer after each failure, so the next calls wait until their
    /// deadline instead of answering early.
    pub fn told(&self, volume_id: &str, target: &Path) {
        self.shared.table().told(&Key::new(volume_id, target));
    }

    /// The volume was unpublished: its next call may answer early again.
    pub fn forget(&self, volume_id: &str, target: &Path) {
        self.shared.table().forget(&Key::new(volume_id, target));
    }

    /// Whether a job of this volume works on a target other than this one.
    pub fn works_elsewhere(&self, volume_id: &str, target: &Path) -> bool {
        self.shared.table().works_elsewhere(&Key::new(volume_id, target))
    }

    /// The number of jobs and of kept failures.
    pub fn count(&self) -> Count {
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

    /// Starts a job for this order, or joins the one there is.
    ///
    /// # Errors
    ///
    /// The failure of an earlier job that no caller heard. Of kind `Busy` if a different request works on the same
    /// target; if only its secrets differ, that job is cancelled, so that the next try uses the corrected secret.
    pub fn join(&self, order: Order) -> Result<Waiting, Failure> {
        let key = Key::new(&order.request.volume_id, &order.request.target);
        let mut table = self.shared.table();
        table.expire(Instant::now());
        if let Some(failure) = table.take_failure(&key, &order) {
            return Err(failure);
        }
        if let Some(joined) = table.join(&key, &order)? {
            drop(table);
            tracing::debug!(volume = key.volume_id(), "a call joins the publish in flight");
            return Ok(Waiting::new(Arc::clone(&self.shared), key, joined));
        }
        if table.count().running >= MOST {
            return Err(Failure::new(Kind::ResourceExhausted, format!("{MOST} publishes are in flight; try again")));
        }
        let cancel = Cancel::new().within(self.shared.limit);
        let seen = Seen::of(&order.request.spec.repository);
        let (job, seen) = (table::Work { order: Arc::new(order), cancel }, Arc::new(seen));
        let (answered, answer) = watch::channel(None);
        let number = table.number();
        self.start(number, &job, &seen, answered)?;
        let joined = table.insert(key.clone(), number, job, seen, answer);
        drop(table);
        Ok(Waiting::new(Arc::clone(&self.shared), key, joined))
    }

    /// Starts the thread. The caller holds the table's lock, so the thread cannot report before its job is in the
    /// table.
    fn start(
        &self,
        number: u64,
        job: &table::Work,
        seen: &Arc<Seen>,
        answered: watch::Sender<Option<Answer>>,
    ) -> Result<(), Failure> {
        let watch = Watch::new(job.cancel.clone(), Arc::clone(seen) as Arc<dyn Progress>);
        let (shared, order) = (Arc::clone(&self.shared), Arc::clone(&job.order));
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| shared.publish(number, &order, &watch)));
            // Wipe the secrets as soon as possible.
            drop(order);
            let answer = answer.unwrap_or_else(|_| Err(vanished()));
            shared.table().finish(number, &answer);
            answered.send_replace(Some(answer));
        };
        thread::Builder::new().name("publish".to_owned()).stack_size(STACK).spawn(work).map(drop).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("cannot start a thread to publish with: {error}"))
        })
    }
}

impl Shared {
    fn publish(&self, number: u64, order: &Order, watch: &Watch) -> Answer {
        loop {
            let leased = self.publisher.lease(order, watch)?;
            if !self.table().is_to_show(number) {
                return Err(Failure::new(Kind::Cancelled, "the volume was unpublished while its tree was fetched"));
            }
            if let Some(published) = leased.show()? {
                return Ok(published);
            }
            self.table().leases_again(number);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is unknown what the job did and whether it was undone. So this failure is not final: the kubelet must retry or
/// unpublish.
fn vanished() -> Failure {
    Failure::new(Kind::Unavailable, "the publish ended without an answer, by a fault of this driver; see the log")
}

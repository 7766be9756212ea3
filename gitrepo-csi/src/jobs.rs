//! Publishes that outlive their calls.
//!
//! A clone may take longer than the kubelet waits, and the server drops a handler's future when its client goes away. So
//! each publish is a job on a thread of its own, which leases the tree and then shows it on the target. A call for the same
//! volume and target joins the job. A call whose time is up answers `Timeout` and says how far the job is; the job goes on.
//! An unpublish ends the job, unless other volumes wait for the same tree: then the job leases, and shows nothing. The work
//! of a job stands in the store. Only a failure that no caller heard is kept, for a while, for the next caller.
//!
//! No lock is held while anything is waited for.

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

/// Publishes in two steps, however long they take.
pub trait Publisher: Send + Sync + 'static {
    /// Brings the tree to the node. Nothing is done for the target.
    fn lease<'a>(&'a self, order: &'a Order, watch: &'a Watch) -> Result<Box<dyn Leased + 'a>, Failure>;
}

/// A tree that is on the node while this value lives.
pub trait Leased {
    /// Shows the tree on the target. A failure has been undone. `None` if the target is to show another tree by now: lease
    /// again.
    fn show(&self) -> Result<Option<Published>, Failure>;
}

/// Jobs at once, each with a thread: beyond what a node has pods.
const MOST: usize = 2048;

/// The stack of a job's thread. Core's recursion is bounded by the directories inside each other that it allows.
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
    /// At work.
    pub running: usize,
    /// Failed, and not yet heard.
    pub unheard: usize,
}

/// How a job was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// There was none, or it had done nothing for the target and will not.
    Nothing,
    /// It is over. What it did for its target stands.
    GivenUp,
}

struct Shared {
    publisher: Arc<dyn Publisher>,
    limit: Duration,
    table: Mutex<Table>,
}

impl Jobs {
    /// Jobs of this publisher, each of which may take `limit` in all.
    pub fn new(publisher: Arc<dyn Publisher>, limit: Duration) -> Self {
        Self { shared: Arc::new(Shared { publisher, limit, table: Mutex::default() }) }
    }

    /// Ends the job of this target, if there is one: gives it up and waits until nothing of it is at work any more. Where
    /// other volumes wait for its tree, it goes on for them, and does nothing for this target.
    ///
    /// # Errors
    ///
    /// `Busy` when the wait takes longer than `patience`; it goes on ending.
    pub async fn end(&self, volume_id: &str, target: &Path, patience: Duration) -> Result<Ended, Failure> {
        let mut answer = match self.shared.table().end(&Key::new(volume_id, target)) {
            Ending::Nothing => return Ok(Ended::Nothing),
            Ending::GivenUp(answer) => answer,
        };
        // An answer that never comes is an end too.
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await.map(drop) {
            Ok(()) => Ok(Ended::GivenUp),
            Err(_) => Err(Failure::new(
                Kind::Busy,
                format!("the publish on {} is being given up; try again", target.display()),
            )),
        }
    }

    /// A call for this volume has failed: the kubelet pauses, each time longer, and so the next calls wait as long as they
    /// can instead of telling early how their job stands.
    pub fn told(&self, volume_id: &str, target: &Path) {
        self.shared.table().told(&Key::new(volume_id, target));
    }

    /// The volume has left its target: what was told of it no longer counts.
    pub fn forget(&self, volume_id: &str, target: &Path) {
        self.shared.table().forget(&Key::new(volume_id, target));
    }

    /// Whether a job of this volume is at work on another target than this one.
    pub fn works_elsewhere(&self, volume_id: &str, target: &Path) -> bool {
        self.shared.table().works_elsewhere(&Key::new(volume_id, target))
    }

    /// How many there are.
    pub fn count(&self) -> Count {
        self.shared.table().count()
    }

    /// Forgets failures that were kept long enough.
    pub fn expire(&self) {
        self.shared.table().expire(Instant::now());
    }

    /// Takes no more requests, and gives up every job.
    pub fn close(&self) {
        drop(self.shared.table().close());
    }

    /// Takes no more requests, gives up every job, and waits for their end. Says how many are still at work after
    /// `patience`.
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
    /// That of an earlier job which nobody heard. Of kind `Busy` when another request is at work on the same target; if
    /// only its secrets differ, that one is given up, so that a corrected secret counts at the next try.
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

    /// Starts the thread. It reports under the table's lock, which the caller holds: not before the job is in the table.
    fn start(
        &self,
        number: u64,
        job: &table::Work,
        seen: &Arc<Seen>,
        answered: watch::Sender<Option<Answer>>,
    ) -> Result<(), Failure> {
        let watch = Watch { cancel: job.cancel.clone(), progress: Arc::clone(seen) as Arc<dyn Progress> };
        let (shared, order) = (Arc::clone(&self.shared), Arc::clone(&job.order));
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| shared.publish(number, &order, &watch)));
            // The secrets in it are not needed any longer.
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
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it had done by then, and whether that was undone, is not known. So this is not final: a retry or an unpublish must
/// come to look.
fn vanished() -> Failure {
    Failure::new(Kind::Unavailable, "the publish ended without an answer, by a fault of this driver; see the log")
}

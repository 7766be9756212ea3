//! Publishing that outlives its call.
//!
//! A clone may take longer than the kubelet waits, and the server drops a handler's future when its client goes away. So
//! a publish is a job: core's synchronous call on a thread of its own, known by volume and target. Whoever asks for the
//! same while it runs joins it; a call whose time is up answers `Timeout` with how far the job is, and the job goes on;
//! an unpublish ends it, but for a fetch that other volumes wait for. What a job has done stands in the store. Only the
//! failure of one that nobody waited for is kept, for the next caller to hear, and for a while.
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
use gitrepo_core::snapshot::Watch;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::VolumeRequest;
use tokio::sync::watch;

use crate::failure::Failure;

mod finish;
mod progress;
mod same;
mod table;
#[cfg(test)]
mod tests;
mod waiting;

use progress::Seen;
use table::Ending;
use table::Key;
use table::Table;
pub use waiting::Waiting;

/// Publishes, however long that takes.
pub trait Publisher: Send + Sync + 'static {
    /// As [`Volumes::publish`](gitrepo_core::volume::Volumes::publish): what it fails to do it has undone.
    fn publish(&self, request: &VolumeRequest, watch: &Watch) -> Result<Published, Failure>;
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
    /// There was none.
    Nothing,
    /// It had done nothing for its target, and will not; what it fetches is for others.
    Withdrawn,
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

    /// Ends the job of this target, if there is one: gives it up and waits until nothing of it is at work any more, or,
    /// where other volumes wait for the tree that it fetches, leaves it to that alone.
    ///
    /// # Errors
    ///
    /// `Busy` when the wait takes longer than `patience`; it goes on ending.
    pub async fn end(&self, volume_id: &str, target: &Path, patience: Duration) -> Result<Ended, Failure> {
        let mut answer = match self.shared.table().end(&Key::new(volume_id, target)) {
            Ending::Nothing => return Ok(Ended::Nothing),
            Ending::Withdrawn => return Ok(Ended::Withdrawn),
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

    /// Starts a job for this request, or joins the one there is.
    ///
    /// # Errors
    ///
    /// That of an earlier job which nobody heard. Of kind `Busy` when another request is at work on the same target; if
    /// only its secrets differ, that one is given up, so that a corrected secret counts at the next try.
    pub fn join(&self, request: VolumeRequest) -> Result<Waiting, Failure> {
        let key = Key::new(&request.volume_id, &request.target);
        let mut table = self.shared.table();
        table.expire(Instant::now());
        if let Some(failure) = table.take_failure(&key, &request) {
            return Err(failure);
        }
        if let Some(joined) = table.join(&key, &request)? {
            drop(table);
            tracing::debug!(volume = key.volume_id(), "a call joins the publish in flight");
            return Ok(Waiting::new(Arc::clone(&self.shared), key, joined));
        }
        if table.count().running >= MOST {
            return Err(Failure::new(Kind::ResourceExhausted, format!("{MOST} publishes are in flight; try again")));
        }
        let cancel = Cancel::new().within(self.shared.limit);
        let seen = Seen::of(&request.spec.repository);
        let (job, seen) = (table::Work { request: Arc::new(request), cancel }, Arc::new(seen));
        let (answered, answer) = watch::channel(None);
        let number = table.number();
        self.start(&key, number, &job, &seen, answered)?;
        let joined = table.insert(key.clone(), number, job, seen, answer);
        drop(table);
        Ok(Waiting::new(Arc::clone(&self.shared), key, joined))
    }

    /// Starts the thread. It reports under the table's lock, which the caller holds: not before the job is in the table.
    fn start(
        &self,
        key: &Key,
        number: u64,
        job: &table::Work,
        seen: &Arc<Seen>,
        answered: watch::Sender<Option<Answer>>,
    ) -> Result<(), Failure> {
        let watch = Watch { cancel: job.cancel.clone(), progress: Arc::clone(seen) as Arc<dyn Progress> };
        let (shared, key, request) = (Arc::clone(&self.shared), key.clone(), Arc::clone(&job.request));
        let work = move || {
            let answer = catch_unwind(AssertUnwindSafe(|| shared.publisher.publish(&request, &watch)));
            // The secrets in it are not needed any longer.
            drop(request);
            let answer = answer.unwrap_or_else(|_| Err(vanished()));
            shared.table().finish(&key, number, &answer);
            answered.send_replace(Some(answer));
        };
        thread::Builder::new().name("publish".to_owned()).stack_size(STACK).spawn(work).map(drop).map_err(|error| {
            Failure::new(Kind::ResourceExhausted, format!("cannot start a thread to publish with: {error}"))
        })
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it had done by then, and whether that was undone, is not known. So this is not final: a retry or an unpublish must
/// come to look.
fn vanished() -> Failure {
    Failure::new(Kind::Unavailable, "the publish ended without an answer, by a fault of this driver; see the log")
}

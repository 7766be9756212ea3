//! The jobs, the stage of each, and the target that each works for.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use tokio::sync::watch;

use super::Answer;
use super::JobCount;
use super::Order;
use super::progress::Seen;
use crate::failure::CallFailure;

/// How long a failure that no caller heard is kept: twice the kubelet's longest pause between two tries.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// All jobs, and the job of each target.
#[derive(Default)]
pub(super) struct JobTable {
    jobs: BTreeMap<u64, Job>,
    targets: HashMap<JobKey, TargetState>,
    /// Volumes of which a call has failed, and until when this is remembered.
    told: HashMap<JobKey, Instant>,
    started: u64,
    phase: Phase,
}

/// Whether the driver is about to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// It is not.
    #[default]
    Open,
    /// Jobs that cannot end soon are cancelled.
    Finishing,
    /// No job starts, and no caller joins one.
    Closed,
}

/// The volume and the target of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct JobKey {
    volume_id: String,
    target: PathBuf,
}

/// A caller's view of the job that it waits for.
pub(super) struct Joined {
    pub(super) number: u64,
    pub(super) answer: watch::Receiver<Option<Answer>>,
    pub(super) seen: Arc<Seen>,
    /// No call for this volume has failed yet.
    pub(super) is_first: bool,
}

/// How two orders for one target differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// Not at all.
    Same,
    /// In the secrets alone.
    OtherSecrets,
    /// They ask for different things.
    Other,
}

/// The state of a target.
enum TargetState {
    /// This job works for it.
    AtWork(u64),
    /// Its job failed, and no caller has heard of it yet.
    Failed(Failed),
}

/// A job, for which calls wait.
pub(super) struct Job {
    key: JobKey,
    pub(super) order: Arc<Order>,
    pub(super) cancel: Cancel,
    pub(super) seen: Arc<Seen>,
    answer: watch::Receiver<Option<Answer>>,
    stage: Stage,
    waiting: usize,
}

/// How far a job is, and for which targets it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It leases the tree, and has done nothing for its target.
    Leasing,
    /// It shows the tree on its target.
    Showing,
    /// It leases the tree for other targets; its own was unpublished.
    LeasingForOthers,
    /// It was cancelled.
    GivenUp,
}

/// A failure that no caller has heard yet.
struct Failed {
    order: Arc<Order>,
    failure: CallFailure,
    until: Instant,
}

impl JobKey {
    /// Equal for all spellings of the same target.
    pub(super) fn new(volume_id: &str, target: &Path) -> Self {
        Self { volume_id: volume_id.to_owned(), target: target.components().collect() }
    }

    pub(super) fn volume_id(&self) -> &str {
        &self.volume_id
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }
}

impl JobTable {
    /// The number of the next job.
    pub(super) fn number(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    /// Adds a job that was just started. One caller waits for it.
    pub(super) fn insert(&mut self, number: u64, job: Job) -> Joined {
        let joined = job.joined(number, !self.told.contains_key(&job.key));
        self.targets.insert(job.key.clone(), TargetState::AtWork(number));
        self.jobs.insert(number, job);
        joined
    }

    /// A call failed, or answered early: the next ones wait until their deadline.
    pub(super) fn told(&mut self, key: &JobKey) {
        self.told.insert(key.clone(), Instant::now() + KEPT);
    }

    /// The volume was unpublished: the next call is a first one again.
    pub(super) fn forget(&mut self, key: &JobKey) {
        self.told.remove(key);
    }

    /// Takes the failure that was kept for this order. A failure of a different order is dropped.
    pub(super) fn take_failure(&mut self, key: &JobKey, order: &Order) -> Option<CallFailure> {
        let Some(TargetState::Failed(failed)) = self.targets.get(key) else { return None };
        let failure = (compare(&failed.order, order) == Likeness::Same).then(|| failed.failure.clone());
        self.targets.remove(key);
        failure
    }

    /// Another caller waits for the job of this target, if there is one.
    pub(super) fn join(&mut self, key: &JobKey, order: &Order) -> Result<Option<Joined>, CallFailure> {
        if let Some(until) = self.told.get_mut(key) {
            *until = Instant::now() + KEPT;
        }
        let is_first = !self.told.contains_key(key);
        if self.phase == Phase::Closed {
            return Err(CallFailure::new(Kind::Unavailable, "the driver is stopping; try again"));
        }
        let Some((number, job)) = self.at_work(key) else { return Ok(None) };
        if job.stage == Stage::GivenUp {
            return Err(busy(key, "is being given up"));
        }
        match compare(&job.order, order) {
            Likeness::Same => {
                job.waiting += 1;
                Ok(Some(job.joined(number, is_first)))
            }
            Likeness::OtherSecrets => {
                job.give_up();
                Err(busy(key, "with other secrets is being given up for this one"))
            }
            Likeness::Other => Err(busy(key, "of something else is in flight")),
        }
    }

    /// A caller no longer waits.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.waiting -= 1;
        }
    }

    /// A job has leased its tree. Returns whether it may show the tree on its target.
    pub(super) fn begin_show(&mut self, number: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&number) else { return false };
        if job.stage == Stage::Leasing {
            job.stage = Stage::Showing;
        }
        job.stage == Stage::Showing
    }

    /// The target of a job needs another tree by now.
    pub(super) fn leases_again(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number)
            && job.stage == Stage::Showing
        {
            job.stage = Stage::Leasing;
        }
    }

    /// A job has ended. The waiting callers hear a failure; if nobody waits, the next caller does.
    pub(super) fn finish(&mut self, number: u64, answer: &Answer) {
        if let Some(job) = self.jobs.remove(&number)
            && matches!(self.targets.get(&job.key), Some(TargetState::AtWork(at_work)) if *at_work == number)
        {
            self.targets.remove(&job.key);
            match answer {
                Ok(_) => self.forget(&job.key),
                Err(failure) if job.waiting == 0 && job.stage != Stage::GivenUp => {
                    let (order, failure) = (Arc::clone(&job.order), failure.clone());
                    let failed = Failed { order, failure, until: Instant::now() + KEPT };
                    self.targets.insert(job.key, TargetState::Failed(failed));
                }
                Err(_) => {}
            }
        }
        self.give_up_unwanted();
    }

    /// Ends the job of this target, if there is one, and drops a kept failure. A job that has not begun to show its
    /// tree goes on if other targets need the tree. Returns the answer of a job that was given up, which comes when it
    /// is over.
    pub(super) fn end(&mut self, key: &JobKey) -> Option<watch::Receiver<Option<Answer>>> {
        let Some((number, job)) = self.at_work(key) else {
            self.targets.remove(key);
            return None;
        };
        let (stage, order) = (job.stage, Arc::clone(&job.order));
        let is_wanted = stage == Stage::Leasing && self.is_wanted(&order, number);
        let job = self.jobs.get_mut(&number)?;
        if is_wanted {
            job.stage = Stage::LeasingForOthers;
            self.targets.remove(key);
            return None;
        }
        let answer = job.give_up();
        self.give_up_unwanted();
        Some(answer)
    }

    fn at_work(&mut self, key: &JobKey) -> Option<(u64, &mut Job)> {
        let Some(TargetState::AtWork(number)) = self.targets.get(key) else { return None };
        Some((*number, self.jobs.get_mut(number)?))
    }

    /// Whether a job other than this one needs the same tree for its target.
    fn is_wanted(&self, order: &Order, number: u64) -> bool {
        self.jobs
            .iter()
            .any(|(other, job)| *other != number && job.has_target() && needs_the_same_tree(&job.order, order))
    }

    /// Cancels the jobs that lease a tree for others if no other target needs it any more.
    fn give_up_unwanted(&mut self) {
        let is_unwanted = |(number, job): &(&u64, &Job)| {
            job.stage == Stage::LeasingForOthers && !self.is_wanted(&job.order, **number)
        };
        let unwanted: Vec<u64> = self.jobs.iter().filter(is_unwanted).map(|(number, _)| *number).collect();
        for number in unwanted {
            drop(self.jobs.get_mut(&number).map(Job::give_up));
        }
    }

    /// The driver will stop. Jobs may still start, and [`JobTable::give_up_but`] judges each.
    pub(super) fn finish_up(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
        }
    }

    /// Whether the driver is about to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Cancels the jobs for which `stays` is false; it gets a job's progress, and whether a caller waits for the job. A
    /// job also stays if a job that stays brings its tree. Returns how many stay, and the jobs that were cancelled.
    pub(super) fn give_up_but(&mut self, stays: impl Fn(&Seen, bool) -> bool) -> (usize, Vec<(JobKey, Arc<Seen>)>) {
        let bringing: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.stage != Stage::GivenUp && stays(&job.seen, false))
            .map(|job| Arc::clone(&job.order))
            .collect();
        let (mut stay, mut given_up) = (0, Vec::new());
        for job in self.jobs.values_mut().filter(|job| job.has_target()) {
            let is_brought = || bringing.iter().any(|other| needs_the_same_tree(other, &job.order));
            if stays(&job.seen, job.waiting > 0) || is_brought() {
                stay += 1;
            } else {
                job.give_up();
                given_up.push((job.key.clone(), Arc::clone(&job.seen)));
            }
        }
        self.give_up_unwanted();
        (stay, given_up)
    }

    /// Refuses new jobs, and cancels those that run.
    pub(super) fn close(&mut self) -> Vec<watch::Receiver<Option<Answer>>> {
        self.phase = Phase::Closed;
        self.jobs.values_mut().map(Job::give_up).collect()
    }

    /// Whether a job of the same volume works on another target.
    pub(super) fn works_elsewhere(&self, key: &JobKey) -> bool {
        let is_other = |other: &JobKey| other.volume_id == key.volume_id && other.target != key.target;
        self.jobs.values().any(|job| job.has_target() && is_other(&job.key))
    }

    pub(super) fn count(&self) -> JobCount {
        let unheard = self.targets.values().filter(|target| matches!(target, TargetState::Failed(_))).count();
        JobCount { running: self.jobs.len(), unheard }
    }

    /// The progress of the only job of a volume.
    #[cfg(test)]
    pub(super) fn seen(&self, volume_id: &str) -> Arc<Seen> {
        let job = self.jobs.values().find(|job| job.key.volume_id == volume_id);
        job.map_or_else(|| panic!("{volume_id} has no job"), |job| Arc::clone(&job.seen))
    }

    /// Drops failures that were kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.targets.retain(|_, target| !matches!(target, TargetState::Failed(failed) if failed.until <= now));
        let targets = &self.targets;
        self.told.retain(|key, until| *until > now || matches!(targets.get(key), Some(TargetState::AtWork(_))));
    }
}

impl Job {
    pub(super) fn new(key: JobKey, order: Order, cancel: Cancel, answer: watch::Receiver<Option<Answer>>) -> Self {
        let seen = Arc::new(Seen::of(&order.request.spec.repository));
        Self { key, order: Arc::new(order), cancel, seen, answer, stage: Stage::Leasing, waiting: 1 }
    }

    fn joined(&self, number: u64, is_first: bool) -> Joined {
        Joined { number, answer: self.answer.clone(), seen: Arc::clone(&self.seen), is_first }
    }

    /// Whether it works for its own target.
    fn has_target(&self) -> bool {
        matches!(self.stage, Stage::Leasing | Stage::Showing)
    }

    fn give_up(&mut self) -> watch::Receiver<Option<Answer>> {
        self.stage = Stage::GivenUp;
        self.cancel.cancel();
        self.answer.clone()
    }
}

/// Compares what selects the content, and the credentials.
fn compare(one: &Order, other: &Order) -> Likeness {
    let asked = |order: &Order| (order.request.read_only, order.request.group);
    if one.request.spec != other.request.spec || asked(one) != asked(other) {
        return Likeness::Other;
    }
    let (ours, theirs) = (one.credentials.secret_keys().iter(), other.credentials.secret_keys());
    let same = ours.map(|(key, secret)| (key, secret.expose())).eq(theirs.iter().map(|(k, s)| (k, s.expose())));
    if same { Likeness::Same } else { Likeness::OtherSecrets }
}

/// Whether both orders need the same tree in the store, on whatever target and with whatever credentials.
fn needs_the_same_tree(one: &Order, other: &Order) -> bool {
    let tree = |order: &Order| {
        let mut content = order.request.spec.content();
        content.retain(|key, _| key != "writable" && key != "uid");
        content
    };
    tree(one) == tree(other)
}

fn busy(key: &JobKey, what: &str) -> CallFailure {
    CallFailure::new(Kind::Busy, format!("a publish on {} {what}; try again", key.target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_nobody_hears_expires() {
        let mut table = JobTable::default();
        let order = Arc::new(super::super::tests::order("volume", "/pods/a"));
        let key = JobKey::new("volume", Path::new("/pods/a/"));
        let failure = CallFailure::new(Kind::NotFound, "gone");
        let until = Instant::now() + KEPT;
        table.targets.insert(key.clone(), TargetState::Failed(Failed { order: Arc::clone(&order), failure, until }));
        table.expire(until - Duration::from_secs(1));
        assert_eq!(table.count(), JobCount { running: 0, unheard: 1 });
        table.expire(until);
        assert_eq!(table.count(), JobCount { running: 0, unheard: 0 });
        assert_eq!(table.take_failure(&key, &order), None);
    }
}

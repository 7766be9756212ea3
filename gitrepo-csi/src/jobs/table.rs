//! The table of jobs: the stage of each job, and its target.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::volume::VolumeRequest;
use tokio::sync::watch;

use super::Answer;
use super::JobCount;
use super::Order;
use super::fingerprint::Fingerprint;
use super::progress::JobProgress;
use crate::failure::CallFailure;

/// How long a failure that was reported to no caller is kept: twice the kubelet's longest pause between two tries.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// All jobs, and the job of each target.
#[derive(Default)]
pub(super) struct JobTable {
    jobs: BTreeMap<u64, Job>,
    targets: HashMap<JobKey, TargetState>,
    /// Volumes with a failed call, and until when this is remembered.
    failed_calls: HashMap<JobKey, Instant>,
    started: u64,
    phase: Phase,
}

/// Whether the driver is stopping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// The driver is not stopping.
    #[default]
    Open,
    /// The driver is stopping, and cancels jobs that cannot end soon.
    Finishing,
    /// No job may start, and no caller may join one.
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
    pub(super) progress: Arc<JobProgress>,
    /// No call for this volume has failed yet.
    pub(super) is_first: bool,
}

/// How two orders for one target differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// They do not differ.
    Same,
    /// Only their secrets differ.
    OtherSecrets,
    /// Their requests differ.
    Other,
}

/// The state of a target.
enum TargetState {
    /// This job works on it.
    AtWork(u64),
    /// Its job failed, which was reported to no caller yet.
    Failed(Box<Failed>),
}

/// A job.
pub(super) struct Job {
    key: JobKey,
    pub(super) order: Arc<Order>,
    pub(super) cancel: Cancel,
    pub(super) progress: Arc<JobProgress>,
    answer: watch::Receiver<Option<Answer>>,
    stage: Stage,
    waiting: usize,
}

/// The stage of a job, and the targets that it works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It leases the tree, and has not changed its target.
    Leasing,
    /// It shows the tree on its target.
    Showing,
    /// It leases the tree for other targets; its own target was unpublished.
    LeasingForOthers,
    /// It was cancelled.
    GivenUp,
}

/// A failure that was reported to no caller yet.
struct Failed {
    request: VolumeRequest,
    /// Of the secrets: the secrets themselves are wiped with the job.
    fingerprint: Fingerprint,
    failure: CallFailure,
    until: Instant,
}

impl JobKey {
    /// Returns the key of a target. All spellings of a target have the same key.
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
    /// Returns the number for a new job.
    pub(super) fn number(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    /// Adds a job that was just started, with one waiting caller.
    pub(super) fn insert(&mut self, number: u64, job: Job) -> Joined {
        let joined = job.joined(number, !self.failed_calls.contains_key(&job.key));
        self.targets.insert(job.key.clone(), TargetState::AtWork(number));
        self.jobs.insert(number, job);
        joined
    }

    /// Remembers that a call failed or answered early: the next calls wait until their deadline.
    pub(super) fn remember_failed_call(&mut self, key: &JobKey) {
        self.failed_calls.insert(key.clone(), Instant::now() + KEPT);
    }

    /// Forgets failed calls of an unpublished volume: the next call is a first call again.
    pub(super) fn forget(&mut self, key: &JobKey) {
        self.failed_calls.remove(key);
    }

    /// Takes the failure that was kept for this order. Drops a failure of a different order.
    pub(super) fn take_failure(&mut self, key: &JobKey, order: &Order) -> Option<CallFailure> {
        let Some(TargetState::Failed(failed)) = self.targets.get(key) else { return None };
        let is_same = asks_the_same(&failed.request, &order.request) && failed.fingerprint == order.fingerprint;
        let failure = is_same.then(|| failed.failure.clone());
        self.targets.remove(key);
        failure
    }

    /// Lets another caller wait for the job of this target, if there is one.
    pub(super) fn join(&mut self, key: &JobKey, order: &Order) -> Result<Option<Joined>, CallFailure> {
        if let Some(until) = self.failed_calls.get_mut(key) {
            *until = Instant::now() + KEPT;
        }
        let is_first = !self.failed_calls.contains_key(key);
        if self.phase == Phase::Closed {
            return Err(CallFailure::new(Kind::Unavailable, "the driver is stopping; try again"));
        }
        let Some((number, job)) = self.at_work(key) else { return Ok(None) };
        if job.stage == Stage::GivenUp {
            return Err(busy(key, "is being cancelled"));
        }
        match compare(&job.order, order) {
            Likeness::Same => {
                job.waiting += 1;
                Ok(Some(job.joined(number, is_first)))
            }
            Likeness::OtherSecrets => {
                job.give_up();
                Err(busy(key, "with other secrets is being cancelled in favour of this one"))
            }
            Likeness::Other => Err(busy(key, "with a different request is in flight")),
        }
    }

    /// Notes that a caller no longer waits.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.waiting -= 1;
        }
    }

    /// Notes that a job has leased its tree. Returns whether it may show the tree on its target.
    pub(super) fn begin_show(&mut self, number: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&number) else { return false };
        if job.stage == Stage::Leasing {
            job.stage = Stage::Showing;
        }
        job.stage == Stage::Showing
    }

    /// Notes that the target of a job needs another tree by now.
    pub(super) fn leases_again(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number)
            && job.stage == Stage::Showing
        {
            job.stage = Stage::Leasing;
        }
    }

    /// Removes a job that has ended. If nobody waits for it, keeps its failure for the next caller.
    pub(super) fn finish(&mut self, number: u64, answer: &Answer) {
        if let Some(job) = self.jobs.remove(&number)
            && matches!(self.targets.get(&job.key), Some(TargetState::AtWork(at_work)) if *at_work == number)
        {
            self.targets.remove(&job.key);
            match answer {
                Ok(_) => self.forget(&job.key),
                Err(failure) if job.waiting == 0 && job.stage != Stage::GivenUp => {
                    let Order { request, fingerprint, .. } = &*job.order;
                    let (request, fingerprint, failure) = (request.clone(), *fingerprint, failure.clone());
                    let failed = Failed { request, fingerprint, failure, until: Instant::now() + KEPT };
                    self.targets.insert(job.key, TargetState::Failed(Box::new(failed)));
                }
                Err(_) => {}
            }
        }
        self.give_up_unwanted();
    }

    /// Ends the job of this target, if there is one, and drops a kept failure. A job that has not begun to show its
    /// tree continues if other targets need the tree. Returns a receiver for the answer of a job that was given up,
    /// which arrives when that job ends.
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

    /// Cancels jobs that lease a tree for other targets, if no target needs the tree any more.
    fn give_up_unwanted(&mut self) {
        let is_unwanted = |(number, job): &(&u64, &Job)| {
            job.stage == Stage::LeasingForOthers && !self.is_wanted(&job.order, **number)
        };
        let unwanted: Vec<u64> = self.jobs.iter().filter(is_unwanted).map(|(number, _)| *number).collect();
        for number in unwanted {
            drop(self.jobs.get_mut(&number).map(Job::give_up));
        }
    }

    /// Notes that the driver is stopping. Jobs may still start, but [`JobTable::give_up_unless`] may cancel them.
    pub(super) fn finish_up(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
        }
    }

    /// Whether the driver is stopping.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Cancels the jobs for which `may_continue` returns false. Its arguments are a job's progress, and whether a
    /// caller waits for the job. A job also continues if another job that continues leases the same tree. Returns how
    /// many jobs continue, and the cancelled ones.
    pub(super) fn give_up_unless(
        &mut self,
        may_continue: impl Fn(&JobProgress, bool) -> bool,
    ) -> (usize, Vec<(JobKey, Arc<JobProgress>)>) {
        let continuing: Vec<_> = self
            .jobs
            .values()
            .filter(|job| job.stage != Stage::GivenUp && may_continue(&job.progress, false))
            .map(|job| Arc::clone(&job.order))
            .collect();
        let (mut staying, mut given_up) = (0, Vec::new());
        for job in self.jobs.values_mut().filter(|job| job.has_target()) {
            let gets_its_tree = || continuing.iter().any(|other| needs_the_same_tree(other, &job.order));
            if may_continue(&job.progress, job.waiting > 0) || gets_its_tree() {
                staying += 1;
            } else {
                job.give_up();
                given_up.push((job.key.clone(), Arc::clone(&job.progress)));
            }
        }
        self.give_up_unwanted();
        (staying, given_up)
    }

    /// Refuses new jobs from now on, and cancels the running ones.
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

    /// Returns the number of running jobs of the tenant of this order.
    pub(super) fn running_of(&self, order: &Order) -> usize {
        let is_of = |job: &&Job| job.order.request.tenant == order.request.tenant;
        self.jobs.values().filter(is_of).count()
    }

    /// Returns the progress of the only job of a volume.
    #[cfg(test)]
    pub(super) fn progress(&self, volume_id: &str) -> Arc<JobProgress> {
        let job = self.jobs.values().find(|job| job.key.volume_id == volume_id);
        job.map_or_else(|| panic!("{volume_id} has no job"), |job| Arc::clone(&job.progress))
    }

    /// Drops failures that were kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.targets.retain(|_, target| !matches!(target, TargetState::Failed(failed) if failed.until <= now));
        let targets = &self.targets;
        self.failed_calls.retain(|key, until| *until > now || matches!(targets.get(key), Some(TargetState::AtWork(_))));
    }
}

impl Job {
    pub(super) fn new(key: JobKey, order: Order, cancel: Cancel, answer: watch::Receiver<Option<Answer>>) -> Self {
        let progress = Arc::new(JobProgress::of(&order.request.spec.repository));
        Self { key, order: Arc::new(order), cancel, progress, answer, stage: Stage::Leasing, waiting: 1 }
    }

    fn joined(&self, number: u64, is_first: bool) -> Joined {
        Joined { number, answer: self.answer.clone(), progress: Arc::clone(&self.progress), is_first }
    }

    /// Whether the job works for its own target.
    fn has_target(&self) -> bool {
        matches!(self.stage, Stage::Leasing | Stage::Showing)
    }

    fn give_up(&mut self) -> watch::Receiver<Option<Answer>> {
        self.stage = Stage::GivenUp;
        self.cancel.cancel();
        self.answer.clone()
    }
}

/// Whether two requests for one target ask for the same.
fn asks_the_same(one: &VolumeRequest, other: &VolumeRequest) -> bool {
    one.spec == other.spec && (one.read_only, one.group) == (other.read_only, other.group)
}

/// Compares two orders for one target.
fn compare(one: &Order, other: &Order) -> Likeness {
    if !asks_the_same(&one.request, &other.request) {
        return Likeness::Other;
    }
    if one.fingerprint == other.fingerprint { Likeness::Same } else { Likeness::OtherSecrets }
}

/// Whether both orders need the same tree of the store. Their targets and credentials may differ.
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
    fn s26_jobs_are_counted_by_tenant() {
        let mut table = JobTable::default();
        let order = |volume: &str, tenant: Option<&str>| {
            let mut order = super::super::tests::order(volume, "/pods/a");
            order.request.tenant = tenant.map(str::to_owned);
            order
        };
        for (volume, tenant) in [("1", Some("a")), ("2", Some("a")), ("3", Some("b")), ("4", None)] {
            let (_, answer) = watch::channel(None);
            let job = Job::new(JobKey::new(volume, Path::new("/pods/a")), order(volume, tenant), Cancel::new(), answer);
            let number = table.number();
            table.insert(number, job);
        }
        for (tenant, expected) in [(Some("a"), 2), (Some("b"), 1), (None, 1), (Some("c"), 0)] {
            assert_eq!(table.running_of(&order("5", tenant)), expected, "{tenant:?}");
        }
    }

    #[test]
    fn an_unreported_failure_expires() {
        let mut table = JobTable::default();
        let order = super::super::tests::order("volume", "/pods/a");
        let key = JobKey::new("volume", Path::new("/pods/a/"));
        let failure = CallFailure::new(Kind::NotFound, "gone");
        let until = Instant::now() + KEPT;
        let (request, fingerprint) = (order.request.clone(), order.fingerprint);
        let failed = Failed { request, fingerprint, failure, until };
        table.targets.insert(key.clone(), TargetState::Failed(Box::new(failed)));
        table.expire(until - Duration::from_secs(1));
        assert_eq!(table.count(), JobCount { running: 0, unheard: 1 });
        table.expire(until);
        assert_eq!(table.count(), JobCount { running: 0, unheard: 0 });
        assert_eq!(table.take_failure(&key, &order), None);
    }
}

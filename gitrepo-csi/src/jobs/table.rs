//! Which jobs there are.

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
use super::Count;
use super::progress::Seen;
use super::same::Likeness;
use super::same::compare;
use super::same::need_the_same_tree;
use crate::failure::Failure;

/// How long a failure that nobody heard is kept: twice the longest pause between two tries of the kubelet.
const KEPT: Duration = Duration::from_secs(5 * 60);

/// Every job by its key.
#[derive(Default)]
pub(super) struct Table {
    jobs: HashMap<Key, Job>,
    /// Fetching for others alone.
    withdrawn: Vec<Running>,
    /// Whom a call has told a failure, and until when that is remembered.
    told: HashMap<Key, Instant>,
    started: u64,
    phase: Phase,
}

/// How far the driver's own end is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// It is not near.
    #[default]
    Open,
    /// What cannot end soon is given up.
    Finishing,
    /// No job begins any more, and no caller joins one.
    Closed,
}

/// What a job works on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    volume_id: String,
    target: PathBuf,
}

/// What a job is to do, and until when.
pub(super) struct Work {
    pub(super) request: Arc<VolumeRequest>,
    pub(super) cancel: Cancel,
}

/// What a caller gets of the job that it waits for.
pub(super) struct Joined {
    pub(super) number: u64,
    pub(super) answer: watch::Receiver<Option<Answer>>,
    pub(super) seen: Arc<Seen>,
    /// No call has told yet why this volume is not there.
    pub(super) is_first: bool,
}

/// What an end of a job begins with.
pub(super) enum Ending {
    /// There is none.
    Nothing,
    /// It does nothing for its target any more, but fetches for others.
    Withdrawn,
    /// It is being given up.
    GivenUp(watch::Receiver<Option<Answer>>),
}

enum Job {
    Running(Running),
    Failed(Failed),
}

struct Running {
    /// Tells it from a later one of the same key.
    number: u64,
    work: Work,
    seen: Arc<Seen>,
    answer: watch::Receiver<Option<Answer>>,
    waiting: usize,
    ended: bool,
}

/// A failure that nobody has heard yet.
struct Failed {
    request: Arc<VolumeRequest>,
    failure: Failure,
    until: Instant,
}

impl Key {
    /// One for all spellings of a target that name the same.
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

impl Table {
    /// The number of the next job.
    pub(super) fn number(&mut self) -> u64 {
        self.started += 1;
        self.started
    }

    /// Puts a job in that was just started, with one caller waiting for it.
    pub(super) fn insert(
        &mut self,
        key: Key,
        number: u64,
        work: Work,
        seen: Arc<Seen>,
        answer: watch::Receiver<Option<Answer>>,
    ) -> Joined {
        let is_first = !self.told.contains_key(&key);
        let joined = Joined { number, answer: answer.clone(), seen: Arc::clone(&seen), is_first };
        let running = Running { number, work, seen, answer, waiting: 1, ended: false };
        self.jobs.insert(key, Job::Running(running));
        joined
    }

    /// A call has failed, or has told how its job stands: the next ones wait as long as they can.
    pub(super) fn told(&mut self, key: &Key) {
        self.told.insert(key.clone(), Instant::now() + KEPT);
    }

    /// The volume has left its target: the next call is a first one again.
    pub(super) fn forget(&mut self, key: &Key) {
        self.told.remove(key);
    }

    /// The failure that was kept for whoever asks this. Kept for another request, it is forgotten.
    pub(super) fn take_failure(&mut self, key: &Key, request: &VolumeRequest) -> Option<Failure> {
        let Some(Job::Failed(failed)) = self.jobs.get(key) else { return None };
        let failure = (compare(&failed.request, request) == Likeness::Same).then(|| failed.failure.clone());
        self.jobs.remove(key);
        failure
    }

    /// One more waits for the job with this key, if there is one.
    pub(super) fn join(&mut self, key: &Key, request: &VolumeRequest) -> Result<Option<Joined>, Failure> {
        if let Some(until) = self.told.get_mut(key) {
            *until = Instant::now() + KEPT;
        }
        if self.phase == Phase::Closed {
            return Err(Failure::new(Kind::Unavailable, "the driver is stopping; try again"));
        }
        let Some(Job::Running(running)) = self.jobs.get_mut(key) else { return Ok(None) };
        if running.ended {
            return Err(busy(key, "is being given up"));
        }
        match compare(&running.work.request, request) {
            Likeness::Same => {
                running.waiting += 1;
                Ok(Some(Joined {
                    number: running.number,
                    answer: running.answer.clone(),
                    seen: Arc::clone(&running.seen),
                    is_first: !self.told.contains_key(key),
                }))
            }
            Likeness::OtherSecrets => {
                running.give_up();
                Err(busy(key, "with other secrets is being given up for this one"))
            }
            Likeness::Other => Err(busy(key, "of something else is in flight")),
        }
    }

    /// One less waits.
    pub(super) fn leave(&mut self, key: &Key, number: u64) {
        if let Some(Job::Running(running)) = self.jobs.get_mut(key)
            && running.number == number
        {
            running.waiting -= 1;
        }
    }

    /// A job has ended. What it did stands in the store; what it failed to do is for whoever waits, or for the next who
    /// asks.
    pub(super) fn finish(&mut self, key: &Key, number: u64, answer: &Answer) {
        self.withdrawn.retain(|withdrawn| withdrawn.number != number);
        self.finish_wanted(key, number, answer);
        self.give_up_unwanted();
    }

    fn finish_wanted(&mut self, key: &Key, number: u64, answer: &Answer) {
        let Some(Job::Running(running)) = self.jobs.get(key) else { return };
        if running.number != number {
            return;
        }
        if answer.is_ok() {
            self.told.remove(key);
        }
        let unheard = match answer {
            Err(failure) if running.waiting == 0 && !running.ended => Some(Failed {
                request: Arc::clone(&running.work.request),
                failure: failure.clone(),
                until: Instant::now() + KEPT,
            }),
            _ => None,
        };
        match unheard {
            Some(failed) => drop(self.jobs.insert(key.clone(), Job::Failed(failed))),
            None => drop(self.jobs.remove(key)),
        }
    }

    /// Ends the job with this key, if one is at work, and forgets a failure. While others wait for the tree that it brings
    /// it goes on with that alone, if it has not gone further.
    pub(super) fn end(&mut self, key: &Key) -> Ending {
        let Some(Job::Running(running)) = self.jobs.get(key) else {
            self.jobs.remove(key);
            return Ending::Nothing;
        };
        if !running.ended && self.is_wanted(&running.work.request, running.number) && running.work.cancel.withdraw() {
            if let Some(Job::Running(running)) = self.jobs.remove(key) {
                self.withdrawn.push(running);
            }
            return Ending::Withdrawn;
        }
        let Some(Job::Running(running)) = self.jobs.get_mut(key) else { return Ending::Nothing };
        let answer = running.give_up();
        self.give_up_unwanted();
        Ending::GivenUp(answer)
    }

    /// Whether a job other than this one needs the same tree.
    fn is_wanted(&self, request: &VolumeRequest, number: u64) -> bool {
        self.jobs.values().any(|job| {
            matches!(job, Job::Running(other) if other.number != number && !other.ended
                && need_the_same_tree(&other.work.request, request))
        })
    }

    /// Gives up what was withdrawn and nobody waits for any more.
    fn give_up_unwanted(&mut self) {
        for withdrawn in &self.withdrawn {
            if !self.is_wanted(&withdrawn.work.request, withdrawn.number) {
                withdrawn.work.cancel.cancel();
            }
        }
    }

    /// The driver will end. Who asks how jobs may go on is asked for each by [`Table::give_up_but`].
    pub(super) fn finish_up(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
        }
    }

    /// Whether the driver is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Gives those jobs up that are not to be finished; a job is told by how far it is, and by whether anybody waits for it.
    /// One that waits for a tree which another brings goes on with that one. Says how many go on, and how far those are
    /// that do not.
    pub(super) fn give_up_but(&mut self, stays: impl Fn(&Seen, bool) -> bool) -> (usize, Vec<(Key, Arc<Seen>)>) {
        let at_work = self.jobs.values().filter_map(|job| match job {
            Job::Running(running) if !running.ended => Some(running),
            _ => None,
        });
        let bringing: Vec<_> = at_work
            .chain(&self.withdrawn)
            .filter(|running| stays(&running.seen, false))
            .map(|running| Arc::clone(&running.work.request))
            .collect();
        let (mut stay, mut given_up) = (0, Vec::new());
        for (key, job) in &mut self.jobs {
            let Job::Running(running) = job else { continue };
            if running.ended {
                continue;
            }
            let is_brought = || bringing.iter().any(|other| need_the_same_tree(other, &running.work.request));
            if stays(&running.seen, running.waiting > 0) || is_brought() {
                stay += 1;
            } else {
                running.give_up();
                given_up.push((key.clone(), Arc::clone(&running.seen)));
            }
        }
        self.give_up_unwanted();
        (stay, given_up)
    }

    /// No more jobs; those at work are given up.
    pub(super) fn close(&mut self) -> Vec<watch::Receiver<Option<Answer>>> {
        self.phase = Phase::Closed;
        let running = self.jobs.values_mut().filter_map(|job| match job {
            Job::Running(running) => Some(running),
            Job::Failed(_) => None,
        });
        running.chain(&mut self.withdrawn).map(Running::give_up).collect()
    }

    /// Whether a job of the same volume is at work on another target.
    pub(super) fn works_elsewhere(&self, key: &Key) -> bool {
        self.jobs.iter().any(|(other, job)| {
            other.volume_id == key.volume_id
                && other.target != key.target
                && matches!(job, Job::Running(running) if !running.ended)
        })
    }

    pub(super) fn count(&self) -> Count {
        let running = self.jobs.values().filter(|job| matches!(job, Job::Running(_))).count();
        Count { running: running + self.withdrawn.len(), unheard: self.jobs.len() - running }
    }

    /// What the one job of a volume has told.
    #[cfg(test)]
    pub(super) fn seen(&self, volume_id: &str) -> Arc<Seen> {
        let job = self.jobs.iter().find(|(key, _)| key.volume_id == volume_id);
        match job {
            Some((_, Job::Running(running))) => Arc::clone(&running.seen),
            _ => panic!("{volume_id} has no job"),
        }
    }

    /// Forgets failures that were kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.jobs.retain(|_, job| !matches!(job, Job::Failed(failed) if failed.until <= now));
        let jobs = &self.jobs;
        self.told.retain(|key, until| *until > now || matches!(jobs.get(key), Some(Job::Running(_))));
    }
}

impl Running {
    fn give_up(&mut self) -> watch::Receiver<Option<Answer>> {
        self.ended = true;
        self.work.cancel.cancel();
        self.answer.clone()
    }
}

fn busy(key: &Key, what: &str) -> Failure {
    Failure::new(Kind::Busy, format!("a publish on {} {what}; try again", key.target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_nobody_hears_expires() {
        let mut table = Table::default();
        let request = Arc::new(super::super::tests::request("volume", "/pods/a"));
        let key = Key::new("volume", Path::new("/pods/a/"));
        let failure = Failure::new(Kind::NotFound, "gone");
        let until = Instant::now() + KEPT;
        table.jobs.insert(key.clone(), Job::Failed(Failed { request: Arc::clone(&request), failure, until }));
        table.expire(until - Duration::from_secs(1));
        assert_eq!(table.count(), Count { running: 0, unheard: 1 });
        table.expire(until);
        assert_eq!(table.count(), Count { running: 0, unheard: 0 });
        assert_eq!(table.take_failure(&key, &request), None);
    }
}

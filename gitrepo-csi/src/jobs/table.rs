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
    started: u64,
    closed: bool,
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
    ) {
        let running = Running { number, work, seen, answer, waiting: 1, ended: false };
        self.jobs.insert(key, Job::Running(running));
    }

    /// The failure that was kept for whoever asks this. Kept for another request, it is forgotten.
    pub(super) fn take_failure(&mut self, key: &Key, request: &VolumeRequest) -> Option<Failure> {
        let Some(Job::Failed(failed)) = self.jobs.get(key) else { return None };
        let failure = (compare(&failed.request, request) == Likeness::Same).then(|| failed.failure.clone());
        self.jobs.remove(key);
        failure
    }

    /// One more waits for the job with this key, if there is one.
    #[expect(clippy::type_complexity, reason = "taken apart where it is received")]
    pub(super) fn join(
        &mut self,
        key: &Key,
        request: &VolumeRequest,
    ) -> Result<Option<(u64, watch::Receiver<Option<Answer>>, Arc<Seen>)>, Failure> {
        if self.closed {
            return Err(Failure::new(Kind::Unavailable, "the driver is stopping; try again"));
        }
        let Some(Job::Running(running)) = self.jobs.get_mut(key) else { return Ok(None) };
        if running.ended {
            return Err(busy(key, "is being given up"));
        }
        match compare(&running.work.request, request) {
            Likeness::Same => {
                running.waiting += 1;
                Ok(Some((running.number, running.answer.clone(), Arc::clone(&running.seen))))
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

    /// No more jobs; those at work are given up.
    pub(super) fn close(&mut self) -> Vec<watch::Receiver<Option<Answer>>> {
        self.closed = true;
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

    /// Forgets failures that were kept long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.jobs.retain(|_, job| !matches!(job, Job::Failed(failed) if failed.until <= now));
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

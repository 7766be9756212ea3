//! A call that waits for a job, and how long.
//!
//! The kubelet shows a pod what the driver answers, and it cannot unpublish a volume while its own publish call runs. So
//! two things end the wait before the call's time is up: the first call for a volume tells early how it stands, and a
//! call ends as soon as the pod is seen to end. In both cases the job goes on, and a retry joins it.
//!
//! Only the first call, before which none has failed: after each failure the kubelet pauses twice as long, up to two
//! minutes, and a volume that is ready during a pause waits for its end.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::volume::Published;
use tokio::sync::watch;

use super::Answer;
use super::Shared;
use super::progress::Seen;
use super::table::Joined;
use super::table::Key;
use super::vanished;
use crate::blocking;
use crate::failure::Failure;
use crate::pod::Neighbours;

/// After this the first call for a volume tells how it stands.
const FIRST_WORD: Duration = Duration::from_secs(12);

/// How often the pod is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// A caller that waits for a job. Dropped, it waits no longer; the job goes on.
pub struct Waiting {
    shared: Arc<Shared>,
    key: Key,
    number: u64,
    answer: watch::Receiver<Option<Answer>>,
    seen: Arc<Seen>,
    pub(super) is_first: bool,
}

impl Waiting {
    pub(super) fn new(shared: Arc<Shared>, key: Key, joined: Joined) -> Self {
        let Joined { number, answer, seen, is_first } = joined;
        Self { shared, key, number, answer, seen, is_first }
    }

    /// Waits for the job until `deadline`; the first caller for its volume at most for 12 seconds.
    ///
    /// # Errors
    ///
    /// The job's. Of kind `Timeout`, with how far it is, when it is still at work.
    pub async fn until(self, deadline: Instant) -> Result<Published, Failure> {
        let early = self.is_first.then(|| Instant::now() + FIRST_WORD).filter(|early| *early < deadline);
        let mut answer = self.answer.clone();
        tokio::select! {
            biased;
            ended = answer.wait_for(Option::is_some) => match ended {
                Ok(answer) => answer.clone().unwrap_or_else(|| Err(vanished())).map_err(|failure| self.explained(failure)),
                Err(_) => Err(vanished()),
            },
            () = tokio::time::sleep_until(early.unwrap_or(deadline).into()) => {
                Err(self.still_at_work(""))
            }
            () = pod_ends(Neighbours::of(self.key.target())) => {
                Err(self.still_at_work("the pod is ending, for the kubelet takes its other volumes away; meanwhile "))
            }
        }
    }

    /// A job that was given up says no more than that.
    fn explained(&self, failure: Failure) -> Failure {
        if failure.kind != Kind::Cancelled || !self.shared.table().is_stopping() {
            return failure;
        }
        let (seen, lost) = (&self.seen, self.seen.lost());
        Failure::new(Kind::Unavailable, format!("the driver is stopping ({seen}): {lost}; a retry asks its successor"))
    }

    fn still_at_work(&self, why: &str) -> Failure {
        Failure::new(Kind::Timeout, format!("{why}{}; a retry joins it", self.seen))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.table().leave(self.number);
    }
}

/// Waits until the kubelet takes the pod's other volumes away; for ever where that cannot be seen.
async fn pod_ends(neighbours: Option<Neighbours>) {
    let Some(mut neighbours) = neighbours else { return std::future::pending().await };
    loop {
        let looked = blocking::run(move || {
            let is_ending = neighbours.look();
            Ok((neighbours, is_ending))
        });
        match looked.await {
            Ok((_, true)) => return,
            Ok((next, false)) => neighbours = next,
            Err(_) => return std::future::pending().await,
        }
        tokio::time::sleep(LOOK).await;
    }
}

//! A call that waits for a job.
//!
//! The driver's answer becomes the pod's event, and the kubelet cannot unpublish a volume while its publish call runs.
//! So a call stops waiting before its deadline in two cases: the first call for a volume answers early with the
//! progress of the job, and any call answers as soon as the pod is being deleted. The job continues, and a retry joins
//! it.
//!
//! Only the first call answers early. After each failure the kubelet pauses twice as long, up to two minutes, and it
//! notices only after a pause that the volume became ready.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::volume::Published;

use super::Shared;
use super::pod::Neighbours;
use super::table::JobKey;
use super::table::Joined;
use super::vanished;
use crate::deadline;
use crate::failure::CallFailure;

/// After this time the first call for a volume answers with the progress of its job.
const FIRST_WORD: Duration = Duration::from_secs(12);

/// How often to check whether the pod is being deleted.
const LOOK: Duration = Duration::from_secs(1);

/// A caller that waits for a job. The job continues when this is dropped.
pub struct Waiting {
    pub(super) shared: Arc<Shared>,
    pub(super) key: JobKey,
    pub(super) job: Joined,
}

impl Waiting {
    /// Waits for the job until `deadline`. The first call for a volume waits at most 12 seconds.
    ///
    /// # Errors
    ///
    /// The job's failure, or `Timeout` with the job's progress if it still runs.
    pub async fn until(self, deadline: Instant) -> Result<Published, CallFailure> {
        let early = self.job.is_first.then(|| Instant::now() + FIRST_WORD).filter(|early| *early < deadline);
        let mut answer = self.job.answer.clone();
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
                Err(self.still_at_work("the pod is ending, since the kubelet removes its other volumes; progress: "))
            }
        }
    }

    /// Adds an explanation to the failure of a job that was cancelled because the driver is stopping.
    fn explained(&self, failure: CallFailure) -> CallFailure {
        if failure.kind != Kind::Cancelled || !self.shared.table().is_stopping() {
            return failure;
        }
        let (progress, lost) = (&self.job.progress, self.job.progress.lost());
        CallFailure::new(
            Kind::Unavailable,
            format!("the driver is stopping ({progress}): {lost}; the next driver serves a retry"),
        )
    }

    fn still_at_work(&self, why: &str) -> CallFailure {
        CallFailure::new(Kind::Timeout, format!("{why}{}; a retry joins it", self.job.progress))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.table().leave(self.job.number);
    }
}

/// Waits until the kubelet removes another volume of the pod. Never returns if that cannot be observed.
async fn pod_ends(neighbours: Option<Neighbours>) {
    let Some(mut neighbours) = neighbours else { return std::future::pending().await };
    loop {
        let looked = deadline::on_a_thread(move || {
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

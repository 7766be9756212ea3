//! Stopping the driver: jobs that are nearly done are finished.
//!
//! A pack that was not received completely is lost, and the next driver fetches it from the beginning. So a driver that
//! is asked to stop finishes the jobs that will end in the time it has. It judges each job repeatedly, by the rate at
//! which its objects arrive. A job that writes its tree or makes it durable is always finished.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Jobs;
use super::progress::Seen;
use super::table::Key;

/// How long every job that a call waits for may go on. Most clones take less in total.
const FOR_ALL: Duration = Duration::from_secs(10);

/// How long a job may take that starts while the driver stops: enough for a cached tree.
const FOR_NEW: Duration = Duration::from_secs(2);

/// How often the jobs are judged.
const LOOK: Duration = Duration::from_millis(100);

impl Jobs {
    /// Cancels the jobs that will not end `within` this time. A job that starts meanwhile must end soon. Returns when
    /// no job is left, or when the time is up; the rest is cancelled then.
    pub async fn finish(&self, within: Duration) {
        let begun = Instant::now();
        self.shared.table().finish_up();
        let running = self.count().running;
        if running > 0 {
            tracing::info!(
                running,
                seconds = within.as_secs(),
                "the driver stops: publishes that are near their end are finished, if they end in these seconds"
            );
        }
        loop {
            let elapsed = begun.elapsed();
            let left = within.saturating_sub(elapsed);
            let stays = |seen: &Seen, is_waited_for: bool| {
                let has_time = elapsed < FOR_ALL || seen.age() < FOR_NEW;
                !left.is_zero() && ((is_waited_for && has_time) || seen.ends_within(left))
            };
            let (stay, given_up) = self.shared.table().give_up_but(stays);
            tell(&given_up);
            if stay == 0 {
                return;
            }
            tokio::time::sleep(LOOK.min(left)).await;
        }
    }
}

fn tell(given_up: &[(Key, Arc<Seen>)]) {
    for (key, seen) in given_up {
        tracing::warn!(
            target_path = %key.target().display(),
            progress = %seen,
            "given up, for the driver stops: {}",
            seen.lost()
        );
    }
}

//! The end of the driver: what is nearly done is finished.
//!
//! A pack that was not received to its end counts for nothing, and the next driver asks for it from its beginning. So a
//! driver that is asked to stop lets those jobs go on that will end in the time it has. Whether one will is judged again
//! and again, by how fast its objects come; one that writes its tree or makes it durable always may go on.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Jobs;
use super::progress::Seen;
use super::table::Key;

/// So long every job may go on that a call waits for: most clones take less in all.
const FOR_ALL: Duration = Duration::from_secs(10);

/// So long a job has that begins while the driver stops: enough for a tree that the store has.
const FOR_NEW: Duration = Duration::from_secs(2);

/// How often the jobs are judged.
const LOOK: Duration = Duration::from_millis(100);

impl Jobs {
    /// Gives up those jobs that will not end `within` this time; one that begins meanwhile must end soon. Returns when none is
    /// left, or when the time is up; then the rest is given up, too.
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

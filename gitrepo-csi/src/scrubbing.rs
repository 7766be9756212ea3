//! The scrub of the store in the background: one repository with its snapshots after the other, slowly, for ever.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::store::Damage;
use gitrepo_core::store::Verification;
use gitrepo_core::watch::Watch;

use crate::deadline;
use crate::deadline::EndsWith;
use crate::failure::CallFailure;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// The time before the first pass: after a boot, the node has other work for its disk.
const AFTER_START: Duration = Duration::from_secs(10 * 60);

/// The time between two passes of one process.
const BETWEEN: Duration = Duration::from_secs(24 * 60 * 60);

/// The time before another attempt after a failure, or if there was nothing to scrub.
const BEFORE_RETRY: Duration = Duration::from_secs(10 * 60);

/// The scrub of a driver.
#[derive(Clone)]
pub struct Scrubbing {
    /// The volumes.
    pub storage: Arc<Storage>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Bytes to read per second; `None` for no scrub.
    pub rate: Option<NonZeroU64>,
    /// Bytes that fs-verity leaves free on the store's filesystem.
    pub kept_free: u64,
}

impl Scrubbing {
    /// Scrubs for ever, with a day between the passes.
    pub async fn run(self) {
        let Some(rate) = self.rate else { return };
        tokio::time::sleep(AFTER_START).await;
        let mut scrubbed = false;
        loop {
            let pause = match self.next(rate).await {
                Ok(true) => {
                    scrubbed = true;
                    Duration::ZERO
                }
                Ok(false) if std::mem::take(&mut scrubbed) => BETWEEN,
                // Another process may be scrubbing the store, and may go away before its pass ends.
                Ok(false) => BEFORE_RETRY,
                Err(failure) => {
                    tracing::warn!(error = failure.message, "the store cannot be scrubbed");
                    BEFORE_RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Verifies the next repository and its snapshots. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn next(&self, rate: NonZeroU64) -> Result<bool, CallFailure> {
        let (storage, cancel, kept_free) = (Arc::clone(&self.storage), Cancel::new(), self.kept_free);
        let ends = EndsWith(cancel.clone());
        let scrubbed = deadline::on_a_thread(move || {
            Ok(storage.volumes()?.store().scrub_next(rate, kept_free, &Watch::until(cancel))?)
        });
        let scrubbed = scrubbed.await?;
        drop(ends);
        if let Some(verification) = &scrubbed {
            self.metrics.scrub(verification);
            log(verification);
        }
        Ok(scrubbed.is_some())
    }
}

/// The store logs what it takes out of service.
fn log(Verification { damages, failures, .. }: &Verification) {
    for Damage { repository, reason, .. } in damages.iter().filter(|damage| !damage.quarantined) {
        tracing::error!(repository, reason, "damage in the store that cannot be taken out of service");
    }
    for failure in failures {
        tracing::warn!(error = failure, "a part of the store cannot be scrubbed");
    }
}

//! What nobody asks for: removing what crashes left, and forgetting volumes whose pods are gone without an unpublish
//! (kubernetes/kubernetes#92299: sometimes none comes after a reboot).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::error::chain;
use gitrepo_core::store::Origin;
use gitrepo_core::store::SweepReport;
use gitrepo_core::volume::Abandoned;

use crate::blocking;
use crate::failure::Failure;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// From one run to the next.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long one run may take. What it leaves is for the next.
const BUDGET: Duration = Duration::from_secs(30);

/// The housekeeping of a driver.
#[derive(Clone)]
pub struct Housekeeping {
    /// The volumes.
    pub storage: Arc<Storage>,
    /// Whose unheard failures expire.
    pub jobs: Jobs,
    /// Below which the targets are; `None` in a controller, which has none.
    pub pods: Option<PathBuf>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Housekeeping {
    /// Runs at once, and then every few minutes, for ever.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.once().await;
        }
    }

    /// One run.
    pub async fn once(&self) {
        self.jobs.expire();
        let (storage, pods) = (Arc::clone(&self.storage), self.pods.clone());
        match blocking::run(move || sweep(&storage, pods)).await {
            Ok(report) => {
                self.metrics.sweep(Some(&report));
                tell(&report);
            }
            Err(failure) => {
                self.metrics.sweep(None);
                tracing::warn!(error = failure.message, "the housekeeping failed");
            }
        }
    }
}

fn sweep(storage: &Storage, pods: Option<PathBuf>) -> Result<SweepReport, Failure> {
    let volumes = storage.volumes()?;
    match pods {
        Some(below) => Ok(volumes.sweep(&Abandoned::TargetGone { origin: Origin::Csi, below }, BUDGET)?),
        None => Ok(volumes.store().sweep(BUDGET, &[])),
    }
}

fn tell(report: &SweepReport) {
    for failure in &report.failures {
        tracing::warn!(error = %chain(failure), "a leftover stays");
    }
    match report.removed() {
        0 => tracing::debug!("nothing to clear away"),
        removed => tracing::info!(removed, incomplete = report.incomplete, "leftovers removed"),
    }
}

//! Background work: removes leftovers of crashes, and unpublishes volumes whose pods were deleted without an unpublish
//! call (kubernetes/kubernetes#92299: sometimes none comes after a reboot). Soon after a fetch or an unpublish, removes
//! what exceeds the store's budget, and empties the trash.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::store::Record;
use gitrepo_core::store::SweepReport;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Overgrown;
use tokio::time::Instant;

use crate::ORIGIN;
use crate::deadline;
use crate::failure::CallFailure;
use crate::jobs::Jobs;
use crate::memory;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// The time between runs.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The time between two tidyings.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one run may take. The next run continues.
const BUDGET: Duration = Duration::from_secs(30);

/// How long one run may measure writable volumes.
const TO_MEASURE: Duration = Duration::from_secs(10);

/// What the log says of a layer that is read-only.
const FROZEN: &str = "a writable volume is read-only, because it has exceeded limits.writableBytes";

/// Of a volume that can take no more.
const STOPPED: &str = "a writable volume has reached limits.writableBytes, and its project quota refuses more";

/// Of a volume that nothing stops yet.
const EXCEEDS: &str = "a writable volume exceeds limits.writableBytes";

/// The housekeeping of a driver.
#[derive(Clone)]
pub struct Housekeeping {
    /// The volumes.
    pub storage: Arc<Storage>,
    /// The jobs. A run drops their failures that were kept long enough.
    pub jobs: Jobs,
    /// The directory above all targets; `None` in a controller, which has no targets.
    pub pods: Option<PathBuf>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

impl Housekeeping {
    /// Runs once at the start, and then every few minutes, for ever. Tidies in between.
    pub async fn run(self) {
        loop {
            self.once().await;
            let next = Instant::now() + INTERVAL;
            while Instant::now() < next && tokio::time::timeout_at(next, self.storage.until_untidy()).await.is_ok() {
                self.tidy().await;
                // Many volumes are often unpublished at once.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Removes what exceeds the budget, and empties the trash.
    pub async fn tidy(&self) {
        let storage = Arc::clone(&self.storage);
        let tidied = deadline::on_a_thread(move || {
            let volumes = storage.volumes()?;
            let freed = volumes.evict(volumes.budget(), BUDGET)?;
            let is_done = volumes.store().empty_trash(BUDGET)? && !freed.incomplete;
            memory::return_unused_memory();
            Ok(is_done)
        });
        match tidied.await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("the next run of the housekeeping goes on to tidy the store"),
            Err(failure) => tracing::warn!(error = failure.message, "the store cannot be tidied"),
        }
    }

    /// Runs once.
    pub async fn once(&self) {
        self.jobs.expire();
        let (storage, pods) = (Arc::clone(&self.storage), self.pods.clone());
        let has_node = pods.is_some();
        match deadline::on_a_thread(move || sweep(&storage, pods)).await {
            Ok(report) => {
                self.metrics.sweep(Some(&report));
                log_report(&report);
            }
            Err(failure) => {
                self.metrics.sweep(None);
                tracing::warn!(error = failure.message, "the housekeeping failed");
            }
        }
        if has_node {
            self.measure().await;
            self.report_damage().await;
        }
    }

    /// Reports volumes that show a damaged tree: they keep it until they are unpublished.
    async fn report_damage(&self) {
        let storage = Arc::clone(&self.storage);
        let report = move || {
            let damaged = storage.volumes()?.damaged()?;
            for (Record { volume_id, target, .. }, reason) in &damaged {
                let target_path = target.display().to_string();
                tracing::warn!(volume_id, target_path, reason, "a volume shows a changed or damaged tree");
            }
            storage.set_damaged(damaged.len());
            Ok(())
        };
        if let Err(failure) = deadline::on_a_thread(report).await {
            tracing::warn!(error = failure.message, "cannot tell which volumes show a damaged tree");
        }
    }

    /// Measures the writable volumes.
    async fn measure(&self) {
        let storage = Arc::clone(&self.storage);
        let measured = move || {
            let overgrown = storage.volumes()?.overgrown(TO_MEASURE)?;
            for Overgrown { volume_id, target, bytes, limit, frozen, stopped } in &overgrown {
                let target_path = target.display().to_string();
                match (frozen, stopped, bytes > limit) {
                    (true, _, true) => tracing::warn!(volume_id, target_path, bytes, limit, "{FROZEN}"),
                    // Before it was measured, or after the limit was raised, there are no numbers to tell.
                    (true, _, false) => tracing::warn!(volume_id, target_path, "{FROZEN}"),
                    (false, true, _) => tracing::warn!(volume_id, target_path, bytes, limit, "{STOPPED}"),
                    (false, false, _) => tracing::warn!(volume_id, target_path, bytes, limit, "{EXCEEDS}"),
                }
            }
            storage.set_overgrown(overgrown);
            Ok(())
        };
        if let Err(failure) = deadline::on_a_thread(measured).await {
            tracing::warn!(error = failure.message, "the writable volumes cannot be measured");
        }
    }
}

fn sweep(storage: &Storage, pods: Option<PathBuf>) -> Result<SweepReport, CallFailure> {
    let volumes = storage.volumes()?;
    match pods {
        Some(below) => {
            let records = volumes.store().records()?;
            let ours = records.into_iter().filter(|record| record.origin == ORIGIN);
            check_pods(&below, ours.map(|record| record.target))?;
            Ok(volumes.sweep(&Abandoned::TargetGone { origin: ORIGIN, below }, BUDGET)?)
        }
        None => Ok(volumes.store().sweep(BUDGET, &[])),
    }
}

/// Fails if the pods directory is empty although volumes are published below it. The kubelet's directory contains at
/// least the driver's own pod, so this is another one, for instance a directory of the driver's image because the
/// kubelet's is not mounted. A sweep would take all volumes for abandoned, and delete their written data.
fn check_pods(pods: &Path, mut targets: impl Iterator<Item = PathBuf>) -> Result<(), CallFailure> {
    let is_empty = std::fs::read_dir(pods).is_ok_and(|mut pods| pods.next().is_none());
    if !is_empty || !targets.any(|target| target.starts_with(pods)) {
        return Ok(());
    }
    Err(CallFailure::new(
        Kind::FailedPrecondition,
        format!(
            "{} is empty, though volumes are published below it: is it the kubelet's directory? Nothing was removed",
            pods.display()
        ),
    ))
}

fn log_report(report: &SweepReport) {
    for failure in &report.failures {
        tracing::warn!(error = %chain(failure), "cannot remove a leftover");
    }
    match report.removed() {
        0 => tracing::debug!("no leftovers"),
        removed => tracing::info!(removed, incomplete = report.incomplete, "leftovers removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_of_pods_is_refused_if_volumes_are_published_below_it() {
        let place = tempfile::tempdir().unwrap();
        let pods = place.path().join("pods");
        let targets = || [pods.join("1/volumes/mount"), PathBuf::from("/elsewhere/mount")].into_iter();
        check_pods(&pods, targets()).unwrap();
        std::fs::create_dir(&pods).unwrap();
        assert_eq!(check_pods(&pods, targets()).unwrap_err().kind, Kind::FailedPrecondition);
        check_pods(&pods, targets().skip(1)).unwrap();
        std::fs::create_dir(pods.join("2")).unwrap();
        check_pods(&pods, targets()).unwrap();
    }
}

//! A brief sweep at the end of each call, because a FlexVolume driver has no daemon.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::chain;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Volumes;
use gitrepo_flex::pods;
use gitrepo_flex::stores::ORIGIN;

/// How long one call may spend on sweeping.
const BUDGET: Duration = Duration::from_millis(100);

/// Removes leftovers of dead calls and volumes of deleted pods from these stores, for a short time. The kubelet already
/// has its answer. If the target is outside a kubelet's directory, does nothing: deleted pods cannot be recognised.
pub(crate) fn in_passing(stores: &[&Volumes], target: &Path, cancel: &Cancel) {
    let Some(pods) = pods::directory(target) else { return };
    let started = Instant::now();
    for volumes in stores {
        let left = BUDGET.saturating_sub(started.elapsed());
        if left.is_zero() || cancel.check().is_err() {
            return;
        }
        let abandoned = Abandoned::TargetGone { origin: ORIGIN, below: pods.to_owned() };
        // What a fetch added may exceed the store's budget.
        match volumes.sweep_and_evict(&abandoned, volumes.budget(), left) {
            Ok(report) => tracing::debug!(?report, store = %volumes.store().root().display(), "swept"),
            Err(error) => tracing::warn!(error = %chain(&error), "leftovers could not be swept"),
        }
    }
}

//! A little tidying at the end of each call: no daemon stands behind a FlexVolume driver.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::chain;
use gitrepo_core::store::Eviction;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Volumes;
use gitrepo_flex::pods;
use gitrepo_flex::stores::ORIGIN;

/// How long one call may spend on what others left behind.
const BUDGET: Duration = Duration::from_millis(100);

/// Removes what dead calls left in these stores, and the volumes of pods that are gone, for a short while. The kubelet has
/// its answer already. Without a kubelet's directory around the target there is no telling which pods are gone.
pub(crate) fn in_passing(stores: &[&Volumes], target: &Path, cancel: &Cancel) {
    let Some(pods) = pods::directory(target) else { return };
    let started = Instant::now();
    for volumes in stores {
        let left = BUDGET.saturating_sub(started.elapsed());
        if left.is_zero() || cancel.check().is_err() {
            return;
        }
        let abandoned = Abandoned::TargetGone { origin: ORIGIN, below: pods.to_owned() };
        // What is only unused makes way for a mount that needs the room, and for the installer's sweeps.
        match volumes.sweep_and_evict(&abandoned, Eviction::Until(0), left) {
            Ok(report) => tracing::debug!(?report, store = %volumes.store().root().display(), "swept"),
            Err(error) => tracing::warn!(error = %chain(&error), "leftovers could not be swept"),
        }
    }
}

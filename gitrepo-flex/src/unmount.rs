//! `unmount`: removes our mounts from the directory.
//!
//! The kubelet passes only the directory. The records in the stores show which store the volume came from.

use std::path::Path;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::mount::mountinfo;
use gitrepo_core::store::StoreError;
use gitrepo_core::store::is_from_a_store;
use gitrepo_core::volume::Unpublished;
use gitrepo_core::volume::Volumes;
use gitrepo_flex::stores;
use gitrepo_frontend::configuration::Configuration;

use crate::error::CallError;

/// The outcome of an unmount.
pub(crate) struct Unmounted {
    /// Whether the directory had a volume of this driver.
    pub(crate) result: Result<bool, CallError>,
    /// The stores that were searched.
    pub(crate) stores: Vec<Volumes>,
}

/// Looks for the volume in every existing store and unmounts it. Succeeds if the directory has no mount of ours,
/// whatever else is mounted there: other mounts are not ours to remove.
pub(crate) fn run(configurations: &[Configuration], target: &Path, cancel: &Cancel) -> Unmounted {
    let mut stores = Vec::new();
    let mut found = Unpublished { known: false, mounts: 0 };
    let mut failure = None;
    // Search all stores: if the volume's definition has changed, an older mount may come from another store.
    for volumes in configurations.iter().flat_map(stores::existing) {
        let unpublished = volumes.map_err(CallError::from).and_then(|volumes| {
            let unpublished = volumes.unpublish(None, target, cancel);
            stores.push(volumes);
            Ok(unpublished?)
        });
        match unpublished {
            Ok(Unpublished { known, mounts }) => {
                found = Unpublished { known: found.known || known, mounts: found.mounts + mounts };
            }
            // Continue: the volume may be in another store.
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    let is_lost = !found.known && found.mounts == 0 && shows_a_volume(target);
    let result = match failure {
        None if is_lost => Err(missing(configurations)),
        Some(error) if may_be_ours(target, error.kind()) => Err(error),
        other => {
            log_outcome(target, found, other);
            Ok(found.known || found.mounts > 0)
        }
    };
    Unmounted { result, stores }
}

fn log_outcome(target: &Path, found: Unpublished, unsearched: Option<CallError>) {
    let directory = target.display();
    let is_found = found.known || found.mounts > 0;
    match unsearched.map(|error| chain(&error)) {
        Some(error) if is_found => tracing::debug!(error, %directory, "another store could not be searched"),
        Some(error) => tracing::warn!(error, %directory, "a store could not be searched, but nothing is mounted"),
        None => {}
    }
    match is_found {
        true => tracing::info!(%directory, mounts = found.mounts, "unmounted"),
        false => tracing::info!(%directory, "no volume of this driver is mounted"),
    }
}

/// Whether a volume from any store is mounted on the directory.
fn shows_a_volume(target: &Path) -> bool {
    let mounts = mountinfo::read().unwrap_or_default();
    mounts.iter().any(|mount| mount.target == target && is_from_a_store(mount))
}

fn missing(configurations: &[Configuration]) -> CallError {
    let path = configurations.first().map(|configuration| configuration.core.store.clone()).unwrap_or_default();
    let reason = "a volume is mounted that no existing store has a record of".to_owned();
    CallError::Store(StoreError::Missing { path, reason })
}

/// Whether a volume of a store that failed may be on the directory. If nothing is mounted and no operation is in
/// flight, the pod need not wait until the store is repaired: a sweep removes leftovers once the directory is gone.
fn may_be_ours(target: &Path, kind: Kind) -> bool {
    let in_flight = matches!(kind, Kind::Busy | Kind::Timeout | Kind::Cancelled);
    let mounted = || mountinfo::read().map_or(true, |mounts| mounts.iter().any(|mount| mount.target == target));
    in_flight || mounted()
}

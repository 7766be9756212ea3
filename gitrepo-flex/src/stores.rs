//! The stores of a node, and their volumes.

use gitrepo_core::gateway::Gateway;
use gitrepo_core::store::Origin;
use gitrepo_core::store::Store;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::configuration::Configuration;

/// The name under which this driver's volumes are on record.
pub const ORIGIN: Origin = Origin::driver("flex");

/// The volumes of every existing store; creates none. A store that cannot be opened yields an error and does not affect
/// the others.
pub fn existing(configuration: &Configuration) -> Vec<Result<Volumes, StoreError>> {
    // A bare mount point is not a store. Any other error is reported when the store is opened.
    let Configuration { core, frontend } = configuration;
    let is_there = !matches!(Store::is_at(&core.store), Err(StoreError::Missing { .. }));
    let main = is_there.then(|| Store::open(&core.store));
    let roots = frontend.host_target_roots.iter().filter(|root| **root != core.store);
    let further = roots.filter_map(|root| Store::find_further(root).transpose());
    main.into_iter().chain(further).map(|store| Ok(Volumes::of(store?, Gateway::confined(core.clone())))).collect()
}

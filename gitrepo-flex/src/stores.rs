//! The stores of a node.

use gitrepo_core::gateway::Gateway;
use gitrepo_core::store::Origin;
use gitrepo_core::store::Store;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::configuration::Configuration;

/// The name of this driver in the records of its volumes.
pub const ORIGIN: Origin = Origin::driver("flex");

/// Opens every existing store, and creates none. Returns an error for each store that cannot be opened, beside the
/// others.
pub fn existing(configuration: &Configuration) -> Vec<Result<Volumes, StoreError>> {
    // Skip a bare mount point, which is not a store. Opening the store reports any other error.
    let Configuration { core, frontend } = configuration;
    let is_there = !matches!(Store::is_at(&core.store), Err(StoreError::Missing { .. }));
    let main = is_there.then(|| Store::open(&core.store));
    let roots = frontend.host_target_roots.iter().filter(|root| **root != core.store);
    let further = roots.filter_map(|root| Store::find_further(root).transpose());
    main.into_iter().chain(further).map(|store| Ok(Volumes::of(store?, Gateway::confined(core.clone())))).collect()
}

//! The store on this node, as far as an installer cares: whether the driver has volumes.

use std::path::Path;

use gitrepo_core::policy::Config;
use gitrepo_core::store::Origin;
use gitrepo_core::store::Record;
use gitrepo_core::store::Store;

use super::error::InstallError;

/// Fails while volumes of the driver are published on this node.
pub(super) fn refuse_while_in_use(config: &Config) -> Result<(), InstallError> {
    let published = records(&config.store)?;
    let mut ours = published.iter().filter(|record| record.origin == Origin::Flex);
    match ours.next() {
        Some(first) => Err(InstallError::InUse { count: ours.count() + 1, first: first.target.clone() }),
        None => Ok(()),
    }
}

/// What is published from a store. A question makes none.
fn records(root: &Path) -> Result<Vec<Record>, InstallError> {
    if !root.try_exists().map_err(InstallError::io("look for the store", root))? {
        return Ok(Vec::new());
    }
    let records = Store::open(root).and_then(|store| store.records());
    records.map_err(|source| InstallError::Store { path: root.to_owned(), source })
}

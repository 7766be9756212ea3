//! The option `hostTarget`: which store keeps a volume.

use gitrepo_core::policy::Config;
use gitrepo_core::policy::HostTarget;
use gitrepo_core::policy::SelectedStore;
use gitrepo_core::store::Store;
use gitrepo_core::volume::Volumes;
use gitrepo_flex::stores;

use crate::error::CallError;

/// The volumes of the store that `host_target` selects, or of the main one. It is made where there is none.
pub(crate) fn volumes(config: Config, host_target: Option<&str>) -> Result<Volumes, CallError> {
    let selected = host_target.map(|text| HostTarget::select(&config, text)).transpose()?;
    let main = Store::open(&config.store)?;
    let store = match selected {
        None => main,
        Some(HostTarget { store, ignored }) => {
            if !ignored.as_os_str().is_empty() {
                tracing::info!(ignored = %ignored.display(), "hostTarget selects a store; what follows it means nothing");
            }
            match store {
                SelectedStore::Main => main,
                SelectedStore::Beside(directory) => Store::open_beside(&directory, &main)?,
            }
        }
    };
    Ok(stores::volumes(config, store))
}

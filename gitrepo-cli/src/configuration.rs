//! The parts of core that a command needs, put together from the configuration.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use gitrepo_core::gateway::Gateway;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::policy::Config;
use gitrepo_core::policy::Policy;
use gitrepo_core::snapshot::Directory;
use gitrepo_core::store::Store;
use gitrepo_core::volume::Volumes;
use gitrepo_core::worker::Confined;

use crate::error::CommandError;

/// The configuration file, or the defaults for a person: `git`, `file` and the loopback are allowed, and the person's
/// own known hosts are believed.
pub(crate) fn read(file: Option<&Path>) -> Result<Config, CommandError> {
    let mut config = Config::for_person();
    if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        config.host_keys.file = Some(PathBuf::from(home).join(".ssh/known_hosts"));
    }
    Ok(match file {
        Some(file) => Config::read(file, config)?,
        None => config,
    })
}

/// The door to remotes.
pub(crate) fn gateway(config: Config) -> Gateway {
    let worker = Confined::new(&config.worker);
    Gateway::new(Policy::new(config), Arc::new(worker))
}

/// The volumes of a store.
pub(crate) fn volumes(mut config: Config, store: Option<PathBuf>) -> Result<Volumes, CommandError> {
    if let Some(store) = store {
        config.store = store;
    }
    let store = Store::open(&config.store)?;
    let mounter = LinuxMounter::new(store.mounting());
    Ok(Volumes::new(store, gateway(config), Arc::new(Directory), Arc::new(mounter)))
}

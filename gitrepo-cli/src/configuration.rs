//! Builds the parts of core that a command needs from the configuration.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::policy::Config;
use gitrepo_core::policy::EnvironmentProxies;
use gitrepo_core::store::Origin;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::configuration::Configuration;

use crate::arguments;
use crate::arguments::Global;
use crate::error::CommandError;

/// The name under which a person's volumes are on record.
pub(crate) const ORIGIN: Origin = Origin::program("cli");

/// The configuration file, or the defaults for a person: `git`, `file` and the loopback are allowed, and the person's
/// own known hosts are trusted. Without a proxy in the file, those of the environment are used.
pub(crate) fn read(file: Option<&Path>) -> Result<Config, CommandError> {
    let mut config = Config::for_person();
    if let Some(home) = std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        config.host_keys.file = Some(PathBuf::from(home).join(".ssh/known_hosts"));
    }
    if let Some(file) = file {
        config = Configuration::read(file, config)?.core;
    }
    if config.proxy.url.is_none() {
        config.environment_proxies = EnvironmentProxies::read(|name| std::env::var(name).ok())?;
    }
    Ok(config)
}

/// The volumes of an existing store: a query with a misspelt path must not create one.
pub(crate) fn existing_volumes(global: &Global, store: &arguments::Store) -> Result<Volumes, CommandError> {
    let config = with_store(global, store)?;
    match config.store.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CommandError::NoStore { store: config.store }),
        _ => Ok(Volumes::open(config)?),
    }
}

/// The volumes of a store, which is created if missing.
pub(crate) fn volumes(global: &Global, store: &arguments::Store) -> Result<Volumes, CommandError> {
    Ok(Volumes::open(with_store(global, store)?)?)
}

fn with_store(global: &Global, store: &arguments::Store) -> Result<Config, CommandError> {
    let mut config = read(global.config())?;
    if let Some(store) = store.directory() {
        config.store = store.to_owned();
    }
    Ok(config)
}

//! Reads the configuration and opens the store for a command.

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

/// The name of this program in the records of its volumes.
pub(crate) const ORIGIN: Origin = Origin::program("cli");

/// Reads the configuration file, or returns the defaults for a person: `git`, `file` and the loopback are allowed, and
/// the person's own known hosts are trusted. If the file names no proxy, those of
/// the environment are used.
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

/// Opens an existing store. Fails if it is missing: a query with a misspelt path must not create a store.
pub(crate) fn existing_volumes(global: &Global, store: &arguments::Store) -> Result<Volumes, CommandError> {
    let config = read_with_store(global, store)?;
    match config.store.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CommandError::NoStore { store: config.store }),
        _ => Ok(Volumes::open(config)?),
    }
}

/// Opens the store, and creates it if it is missing.
pub(crate) fn volumes(global: &Global, store: &arguments::Store) -> Result<Volumes, CommandError> {
    Ok(Volumes::open(read_with_store(global, store)?)?)
}

/// Reads the configuration, with the store of the command line if it names one.
pub(crate) fn read_with_store(global: &Global, store: &arguments::Store) -> Result<Config, CommandError> {
    let mut config = read(global.config())?;
    if let Some(store) = store.directory() {
        config.store = store.to_owned();
    }
    Ok(config)
}

//! Checks whether pods of this node use volumes of the driver: without it the kubelet could not unmount them.
//!
//! The first evidence is the kubelet's directory: it has a directory for each volume of a pod, named after the driver.
//! The second is the records in the stores. In a container either may be missing: only what is mounted into it is
//! visible.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_flex::configuration;
use gitrepo_flex::pods;
use gitrepo_flex::stores;
use gitrepo_flex::stores::ORIGIN;
use gitrepo_frontend::configuration::Configuration;

use crate::driver::Driver;
use crate::error::InstallError;

/// Fails if the driver has volumes below `pods`, or in a store that the `given` or the installed configuration names.
pub(crate) fn refuse(driver: &Driver, given: &Configuration, pods: &Path) -> Result<(), InstallError> {
    let mut targets = below(pods, driver.directory_name())?;
    let (installed, _) = configuration::read_or_guess(Some(driver.directory()));
    for configuration in installed.iter().chain([given]) {
        targets.extend(published(configuration, driver.directory_name())?);
    }
    match targets.first() {
        Some(first) => Err(InstallError::InUse { count: targets.len(), first: first.clone() }),
        None => Ok(()),
    }
}

/// Returns the kubelet's directories of this driver's volumes, `<pods>/<uid>/volumes/<driver>/<volume>`, with links
/// resolved, as in records.
fn below(pods: &Path, driver: &OsStr) -> Result<BTreeSet<PathBuf>, InstallError> {
    let Some(pods) = present(pods, pods.canonicalize())? else { return Ok(BTreeSet::new()) };
    let mut volumes = BTreeSet::new();
    for pod in entries(&pods)? {
        volumes.extend(entries(&pod.join("volumes").join(driver))?);
    }
    Ok(volumes)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, InstallError> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    Ok(present(directory, list())?.unwrap_or_default())
}

/// Returns `None` for a missing path: pods come and go, and most have no volume of this driver.
fn present<T>(path: &Path, found: io::Result<T>) -> Result<Option<T>, InstallError> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        found => found.map(Some).map_err(InstallError::io("look for volumes of the driver in", path)),
    }
}

/// Returns the targets on record that may belong to this driver. A driver with another name may share the store. A
/// target outside a kubelet's directory may belong to either driver, so it is included.
fn published(configuration: &Configuration, driver: &OsStr) -> Result<Vec<PathBuf>, InstallError> {
    let may_be_ours = |target: &Path| {
        pods::directory(target).is_none() || target.parent().and_then(Path::file_name).is_none_or(|name| name == driver)
    };
    let mut targets = Vec::new();
    for volumes in stores::existing(configuration) {
        let records = volumes.and_then(|volumes| volumes.store().records());
        let records = records.map_err(|source| InstallError::Stores { source: Box::new(source) })?;
        let ours = records.into_iter().filter(|record| record.origin == ORIGIN && may_be_ours(&record.target));
        targets.extend(ours.map(|record| record.target));
    }
    Ok(targets)
}

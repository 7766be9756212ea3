//! Sweeps the stores of this node while the installer keeps running.

use std::path::Path;
use std::thread;
use std::time::Duration;

use gitrepo_core::error::chain;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::UnpublishError;
use gitrepo_flex::stores;
use gitrepo_flex::stores::ORIGIN;
use gitrepo_frontend::configuration::Configuration;

use crate::arguments::Install;
use crate::error::InstallError;
use crate::settings;

/// How long one sweep of one store may take. The next sweep continues.
const BUDGET: Duration = Duration::from_secs(60);

/// Starts to sweep repeatedly, on a thread. The process may end at any point of a sweep.
pub(crate) fn from_now_on(arguments: &Install) -> Result<(), InstallError> {
    let (settings, interval) = (arguments.settings.clone(), arguments.sweep_interval);
    let pods = arguments.kubelet.pods();
    let sweeping = move || {
        loop {
            match settings::read(&settings) {
                Ok(settings) => sweep(&settings.configuration, &pods),
                Err(error) => tracing::debug!(error = %chain(&error), "not swept"),
            }
            thread::sleep(interval);
        }
    };
    let started = thread::Builder::new().name("sweep".to_owned()).spawn(sweeping);
    started.map(drop).map_err(InstallError::io("start a thread in", Path::new("/proc/self")))
}

/// Sweeps every store that is visible here. It finds deleted pods by the kubelet's directory alone: in a container the
/// mount table does not show which volumes are mounted.
fn sweep(configuration: &Configuration, pods: &Path) {
    if !pods.is_dir() {
        tracing::debug!(pods = %pods.display(), "not swept: the kubelet's directory is not visible here");
        return;
    }
    let abandoned = Abandoned::TargetGone { origin: ORIGIN, below: pods.to_owned() };
    for volumes in stores::existing(configuration) {
        let swept = volumes.map_err(UnpublishError::from).and_then(|volumes| volumes.sweep(&abandoned, BUDGET));
        match swept {
            Ok(report) => tracing::debug!(?report, "swept"),
            Err(error) => tracing::warn!(error = %chain(&error), "leftovers could not be swept"),
        }
    }
}

//! `gitrepo-cli sweep`.

use std::time::Duration;

use gitrepo_core::store::Origin;

use crate::arguments::Global;
use crate::arguments::Sweep;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

/// Long enough for any leftover; a sweep that finds nothing takes milliseconds.
const BUDGET: Duration = Duration::from_secs(600);

/// Removes what interrupted commands left behind.
pub(crate) fn run(global: &Global, arguments: &Sweep) -> Result<(), CommandError> {
    let volumes = configuration::volumes(configuration::read(global.config.as_deref())?, arguments.store.store.clone())?;
    let report = volumes.sweep(Origin::Cli, BUDGET)?;
    render::result(global.json, &report, |report| report.to_string())
}

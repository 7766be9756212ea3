//! `gitrepo-cli sweep`.

use std::time::Duration;

use gitrepo_core::error::chain;
use gitrepo_core::store::Origin;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::Sweep;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

/// Long enough for any leftover; a sweep that finds nothing takes milliseconds.
const BUDGET: Duration = Duration::from_secs(600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Swept {
    removed: usize,
    incomplete: bool,
    failures: Vec<String>,
}

/// Removes what interrupted commands left behind.
pub(crate) fn run(global: &Global, arguments: &Sweep) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let report = volumes.sweep(Origin::Cli, BUDGET)?;
    let swept = Swept {
        removed: report.staging + report.targets + report.unfinished + report.locks + report.trash,
        incomplete: report.incomplete,
        failures: report.failures.iter().map(|failure| chain(failure)).collect(),
    };
    render::result(global.json, &swept, text)
}

fn text(swept: &Swept) -> String {
    let mut lines = vec![format!("{} leftovers removed", swept.removed)];
    lines.extend(swept.failures.iter().map(|failure| format!("not removed: {failure}")));
    if swept.incomplete {
        lines.push("there is more, or another process is sweeping: run it again".to_owned());
    }
    lines.join("\n")
}

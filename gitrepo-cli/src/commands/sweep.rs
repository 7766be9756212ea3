//! `gitrepo-cli sweep`.

use std::time::Duration;

use gitrepo_core::error::chain;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Volumes;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::Sweep;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

/// How long another command may spend on what others left behind.
const BRIEFLY: Duration = Duration::from_millis(100);

/// Long enough for any leftover; a sweep that finds nothing takes milliseconds.
const BUDGET: Duration = Duration::from_secs(600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Swept {
    removed: usize,
    incomplete: bool,
    /// Snapshots that somebody has changed, and that are served no more.
    changed: usize,
    /// There was no time to look at all snapshots for changes.
    unchecked: bool,
    failures: Vec<String>,
}

/// Removes what interrupted commands left behind.
pub(crate) fn run(global: &Global, arguments: &Sweep) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let report = volumes.sweep(&Abandoned::Unmounted, BUDGET)?;
    let swept = Swept {
        removed: report.removed(),
        incomplete: report.incomplete,
        changed: report.changed,
        unchecked: report.unchecked,
        failures: report.failures.iter().map(|failure| chain(failure)).collect(),
    };
    render::result(global.json, &swept, text)
}

/// Sweeps a little, because leftovers are in the way.
pub(super) fn briefly(volumes: &Volumes) -> Result<(), CommandError> {
    volumes.sweep(&Abandoned::Unmounted, BRIEFLY)?;
    Ok(())
}

/// Sweeps a little at the end of another command, whose success does not hang on it.
pub(super) fn in_passing(volumes: &Volumes) {
    if let Err(error) = briefly(volumes) {
        tracing::warn!(error = %chain(&error), "leftovers could not be swept");
    }
}

fn text(swept: &Swept) -> String {
    let mut lines = vec![format!("{} leftovers removed", swept.removed)];
    lines.extend(swept.failures.iter().map(|failure| format!("not removed: {failure}")));
    if swept.changed > 0 {
        lines.push(format!(
            "{} snapshots were changed by somebody, and are served no more (the log says which)",
            swept.changed
        ));
    }
    if swept.unchecked {
        lines.push("not all snapshots were looked at for changes: run it again".to_owned());
    }
    if swept.incomplete {
        lines.push("there is more, or another process is sweeping: run it again".to_owned());
    }
    lines.join("\n")
}

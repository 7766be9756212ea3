//! `gitrepo-cli sweep`.

use std::time::Duration;

use gitrepo_core::error::chain;
use gitrepo_core::store::Eviction;
use gitrepo_core::store::SweepReport;
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
    /// Nothing was removed: this is what would be.
    dry_run: bool,
    /// All that went, in numbers; the following two are part of it.
    removed: usize,
    snapshots: u64,
    repositories: u64,
    /// Of those two.
    bytes: u64,
    incomplete: bool,
    /// Snapshots that somebody has changed, and that are served no more.
    changed: usize,
    /// There was no time to look at all snapshots for changes.
    unchecked: bool,
    failures: Vec<String>,
}

/// Removes what interrupted commands left behind, and makes room.
pub(crate) fn run(global: &Global, arguments: &Sweep) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let eviction = if arguments.unreferenced { Eviction::Unreferenced } else { volumes.reserve() };
    let report = match arguments.dry_run {
        true => SweepReport { freed: volumes.evictable(eviction)?, ..SweepReport::default() },
        false => volumes.sweep_and_evict(&Abandoned::Unmounted { origin: configuration::ORIGIN }, eviction, BUDGET)?,
    };
    let swept = Swept {
        dry_run: arguments.dry_run,
        removed: report.removed(),
        snapshots: report.freed.snapshots,
        repositories: report.freed.repositories,
        bytes: report.freed.bytes,
        incomplete: report.incomplete,
        changed: report.changed,
        unchecked: report.unchecked,
        failures: report.failures.iter().map(|failure| chain(failure)).collect(),
    };
    render::result(global.json, &swept, text)
}

/// Sweeps a little, because leftovers are in the way. What is only unused is not.
pub(super) fn briefly(volumes: &Volumes) -> Result<(), CommandError> {
    volumes.sweep_and_evict(&Abandoned::Unmounted { origin: configuration::ORIGIN }, Eviction::Until(0), BRIEFLY)?;
    Ok(())
}

/// Sweeps a little at the end of another command, whose success does not hang on it.
pub(super) fn in_passing(volumes: &Volumes) {
    if let Err(error) = briefly(volumes) {
        tracing::warn!(error = %chain(&error), "leftovers could not be swept");
    }
}

fn text(swept: &Swept) -> String {
    let Swept { snapshots, repositories, bytes, .. } = swept;
    let unused = format!("{snapshots} unused snapshots and {repositories} unused repositories ({bytes} bytes)");
    if swept.dry_run {
        return format!("{unused} would be removed");
    }
    let freed = usize::try_from(snapshots + repositories).unwrap_or(usize::MAX);
    let mut lines = vec![format!("{} leftovers removed", swept.removed.saturating_sub(freed))];
    if freed > 0 {
        lines.push(format!("{unused} removed"));
    }
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

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

/// How long other commands may spend on sweeping.
const BRIEFLY: Duration = Duration::from_millis(100);

/// How long `sweep` may take: enough for any leftovers. A sweep that finds nothing takes milliseconds.
const BUDGET: Duration = Duration::from_secs(600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Swept {
    /// Nothing was removed: the counts say what would be removed.
    dry_run: bool,
    /// All removed entries, including these snapshots and repositories:
    removed: usize,
    snapshots: u64,
    repositories: u64,
    /// Size of these snapshots and repositories.
    bytes: u64,
    incomplete: bool,
    /// Snapshots that were modified on disk and are no longer served.
    changed: usize,
    /// Time ran out before all snapshots were checked for changes.
    unchecked: bool,
    failures: Vec<String>,
}

/// Removes what interrupted commands left behind, and makes room.
pub(crate) fn run(global: &Global, arguments: &Sweep) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let eviction = if arguments.unreferenced { Eviction::Unreferenced } else { volumes.bounds() };
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

/// Sweeps leftovers for a short time, and removes unused snapshots and repositories above `cache.maxBytes`.
pub(super) fn briefly(volumes: &Volumes) -> Result<(), CommandError> {
    volumes.sweep_and_evict(&Abandoned::Unmounted { origin: configuration::ORIGIN }, volumes.budget(), BRIEFLY)?;
    Ok(())
}

/// Sweeps briefly at the end of another command. If the sweep fails, that command still succeeds.
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
            "{} snapshots were changed on disk and are no longer served (the log names them)",
            swept.changed
        ));
    }
    if swept.unchecked {
        lines.push("not all snapshots were checked for changes: run the command again".to_owned());
    }
    if swept.incomplete {
        lines.push("leftovers remain, or another process is sweeping: run the command again".to_owned());
    }
    lines.join("\n")
}

//! `gitrepo-cli cache gc`.

use std::time::Duration;

use gitrepo_core::spec::duration;
use gitrepo_core::spec::quantity;
use gitrepo_core::store::Bounds;
use gitrepo_core::store::Eviction;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::cache::Gc;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

/// How long the removal may take: enough for any store.
const BUDGET: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    /// Nothing was removed: the counts say what would be removed.
    dry_run: bool,
    snapshots: u64,
    repositories: u64,
    bytes: u64,
    /// Something unused is left, because it could not be removed.
    incomplete: bool,
}

/// Removes what exceeds the limits.
pub(crate) fn run(global: &Global, arguments: &Gc) -> Result<(), CommandError> {
    let eviction = eviction(arguments)?;
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let freed = match arguments.dry_run {
        true => volumes.evictable(eviction)?,
        false => volumes.evict(eviction, BUDGET)?,
    };
    let collected = Collected {
        dry_run: arguments.dry_run,
        snapshots: freed.snapshots,
        repositories: freed.repositories,
        bytes: freed.bytes,
        incomplete: freed.incomplete,
    };
    render::result(global.json, &collected, |collected| {
        let verb = if collected.dry_run { "would be removed" } else { "removed" };
        let rest = if collected.incomplete { "; something unused is left: run the command again" } else { "" };
        format!("{freed} {verb}{rest}")
    })
}

fn eviction(arguments: &Gc) -> Result<Eviction, CommandError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (bytes, age) = (given(&arguments.max_bytes), given(&arguments.max_age));
    if bytes.is_none() && age.is_none() {
        let what = "cache gc needs --max-bytes, --max-age or both; --max-bytes=0 removes everything unused".to_owned();
        return Err(CommandError::Usage { what });
    }
    let wrong = |flag: &str, error: &dyn std::error::Error| CommandError::Usage { what: format!("{flag}: {error}") };
    let bytes = bytes.map(|text| quantity::parse(&text).map_err(|error| wrong("--max-bytes", &error))).transpose()?;
    let age = age.map(|text| duration::parse(&text).map_err(|error| wrong("--max-age", &error))).transpose()?;
    let (max_bytes, max_age) = (bytes.unwrap_or(u64::MAX), age.unwrap_or(Duration::MAX));
    Ok(Eviction::Within(Bounds { free_bytes: 0, max_bytes, max_age }))
}

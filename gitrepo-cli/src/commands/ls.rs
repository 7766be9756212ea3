//! `gitrepo-cli ls`.

use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::volume::Format;
use gitrepo_core::volume::PublishedVolume;
use gitrepo_core::volume::State;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::Ls;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::table;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    target: PathBuf,
    repository: String,
    revision: String,
    commit: String,
    read_only: bool,
    origin: String,
    age_seconds: u64,
    format: Format,
    state: State,
}

/// Lists the published volumes of a store.
pub(crate) fn run(global: &Global, arguments: &Ls) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let rows: Vec<Row> = volumes.list()?.into_iter().map(row).collect();
    render::result(global.json, &rows, |rows| text(rows))
}

fn row(volume: PublishedVolume) -> Row {
    Row {
        target: volume.record.target,
        repository: volume.record.repository,
        revision: volume.record.revision,
        commit: volume.record.commit.to_string(),
        read_only: volume.record.shows.is_read_only(),
        origin: volume.record.origin.to_string(),
        age_seconds: volume.age.as_secs(),
        format: volume.format,
        state: volume.state,
    }
}

fn text(rows: &[Row]) -> String {
    let heading = ["TARGET", "REPOSITORY", "REVISION", "COMMIT", "AGE", "FORMAT", "STATE"];
    table::table(heading, rows.iter().map(cells).collect())
}

fn cells(row: &Row) -> [String; 7] {
    [
        table::printable(&row.target),
        row.repository.clone(),
        row.revision.clone(),
        table::short(&row.commit),
        table::age(Duration::from_secs(row.age_seconds)),
        row.format.to_string(),
        row.state.to_string(),
    ]
}

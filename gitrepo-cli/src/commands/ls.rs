//! `gitrepo-cli ls`.

use std::path::Path;
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
    render::result(global.json, &rows, |rows| table(rows))
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

/// Formats the rows in aligned columns under a heading; returns an empty text if there are no rows.
fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["TARGET", "REPOSITORY", "REVISION", "COMMIT", "AGE", "FORMAT", "STATE"].map(str::to_owned);
    let cells: Vec<[String; 7]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..7).map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 7]| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Row) -> [String; 7] {
    [
        printable(&row.target),
        row.repository.clone(),
        row.revision.clone(),
        row.commit.chars().take(12).collect(),
        age(Duration::from_secs(row.age_seconds)),
        row.format.to_string(),
        row.state.to_string(),
    ]
}

/// Formats a path for a terminal: escapes control characters.
fn printable(path: &Path) -> String {
    let text = path.display().to_string();
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Formats an age in one unit, as `kubectl get` does.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_path_are_escaped() {
        assert_eq!(printable(Path::new("/a\x1b[2J\nb ü")), "/a\\u{1b}[2J\\nb ü");
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|seconds| age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}

//! `gitrepo-cli cache ls`.

use std::time::Duration;

use gitrepo_core::store::Condition;
use gitrepo_core::store::KeptRepository;
use gitrepo_core::store::KeptSnapshot;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::cache::List;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::table;

#[derive(Serialize)]
struct Content {
    snapshots: Vec<Snapshot>,
    repositories: Vec<Repository>,
}

/// A snapshot. What its metadata tells is missing if that cannot be read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    id: String,
    repository: Option<String>,
    commit: Option<String>,
    subdirectory: Option<String>,
    format: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    own_bytes: u64,
    shared_bytes: u64,
    age_seconds: Option<u64>,
    unused_seconds: u64,
    volumes: usize,
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Repository {
    hash: String,
    repository: Option<String>,
    snapshots: usize,
    segments: usize,
    /// With its snapshots.
    bytes: u64,
    /// Missing if only snapshots are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_seconds: Option<u64>,
}

/// Lists the snapshots and repositories of a store.
pub(crate) fn run(global: &Global, arguments: &List) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let inventory = volumes.store().inventory()?;
    let mut content = Content {
        snapshots: inventory.snapshots.into_iter().map(snapshot).collect(),
        repositories: inventory.repositories.into_iter().map(repository).collect(),
    };
    content.snapshots.sort_by(|one, other| (&one.repository, &one.commit).cmp(&(&other.repository, &other.commit)));
    content.repositories.sort_by(|one, other| one.repository.cmp(&other.repository));
    render::result(global.json, &content, text)
}

fn snapshot(kept: KeptSnapshot) -> Snapshot {
    let meta = kept.meta.as_ref();
    Snapshot {
        id: kept.id.to_string(),
        repository: meta.map(|meta| meta.repository.clone()),
        commit: meta.map(|meta| meta.commit.to_string()),
        subdirectory: meta.map(|meta| meta.tree.subdirectory.to_string()),
        format: meta.map(|meta| meta.format.clone()),
        uid: meta.map(|meta| meta.ownership.uid),
        gid: meta.map(|meta| meta.ownership.gid),
        own_bytes: kept.own_bytes,
        shared_bytes: kept.shared_bytes,
        age_seconds: meta.map(|meta| meta.created_at.elapsed().unwrap_or_default().as_secs()),
        unused_seconds: kept.idle.as_secs(),
        volumes: kept.volumes,
        state: state(kept.condition),
    }
}

fn repository(kept: KeptRepository) -> Repository {
    Repository {
        hash: kept.hash,
        repository: kept.url,
        snapshots: kept.snapshots,
        segments: kept.segments,
        bytes: kept.size.total(),
        unused_seconds: kept.idle.map(|idle| idle.as_secs()),
    }
}

fn state(condition: Condition) -> &'static str {
    match condition {
        Condition::Good => "good",
        Condition::Quarantined => "quarantined",
        Condition::Unreadable => "unreadable",
    }
}

fn text(content: &Content) -> String {
    let snapshots = table::table(
        ["REPOSITORY", "COMMIT", "FORMAT", "OWNER", "OWN", "SHARED", "AGE", "UNUSED", "VOLUMES", "STATE"],
        content.snapshots.iter().map(cells).collect(),
    );
    let repositories = table::table(
        ["REPOSITORY", "SNAPSHOTS", "SEGMENTS", "BYTES", "UNUSED"],
        content.repositories.iter().map(repository_cells).collect(),
    );
    [snapshots, repositories].into_iter().filter(|table| !table.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn cells(row: &Snapshot) -> [String; 10] {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let owner = row.uid.zip(row.gid).map(|(uid, gid)| format!("{uid}:{gid}"));
    [
        or_unknown(&row.repository),
        table::short(&or_unknown(&row.commit)),
        or_unknown(&row.format),
        or_unknown(&owner),
        table::bytes(row.own_bytes),
        table::bytes(row.shared_bytes),
        row.age_seconds.map_or_else(|| "?".to_owned(), |seconds| table::age(Duration::from_secs(seconds))),
        table::age(Duration::from_secs(row.unused_seconds)),
        row.volumes.to_string(),
        row.state.to_owned(),
    ]
}

fn repository_cells(row: &Repository) -> [String; 5] {
    [
        row.repository.clone().unwrap_or_else(|| table::short(&row.hash)),
        row.snapshots.to_string(),
        row.segments.to_string(),
        table::bytes(row.bytes),
        row.unused_seconds.map_or_else(|| "-".to_owned(), |seconds| table::age(Duration::from_secs(seconds))),
    ]
}

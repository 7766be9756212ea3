//! `gitrepo-cli cache du`.

use gitrepo_core::store::KeptRepository;
use gitrepo_core::store::Size;
use serde::Serialize;

use crate::arguments::Global;
use crate::arguments::cache::List;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::table;

#[derive(Serialize)]
struct Usage {
    repositories: Vec<Row>,
    total: Bytes,
}

#[derive(Serialize)]
struct Row {
    hash: String,
    repository: Option<String>,
    #[serde(flatten)]
    bytes: Bytes,
}

/// Bytes by kind.
#[derive(Serialize)]
struct Bytes {
    content: u64,
    history: u64,
    images: u64,
    directories: u64,
    total: u64,
}

impl From<Size> for Bytes {
    fn from(size: Size) -> Self {
        let Size { content, history, images, directories } = size;
        Self { content, history, images, directories, total: size.total() }
    }
}

/// Adds up what a store takes.
pub(crate) fn run(global: &Global, arguments: &List) -> Result<(), CommandError> {
    let volumes = configuration::existing_volumes(global, &arguments.store)?;
    let inventory = volumes.store().inventory()?;
    let total = inventory.size().into();
    let row = |kept: KeptRepository| Row { hash: kept.hash, repository: kept.url, bytes: kept.size.into() };
    let mut repositories: Vec<Row> = inventory.repositories.into_iter().map(row).collect();
    repositories.sort_by(|one, other| other.bytes.total.cmp(&one.bytes.total).then(one.hash.cmp(&other.hash)));
    render::result(global.json, &Usage { repositories, total }, text)
}

fn text(usage: &Usage) -> String {
    let name = |row: &Row| row.repository.clone().unwrap_or_else(|| table::short(&row.hash));
    let rows = usage.repositories.iter().map(|row| cells(name(row), &row.bytes));
    let total = std::iter::once(cells("total".to_owned(), &usage.total));
    let heading = ["REPOSITORY", "CONTENT", "HISTORY", "IMAGES", "DIRECTORIES", "TOTAL"];
    table::table(heading, rows.chain(total).collect())
}

fn cells(name: String, bytes: &Bytes) -> [String; 6] {
    let Bytes { content, history, images, directories, total } = bytes;
    let [content, history, images, directories, total] =
        [content, history, images, directories, total].map(|bytes| table::bytes(*bytes));
    [name, content, history, images, directories, total]
}

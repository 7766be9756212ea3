//! Removes the leftovers of a crash from a repository before the next fetch.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::content;
use crate::store::durable;
use crate::store::durable::UNFINISHED;
use crate::store::error::StoreError;
use crate::store::error::optional;

use super::adopt::COMMITS;
use super::adopt::PACKS;

/// Removes unfinished files, and packs, segments and indexes without their counterparts. Git itself never cleans up after
/// a kill: a `shallow.lock` alone makes every later fetch fail. Call only under the repository's lock.
pub(super) fn remove_leftovers(repository: &Path) -> Result<(), StoreError> {
    for directory in ["", "objects", PACKS, content::DIRECTORY, "refs", COMMITS] {
        let directory = repository.join(directory);
        for path in optional(durable::entries(&directory))?.unwrap_or_default() {
            if is_leftover(&path) {
                fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
            }
        }
    }
    Ok(())
}

fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    match path.extension().and_then(OsStr::to_str) {
        Some("lock" | UNFINISHED) => true,
        Some("pack") => !path.with_extension("idx").exists(),
        Some("idx") => !path.with_extension("pack").exists(),
        Some(content::CONTENT) => !path.with_extension(content::INDEX).exists(),
        Some(content::INDEX) => !path.with_extension(content::CONTENT).exists(),
        _ => name.starts_with("tmp_"),
    }
}

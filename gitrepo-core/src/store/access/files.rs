//! The files that are kept of a credential. The extension of a name tells the kind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use super::StoreError;
use super::optional;

/// Files of a kind that are kept. Beyond this number the oldest quarter is dropped, unless it is young or needed.
pub(super) const MOST: usize = 256;

/// Beyond this number, young ones are dropped too.
pub(super) const MOST_YOUNG: usize = 16 * MOST;

/// For how long a file is young. Tenants share a credential, such as none: one that asks for many commits must not drop
/// what another has just proven.
pub(super) const YOUNG: Duration = Duration::from_secs(60 * 60);

/// Lists the files of a kind.
pub(super) fn list(directory: &Path, extension: &'static str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(move |path| path.extension() == Some(OsStr::new(extension)))
}

/// Deletes a file, which may be missing.
pub(super) fn delete(path: &Path) -> Result<(), StoreError> {
    optional(fs::remove_file(path).map_err(StoreError::io("delete", path))).map(drop)
}

/// Deletes the oldest files of a kind if there are too many, except those with the names in `needed`. A time that jumped
/// decides no more than which ones.
pub(super) fn bound(
    directory: &Path,
    extension: &'static str,
    needed: impl FnOnce() -> BTreeSet<String>,
) -> Result<(), StoreError> {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if list(directory, extension).count() <= MOST {
        return Ok(());
    }
    let mut files: Vec<_> = list(directory, extension).map(|path| (changed(&path), path)).collect();
    files.sort_unstable();
    let surplus = files.len().saturating_sub(MOST - MOST / 4);
    let excess = files.len().saturating_sub(MOST_YOUNG);
    let is_old = |changed: &SystemTime| changed.elapsed().is_ok_and(|age| age >= YOUNG);
    let old = files.iter().take_while(|(changed, _)| is_old(changed)).count();
    if old.max(excess) == 0 {
        return Ok(());
    }
    let needed = needed();
    let is_needed = |path: &Path| path.file_name().and_then(OsStr::to_str).is_some_and(|name| needed.contains(name));
    let droppable = files.iter().take(old.max(excess)).filter(|(_, path)| !is_needed(path));
    droppable.take(surplus).try_for_each(|(_, path)| delete(path))
}

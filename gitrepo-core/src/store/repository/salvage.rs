//! Recovers packs that a fetch had received when its process died.
//!
//! A process that dies, by a signal or with its pod, leaves its staging directory unlocked. The pack in it may have
//! cost minutes of network traffic. The next fetch into the same repository, or a sweep, takes it over under the
//! repository's lock. It is trusted less than the result of a successful fetch: the worker may have lived on for a
//! moment, and the disk may have been full. The directory's name, which no worker can change, identifies the
//! repository.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::content;
use crate::error::chain;
use crate::lfs;
use crate::remote::REPOSITORY;
use crate::snapshot::Owner;
use crate::spec::CommitId;
use crate::store::durable;
use crate::store::durable::Durability;
use crate::store::error::StoreError;
use crate::store::layout::Layout;
use crate::store::staging::Staging;

use super::Repository;
use super::adopt;
use super::adopt::Fetched;
use super::whole;

/// Takes over the packs that dead processes left for this repository, whose lock the caller holds, and deletes the
/// rest. A failure loses a pack, which can be fetched again.
pub(super) fn salvage(repository: &Repository) -> Result<(), StoreError> {
    for staging in Staging::abandoned(&repository.layout, &repository.hash, |_| true)? {
        keep(repository, &staging);
    }
    Ok(())
}

/// Like [`salvage`] for every repository without a running fetch, but moves the rest to the trash. Without time to read
/// packs, directories with packs worth keeping stay. Returns how many staging directories were removed, and whether
/// some stayed.
pub(in crate::store) fn sweep(layout: &Arc<Layout>, has_time: bool) -> Result<(usize, bool), StoreError> {
    let (mut gone, mut stay) = (0, false);
    for hash in Staging::repositories(layout)? {
        let repository = Repository::of_hash(layout, hash);
        let Some(_lock) = repository.try_lock()? else { continue };
        let mut take = |path: &Path| {
            let takes = has_time || !may_be_kept(path);
            stay |= !takes;
            takes
        };
        for staging in Staging::abandoned(layout, &repository.hash, &mut take)? {
            keep(&repository, &staging);
            staging.into_trash()?;
            gone += 1;
        }
    }
    Ok((gone, stay))
}

fn keep(repository: &Repository, staging: &Staging) {
    match take_over(repository, staging) {
        Ok(0) => {}
        Ok(packs) => tracing::info!(repository = repository.hash, packs, "kept the packs of a dead process"),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(repository = repository.hash, error, "cannot keep the packs of a dead process");
        }
    }
}

fn may_be_kept(staging: &Path) -> bool {
    left_in(staging).is_ok_and(|left| left.is_some())
}

/// Returns the output of a fetch with its commits, if the fetch was complete.
fn left_in(staging: &Path) -> Result<Option<(Fetched, Vec<CommitId>)>, StoreError> {
    let path = staging.join(REPOSITORY);
    // An earlier version made no segments, and its packs are of no use.
    if !path.join(content::DIRECTORY).exists() {
        return Ok(None);
    }
    let left = Fetched::open(&path)?;
    // The worker writes the ref once all its objects are there, so without a ref the fetch was incomplete.
    let commits = left.commits()?;
    let is_something = !commits.is_empty() && !left.names_of(&adopt::HISTORY)?.is_empty();
    Ok(is_something.then_some((left, commits)))
}

/// Moves the packs of a dead fetch into the repository, if they are complete. Returns their number.
fn take_over(repository: &Repository, staging: &Staging) -> Result<usize, StoreError> {
    let Some((left, commits)) = left_in(staging.path())? else { return Ok(0) };
    let on_base = left.builds_on_base()?;
    if on_base && !repository.exists() {
        // The repository it built on was damaged and has been discarded.
        return Ok(0);
    }
    let owner = Owner::ourselves();
    let ours = Staging::create(&repository.layout)?;
    let checked = ours.path().join(REPOSITORY);
    for pairs in adopt::PAIRS {
        let directory = checked.join(pairs.directory);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(StoreError::io("create", &directory))?;
    }
    left.move_pairs(adopt::PAIRS_TAKEN, &checked, owner)?;
    // The names are read again, where the worker cannot change them.
    let moved = Fetched::open(&checked)?;
    let names = moved.names_of(&adopt::HISTORY)?;
    if names.is_empty() {
        return Ok(0);
    }
    for pairs in adopt::PAIRS {
        for name in moved.names_of(pairs)? {
            let [content, index] = pairs.ends.map(|end| checked.join(pairs.directory).join(format!("{name}.{end}")));
            match pairs.directory {
                adopt::PACKS => whole::check_pack(&content, &index)?,
                _ => whole::check_segment(&content, &index)?,
            }
        }
    }
    for (name, list) in [(adopt::SHALLOW, left.shallow()?), (lfs::KNOWN, left.lfs()?)] {
        if let Some(list) = list {
            durable::replace(&checked.join(name), &list, Durability::Volatile)?;
        }
    }
    for (number, commit) in commits.iter().enumerate() {
        if on_base || number > 0 {
            adopt::extend(&repository.path, &checked, Some(commit), owner)?;
        } else {
            adopt::replace(&repository.layout, &repository.path, &checked, Some(commit), owner)?;
        }
    }
    Ok(names.len())
}

#[cfg(test)]
mod tests;

//! Recovers packs that a fetch had received when its process died.
//!
//! A process that dies, by a signal or with its pod, leaves its staging directory unlocked. The pack in it may have
//! cost minutes of network traffic. The next fetch into the same repository, or a sweep, takes it over under the
//! repository's lock. It is trusted less than the result of a successful fetch: the worker may have lived on for a
//! moment, and the disk may have been full. The directory's name, which no worker can change, identifies the
//! repository.
//!
//! Objects of Git LFS come after the commit, and may take hours. Their complete segments are kept, whatever else is
//! missing or damaged: nothing but a tree that names an object by its hash leads to it.

use std::fs;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
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
use crate::store::error::optional;
use crate::store::layout::Layout;
use crate::store::staging::Staging;

use super::Repository;
use super::adopt;
use super::adopt::Fetched;
use super::adopt::Pairs;
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
        Ok(files) => tracing::info!(repository = repository.hash, files, "kept what a dead process had received"),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(repository = repository.hash, error, "cannot keep what a dead process had received");
        }
    }
}

fn may_be_kept(staging: &Path) -> bool {
    left_in(staging).is_ok_and(|left| left.is_some())
}

/// The output of a fetch that may be worth keeping.
struct Left {
    fetched: Fetched,
    /// The commits that were fetched whole. The worker writes their refs once all its objects are there, so without one the
    /// fetch was incomplete.
    commits: Vec<CommitId>,
    /// The list of objects of Git LFS, also those of the repository that the fetch built on.
    objects: Option<Vec<u8>>,
}

fn left_in(staging: &Path) -> Result<Option<Left>, StoreError> {
    let path = staging.join(REPOSITORY);
    // An earlier version made no segments, and its packs are of no use.
    if !path.join(content::DIRECTORY).exists() {
        return Ok(None);
    }
    let fetched = Fetched::open(&path)?;
    let (mut commits, objects) = (fetched.commits()?, fetched.lfs()?);
    if fetched.names_of(&adopt::HISTORY)?.is_empty() {
        commits.clear();
    }
    let is_something = !commits.is_empty() || objects.is_some() && !fetched.names_of(&adopt::SEGMENTS)?.is_empty();
    Ok(is_something.then_some(Left { fetched, commits, objects }))
}

/// Moves what a dead fetch left into the repository, if it is complete. Returns how many packs or segments that were.
fn take_over(repository: &Repository, staging: &Staging) -> Result<usize, StoreError> {
    let Some(left) = left_in(staging.path())? else { return Ok(0) };
    let on_base = left.fetched.builds_on_base()?;
    if on_base && !repository.exists() {
        // The repository it built on was damaged and has been discarded.
        return Ok(0);
    }
    let ours = Staging::create(&repository.layout)?;
    let place = ours.path().join(REPOSITORY);
    for pairs in adopt::PAIRS {
        let directory = place.join(pairs.directory);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(StoreError::io("create", &directory))?;
    }
    left.fetched.move_pairs(adopt::PAIRS_TAKEN, &place, Owner::ourselves())?;
    // The names are read again, where the worker cannot change them.
    let taken = Taken { moved: Fetched::open(&place)?, place, left, on_base };
    let damage = taken.damage()?;
    if damage.is_empty() && !taken.left.commits.is_empty() {
        return taken.add_whole(repository);
    }
    match taken.add_objects(repository, &damage) {
        Ok(0) => damage.into_iter().next().map_or(Ok(0), |(_, _, error)| Err(error)),
        added => added,
    }
}

/// A pair of files that are not whole, and why.
type Damage = (&'static Pairs, String, StoreError);

/// What a dead fetch left, where nobody else can change it.
struct Taken {
    left: Left,
    /// Whether it built on the repository.
    on_base: bool,
    moved: Fetched,
    place: PathBuf,
}

impl Taken {
    fn paths(&self, pairs: &Pairs, name: &str) -> [PathBuf; 2] {
        pairs.ends.map(|end| self.place.join(pairs.directory).join(format!("{name}.{end}")))
    }

    fn damage(&self) -> Result<Vec<Damage>, StoreError> {
        let mut damage = Vec::new();
        for pairs in adopt::PAIRS {
            for name in self.moved.names_of(pairs)? {
                let [content, index] = self.paths(pairs, &name);
                let checked = match pairs.directory {
                    adopt::PACKS => whole::check_pack(&content, &index),
                    _ => whole::check_segment(&content, &index),
                };
                damage.extend(checked.err().map(|error| (pairs, name, error)));
            }
        }
        Ok(damage)
    }

    /// Adds commits with all that belongs to them.
    fn add_whole(&self, repository: &Repository) -> Result<usize, StoreError> {
        let (fetched, owner) = (&self.left.fetched, Owner::ourselves());
        self.write(adopt::SHALLOW, fetched.shallow()?.as_deref())?;
        // Another fetch that died may have left objects there first.
        let known = lfs::Known::read(&repository.path).map_err(StoreError::io("read", &repository.path))?;
        let objects = self.left.objects.as_deref().and_then(|noted| known.with(noted));
        self.write(lfs::KNOWN, objects.as_ref().map(|objects| objects.as_bytes()))?;
        let packs = self.moved.names_of(&adopt::HISTORY)?.len();
        if packs == 0 {
            return Ok(0);
        }
        for (number, commit) in self.left.commits.iter().enumerate() {
            if self.on_base || number > 0 {
                adopt::extend(&repository.path, &self.place, Some(commit), owner)?;
            } else {
                adopt::replace(&repository.layout, &repository.path, &self.place, Some(commit), owner)?;
            }
        }
        Ok(packs)
    }

    /// Adds the segments that are whole, if the fetch noted objects of Git LFS.
    fn add_objects(&self, repository: &Repository, damage: &[Damage]) -> Result<usize, StoreError> {
        let known = lfs::Known::read(&repository.path).map_err(StoreError::io("read", &repository.path))?;
        let Some(objects) = self.left.objects.as_deref().and_then(|noted| known.with(noted)) else { return Ok(0) };
        if repository.exists() && !self.on_base {
            return Ok(0);
        }
        let history = self.moved.names_of(&adopt::HISTORY)?.into_iter().map(|name| (&adopt::HISTORY, name));
        let damaged = damage.iter().map(|(pairs, name, _)| (*pairs, name.clone()));
        for path in history.chain(damaged).flat_map(|(pairs, name)| self.paths(pairs, &name)) {
            optional(fs::remove_file(&path).map_err(StoreError::io("delete", &path)))?;
        }
        let segments = self.moved.names_of(&adopt::SEGMENTS)?.len();
        if segments == 0 {
            return Ok(0);
        }
        self.write(lfs::KNOWN, Some(objects.as_bytes()))?;
        match self.on_base {
            true => adopt::extend_objects(&repository.path, &self.place, Owner::ourselves())?,
            false => {
                adopt::replace(&repository.layout, &repository.path, &self.place, None, Owner::ourselves())?;
            }
        }
        Ok(segments)
    }

    fn write(&self, name: &str, list: Option<&[u8]>) -> Result<(), StoreError> {
        list.map_or(Ok(()), |list| durable::replace(&self.place.join(name), list, Durability::Volatile))
    }
}

#[cfg(test)]
mod tests;

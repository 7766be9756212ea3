//! Finds repositories that many fetches added to.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::Repository;
use super::adopt;
use crate::content;
use crate::content::MANY;
use crate::spec::RepositoryUrl;
use crate::store::Store;
use crate::store::durable;
use crate::store::error::StoreError;
use crate::store::error::optional;
use crate::store::snapshot::read_meta;
use crate::store::target::hashes_in;

/// A repository that is worth compacting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragmented {
    /// Its URL.
    pub(crate) url: RepositoryUrl,
    /// Its packs and segments.
    pub(crate) files: usize,
    /// Their length in bytes.
    pub(crate) bytes: u64,
}

impl Store {
    /// Returns the repositories with many packs or small segments. Only snapshots know their URLs: without one, a repository
    /// is soon evicted.
    pub(crate) fn fragmented(&self) -> Result<Vec<Fragmented>, StoreError> {
        let mut found = Vec::new();
        for hash in hashes_in(&self.layout.repositories())? {
            let repository = Repository::of_hash(&self.layout, hash.clone());
            let packs = lengths(&repository, adopt::PACKS, "pack")?;
            let segments = lengths(&repository, content::DIRECTORY, content::CONTENT)?;
            if is_fragmented(&packs, &segments) {
                found.push((hash, packs.len() + segments.len(), packs.iter().chain(&segments).sum()));
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut urls = BTreeMap::new();
        for snapshot in hashes_in(&self.layout.snapshots())? {
            let meta = read_meta(&self.layout.snapshots().join(snapshot)).ok().flatten();
            if let Some(url) = meta.and_then(|meta| RepositoryUrl::parse(&meta.repository).ok()) {
                urls.insert(Repository::hash_of(&url), url);
            }
        }
        let fragmented = |(hash, files, bytes)| Some(Fragmented { url: urls.get(&hash)?.clone(), files, bytes });
        Ok(found.into_iter().filter_map(fragmented).collect())
    }
}

/// A segment of this length or more, in bytes, is no fragment: one download of Git LFS leaves many of these, and nothing
/// would be gained by writing them again.
const WHOLE: u64 = 64 << 20;

/// Whether a repository with packs and segments of these lengths is worth compacting.
fn is_fragmented(packs: &[u64], segments: &[u64]) -> bool {
    packs.len().max(segments.iter().filter(|length| **length < WHOLE).count()) > MANY
}

/// The lengths in bytes of the files with this end in a directory of a repository.
fn lengths(repository: &Repository, directory: &str, end: &str) -> Result<Vec<u64>, StoreError> {
    let files = optional(durable::entries(&repository.path().join(directory)))?.unwrap_or_default();
    let files = files.iter().filter(|file| file.extension() == Some(OsStr::new(end)));
    // One that is gone meanwhile has no length.
    Ok(files.map(|file| file.symlink_metadata().map_or(0, |found| found.len())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_segments_are_no_fragments_and_every_pack_is_one() {
        let [many, more] = [MANY, MANY + 1];
        assert!(!is_fragmented(&vec![1; many], &vec![1; many]));
        assert!(is_fragmented(&[], &vec![WHOLE - 1; more]));
        assert!(!is_fragmented(&[], &vec![WHOLE; 10 * more]));
        assert!(is_fragmented(&vec![WHOLE; more], &[]));
    }
}

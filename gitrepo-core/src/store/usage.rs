//! The size of a store's snapshots and repositories.

use std::path::Path;

use crate::snapshot::TreeSummary;

use super::Store;
use super::error::StoreError;
use super::names::Taken;
use super::names::image_files;
use super::snapshot::read_meta;
use super::target::hashes_in;

/// What a file, link or directory of a tree takes on disk beside its content, in bytes: an inode, a name, and half a
/// block that its content does not fill.
const ENTRY: u64 = 2048;

/// The size of the snapshots and repositories in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of snapshots.
    pub snapshots: u64,
    /// Bytes of the content of their files, as counted when they were written; of images, bytes of the images and their
    /// segments, each of which counts once.
    pub bytes: u64,
    /// The number of repositories.
    pub repositories: u64,
    /// Bytes that snapshots and repositories take together: each file of an image and of a repository counts once, and a
    /// tree of files also for its entries.
    pub total: u64,
}

/// Returns about how many bytes a tree of files takes.
pub(super) fn taken_by_tree(summary: &TreeSummary) -> u64 {
    summary.bytes.saturating_add(summary.entries().saturating_mul(ENTRY))
}

impl Store {
    /// Adds up the sizes of the snapshots and repositories, without walking the trees. A damaged one counts as 0 bytes.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let directory = self.layout.snapshots();
        let mut usage = Usage::default();
        let mut taken = Taken::default();
        for name in hashes_in(&directory)? {
            usage.snapshots += 1;
            let (bytes, total) = taken_by(&directory.join(name), &mut taken);
            usage.bytes = usage.bytes.saturating_add(bytes);
            usage.total = usage.total.saturating_add(total);
        }
        for hash in hashes_in(&self.layout.repositories())? {
            usage.repositories += 1;
            let bytes = taken.count(self.repository_of(hash).files());
            usage.total = usage.total.saturating_add(bytes);
        }
        Ok(usage)
    }

    /// Returns the part of [`Usage::total`] that snapshots of volumes take.
    pub(super) fn bytes_in_use(&self) -> Result<u64, StoreError> {
        let mut taken = Taken::default();
        let totals = self.referenced()?.into_iter().map(|id| taken_by(&self.snapshot_path(&id), &mut taken).1);
        Ok(totals.fold(0, u64::saturating_add))
    }
}

/// Returns the bytes of a snapshot's content, and those that it takes, without files that were counted before.
fn taken_by(snapshot: &Path, taken: &mut Taken) -> (u64, u64) {
    let Some(meta) = read_meta(snapshot).ok().flatten() else { return (0, 0) };
    match image_files(snapshot, &meta) {
        Some(files) => [taken.count(files); 2].into(),
        None => (meta.summary.bytes, taken_by_tree(&meta.summary)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::store;

    #[test]
    fn usage_adds_up_the_sizes_in_the_metadata() {
        let (_place, store) = store();
        assert_eq!(store.usage().unwrap(), Usage::default());
        drop([1, 2].map(|number| install(&store, commit(number), "")));
        assert_eq!(store.usage().unwrap().snapshots, 2);
        let lease = install(&store, commit(3), "");
        let path = lease.path().join("meta.json");
        let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        meta["summary"]["bytes"] = 7.into();
        std::fs::write(&path, meta.to_string()).unwrap();
        let usage = store.usage().unwrap();
        assert_eq!((usage.snapshots, usage.bytes, usage.total), (3, 7, 7 + 3 * ENTRY));
        std::fs::write(&path, "").unwrap();
        let usage = store.usage().unwrap();
        assert_eq!((usage.snapshots, usage.bytes, usage.total), (3, 0, 2 * ENTRY));
        let packs = store.repository(&crate::store::fixture::url()).directories()[0].clone();
        std::fs::create_dir_all(&packs).unwrap();
        std::fs::write(packs.join("pack"), [0; 100]).unwrap();
        let usage = store.usage().unwrap();
        assert_eq!((usage.repositories, usage.bytes, usage.total), (1, 0, 2 * ENTRY + 100));
    }
}

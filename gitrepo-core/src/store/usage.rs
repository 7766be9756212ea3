//! The size of a store's snapshots.

use super::Store;
use super::error::StoreError;
use super::names::Taken;
use super::names::image_files;
use super::snapshot::read_meta;
use super::target::hashes_in;

/// The total size of the snapshots in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of snapshots.
    pub snapshots: u64,
    /// Bytes of the content of their files, as counted when they were written; of images, bytes of the images and their
    /// segments, each of which counts once.
    pub bytes: u64,
}

impl Store {
    /// Adds up the sizes of the snapshots, without walking the trees. A damaged one counts as 0 bytes.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let directory = self.layout.snapshots();
        let mut usage = Usage::default();
        let mut taken = Taken::default();
        for name in hashes_in(&directory)? {
            let snapshot = directory.join(name);
            usage.snapshots += 1;
            if let Some(meta) = read_meta(&snapshot).ok().flatten() {
                let bytes = image_files(&snapshot, &meta).map_or(meta.summary.bytes, |files| taken.count(files));
                usage.bytes = usage.bytes.saturating_add(bytes);
            }
        }
        Ok(usage)
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
        assert_eq!(store.usage().unwrap(), Usage { snapshots: 3, bytes: 7 });
        std::fs::write(&path, "").unwrap();
        assert_eq!(store.usage().unwrap(), Usage { snapshots: 3, bytes: 0 });
    }
}

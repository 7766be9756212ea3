//! Measures the size of the store, and caches it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::chain;
use gitrepo_core::store::Store;
use nix::sys::statvfs::statvfs;

/// The size of a store and of its filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSize {
    /// How many snapshots there are.
    pub snapshots: u64,
    /// The size of their content.
    pub snapshot_bytes: u64,
    /// How many repositories there are.
    pub repositories: u64,
    /// What snapshots and repositories take together: what `cache.maxBytes` bounds.
    pub store_bytes: u64,
    /// How many trees and files are still to be deleted.
    pub trash: u64,
    /// The size of the store's filesystem.
    pub filesystem_bytes: u64,
    /// The free space of that filesystem.
    pub free_bytes: u64,
}

/// The cached size: measuring reads a small file of each snapshot.
#[derive(Debug, Default)]
pub struct LastLook(Mutex<Option<(Instant, StoreSize)>>);

const FRESH: Duration = Duration::from_secs(15);

impl LastLook {
    /// Returns the size of `store`, or `None` if it cannot be read.
    pub fn at(&self, store: &Store) -> Option<StoreSize> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, size)) = &*last
            && when.elapsed() < FRESH
        {
            return Some(*size);
        }
        let size = measure(store)?;
        *last = Some((Instant::now(), size));
        Some(size)
    }
}

fn measure(store: &Store) -> Option<StoreSize> {
    let usage =
        store.usage().inspect_err(|error| tracing::warn!(error = %chain(error), "cannot measure the store")).ok()?;
    let filesystem = statvfs(store.root())
        .inspect_err(|error| tracing::warn!(%error, "cannot measure the filesystem of the store"))
        .ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(filesystem.fragment_size());
    Some(StoreSize {
        snapshots: usage.snapshots,
        snapshot_bytes: usage.bytes,
        repositories: usage.repositories,
        store_bytes: usage.total,
        trash: store.trash_entries().map_or(0, |entries| u64::try_from(entries).unwrap_or(u64::MAX)),
        filesystem_bytes: bytes(filesystem.blocks()),
        free_bytes: bytes(filesystem.blocks_available()),
    })
}

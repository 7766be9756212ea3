//! The node's volumes, in a store that may be unavailable.
//!
//! The driver starts in any state of the store: the kubelet needs answers, and an unpublish may be possible without the
//! store. Every use tries again to open the store, so after a repair the driver needs no restart.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::store::Reason;
use gitrepo_core::store::Store;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::Overgrown;
use gitrepo_core::volume::Volumes;
use tokio::sync::Notify;

use crate::deadline;
use crate::failure::CallFailure;

type Open = dyn Fn() -> Result<Volumes, StoreError> + Send + Sync;

/// The volumes of a node.
pub struct Storage {
    open: Box<Open>,
    opened: Mutex<Option<Arc<Volumes>>>,
    /// The number of changed snapshots that were found before the store was reopened.
    changed_before: AtomicU64,
    /// The number of evictions by reason before the store was reopened.
    evicted_before: [AtomicU64; Reason::ALL.len()],
    /// The writable volumes that are too large, as of the last measurement.
    overgrown: Mutex<Vec<Overgrown>>,
    /// How many targets showed a damaged snapshot when they were looked at last.
    damaged: AtomicUsize,
    /// Wakes the housekeeping.
    untidy: Notify,
}

impl Storage {
    /// Creates the storage. Calls `open` only at the first use.
    pub fn new(open: impl Fn() -> Result<Volumes, StoreError> + Send + Sync + 'static) -> Self {
        Self {
            open: Box::new(open),
            opened: Mutex::default(),
            changed_before: AtomicU64::default(),
            evicted_before: Default::default(),
            overgrown: Mutex::default(),
            damaged: AtomicUsize::default(),
            untidy: Notify::new(),
        }
    }

    /// Makes a short call on the volumes, and waits for it until `deadline`.
    pub async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Instant,
        call: impl FnOnce(&Volumes) -> Result<T, CallFailure> + Send + 'static,
    ) -> Result<T, CallFailure> {
        let storage = Arc::clone(self);
        deadline::keep(deadline, deadline::STORE, move || call(&*storage.volumes()?)).await
    }

    /// Returns the volumes. Opens the store if necessary.
    ///
    /// # Errors
    ///
    /// `Unavailable`, for any fault of the store.
    pub fn volumes(&self) -> Result<Arc<Volumes>, CallFailure> {
        // Do not hold the lock during file system calls, which may hang.
        let known = self.opened().clone();
        if let Some(volumes) = &known {
            match volumes.store().check() {
                Ok(()) => return Ok(Arc::clone(volumes)),
                // Reopen a store that came back as another device. Do not create a store in place of a missing one.
                Err(StoreError::Missing { .. }) => Store::is_at(volumes.store().root()).map_err(unavailable)?,
                Err(error) => return Err(unavailable(error)),
            }
        }
        let new = Arc::new((self.open)().map_err(unavailable)?);
        let mut opened = self.opened();
        if let Some(volumes) = &*opened {
            if known.is_none_or(|known| !Arc::ptr_eq(&known, volumes)) {
                return Ok(Arc::clone(volumes));
            }
            self.changed_before.fetch_add(volumes.store().changed_snapshots(), Ordering::Relaxed);
            for (before, (_, count)) in self.evicted_before.iter().zip(volumes.store().evicted()) {
                before.fetch_add(count, Ordering::Relaxed);
            }
        }
        Ok(Arc::clone(opened.insert(new)))
    }

    /// Returns the number of changed snapshots that this driver has found since its start.
    pub fn changed_snapshots(&self) -> u64 {
        let now = self.opened().as_ref().map_or(0, |volumes| volumes.store().changed_snapshots());
        self.changed_before.load(Ordering::Relaxed) + now
    }

    /// Returns how many snapshots and repositories this driver has evicted since its start, by reason.
    pub fn evicted(&self) -> [(Reason, u64); Reason::ALL.len()] {
        let now = self.opened().as_ref().map(|volumes| volumes.store().evicted());
        let mut counts = now.unwrap_or_else(|| Reason::ALL.map(|reason| (reason, 0)));
        for ((_, count), before) in counts.iter_mut().zip(&self.evicted_before) {
            *count += before.load(Ordering::Relaxed);
        }
        counts
    }

    /// Replaces the list of writable volumes that are too large.
    pub fn set_overgrown(&self, overgrown: Vec<Overgrown>) {
        *self.overgrown.lock().unwrap_or_else(PoisonError::into_inner) = overgrown;
    }

    /// Returns the writable volumes that were too large when they were measured last.
    pub fn overgrown(&self) -> Vec<Overgrown> {
        self.overgrown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how many targets show a snapshot that was changed or damaged.
    pub fn set_damaged(&self, targets: usize) {
        self.damaged.store(targets, Ordering::Relaxed);
    }

    /// Returns how many targets showed a damaged snapshot when they were looked at last.
    pub fn damaged(&self) -> usize {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Notes that a fetch may have exceeded the store's budget, or that an unpublish may have left something in the
    /// trash.
    pub fn note_untidy(&self) {
        self.untidy.notify_one();
    }

    /// Waits until something is to be tidied.
    pub async fn until_untidy(&self) {
        self.untidy.notified().await;
    }

    fn opened(&self) -> MutexGuard<'_, Option<Arc<Volumes>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the store works: writes a file, and lists its directories. Those that are missing are made anew. Cheap
    /// enough for a probe every few seconds. Hangs if the filesystem hangs.
    ///
    /// # Errors
    ///
    /// The fault, described for the admin.
    pub fn check(&self) -> Result<(), CallFailure> {
        let volumes = self.volumes()?;
        volumes.store().probe().map_err(unavailable)?;
        let root = volumes.store().root();
        for path in ["snapshots", "volumes", "locks"].map(|directory| root.join(directory)) {
            std::fs::read_dir(&path).map_err(|error| {
                CallFailure::new(Kind::Unavailable, format!("cannot list {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// A fault of the store must not get a final code, or the kubelet would forget volumes that are published.
fn unavailable(error: StoreError) -> CallFailure {
    CallFailure::new(Kind::Unavailable, format!("the store cannot be used: {}", chain(&error)))
}

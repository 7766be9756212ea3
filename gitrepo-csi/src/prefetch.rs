//! Brings the trees of the configuration's `prefetch` into the store, and keeps them there.
//!
//! A kept tree is leased, so no process evicts it. The leases end with the driver: the next one takes them again, and
//! fetches what was removed meanwhile.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::lease::Lease;
use gitrepo_core::lease::Provenance;
use gitrepo_core::policy::NodeCredential;
use gitrepo_core::policy::PrefetchEntry;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use gitrepo_frontend::node_credentials;

use crate::ORIGIN;
use crate::deadline;
use crate::failure::CallFailure;
use crate::metrics::Metrics;
use crate::storage::Storage;

/// How often the remote is asked where the revisions stand.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long after a first failure to try again. Each further failure doubles it, up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// The prefetch list of a driver.
pub struct Prefetching {
    storage: Arc<Storage>,
    metrics: Arc<Metrics>,
    node_credentials: Arc<[NodeCredential]>,
    entries: Vec<Arc<PrefetchEntry>>,
    /// The lease of each entry.
    kept: Arc<Mutex<Vec<Option<Lease>>>>,
    cancel: Cancel,
}

impl Prefetching {
    /// Creates the list. Fetches nothing yet.
    pub fn new(
        storage: Arc<Storage>,
        metrics: Arc<Metrics>,
        entries: &[PrefetchEntry],
        node_credentials: &[NodeCredential],
    ) -> Self {
        Self {
            storage,
            metrics,
            node_credentials: node_credentials.into(),
            entries: entries.iter().cloned().map(Arc::new).collect(),
            kept: Arc::new(Mutex::new(entries.iter().map(|_| None).collect())),
            cancel: Cancel::new(),
        }
    }

    /// Fetches at the start and then every few minutes, for ever; a failed round is repeated earlier.
    pub async fn run(self) {
        if self.entries.is_empty() {
            return;
        }
        let mut retry = FIRST_RETRY;
        loop {
            let (wait, next) = match self.round().await {
                true => (INTERVAL, FIRST_RETRY),
                false => (retry, (retry * 2).min(INTERVAL)),
            };
            retry = next;
            tokio::time::sleep(wait).await;
        }
    }

    /// Brings each entry once, one after the other. Returns whether all are in the store as the remote has them now.
    pub async fn round(&self) -> bool {
        let mut all = true;
        for at in 0..self.entries.len() {
            let brought = self.bring(at).await;
            self.metrics.prefetch(brought.is_ok(), self.kept());
            if let Err(failure) = brought {
                all = false;
                tracing::warn!(entry = at, error = failure.message, "cannot prefetch; the driver tries again");
            }
        }
        all
    }

    /// Returns how many trees are kept, and how many there should be.
    fn kept(&self) -> (usize, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().flatten().count(), kept.len())
    }

    async fn bring(&self, at: usize) -> Result<(), CallFailure> {
        let (storage, entry) = (Arc::clone(&self.storage), Arc::clone(&self.entries[at]));
        let (credentials, kept) = (Arc::clone(&self.node_credentials), Arc::clone(&self.kept));
        let (metrics, watch) = (Arc::clone(&self.metrics), Watch::until(self.cancel.clone()));
        let work = move || {
            let mut request = VolumeRequest::new("csi:prefetch", "/", entry.spec()?);
            request.origin = ORIGIN;
            let credentials = node_credentials::for_node(&credentials, &request.spec.repository)?;
            let lease = storage.volumes()?.prefetch(&request, &credentials, &watch)?;
            let (repository, revision) = (&request.spec.repository, &request.spec.revision);
            match lease.provenance() {
                Provenance::Remote { received_bytes } => {
                    metrics.fetched(received_bytes);
                    tracing::info!(%repository, %revision, commit = %lease.commit(), received_bytes, "prefetched");
                }
                Provenance::Store => {
                    tracing::debug!(%repository, %revision, commit = %lease.commit(), "the store has it already");
                }
            }
            // The earlier lease ends after the new one began.
            let earlier = kept.lock().unwrap_or_else(PoisonError::into_inner)[at].replace(lease);
            drop(earlier);
            Ok(())
        };
        deadline::on_a_thread(work).await
    }
}

impl Drop for Prefetching {
    /// The fetch in flight ends as well.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

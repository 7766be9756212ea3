//! The store on a node: repositories, snapshots, and the records of published volumes.
//!
//! ```text
//! <root>/                                            private, everything owned by one user
//!   VERSION                                          the version of this layout
//!   repositories/<sha256 of the canonical URL>/      a bare repository
//!   snapshots/<id>/                                  meta.json, the output of the snapshot format, and its seal
//!   volumes/<sha256 of the volume id>/
//!     targets/<sha256 of the target>/                record.json, and copy/ or a layer of a writable volume
//!     shared/                                        copy.json, and tree/ or a layer, which all its targets share
//!   staging/<boot>.<random>/                         unfinished work
//!   locks/  access/  refusals/  trash/  spare/
//! ```
//!
//! A node has one main store. It may have further stores on other filesystems, each in `.gitrepo/` of a configured
//! directory. They have no `access/`: proofs of access are kept in the main store.
//!
//! Several processes use a store at once, and each may be killed at any instruction. So everything appears by a rename
//! once it is complete and durable, disappears by a rename into the trash, and is protected by a lock that the kernel
//! releases when its holder dies (the module `lock` has their order). No state is kept in memory.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use std::time::Instant;

use crate::spec::RepositoryUrl;

mod access;
mod changed;
mod clock;
mod durable;
mod error;
mod evict;
#[cfg(test)]
pub(crate) mod fixture;
mod inventory;
mod last_use;
mod layer;
mod layout;
mod lock;
mod lower;
mod mounted;
mod names;
mod origin;
mod presence;
mod protect;
mod record;
mod refusal;
mod removal;
mod remove;
mod repository;
mod root;
mod scrub;
mod shared;
mod snapshot;
mod snapshot_id;
mod snapshot_meta;
mod spare;
mod staging;
mod sweep;
mod target;
mod trash;
mod unused;
mod usage;
mod verify;

pub use access::Access;
pub use access::CredentialId;
pub use access::Evidence;
pub(crate) use access::Judged;
pub use access::Resolution;
pub use access::ResolveLock;
pub(crate) use access::Verdict;
pub use clock::BootId;
pub(crate) use clock::Moment;
pub use error::StoreError;
pub use evict::Bounds;
pub use evict::Eviction;
pub use evict::Reason;
pub use evict::Shown;
pub use inventory::Condition;
pub use inventory::Inventory;
pub use inventory::KeptRepository;
pub use inventory::KeptSnapshot;
pub use inventory::Size;
pub(crate) use layer::Layer;
pub(crate) use lock::MarkWatch;
pub(crate) use lock::Mode;
pub(crate) use lock::Turn;
pub(crate) use lower::LowerSlot;
pub use mounted::is_from_a_store;
pub use origin::Origin;
pub(crate) use record::MountTable;
pub use record::Record;
pub use record::Shows;
pub(crate) use refusal::Excess;
pub(crate) use refusal::REFUSAL_HOLDS;
pub use remove::Removal;
pub(crate) use repository::FetchTurn;
pub(crate) use repository::Fragmented;
pub(crate) use repository::Heartbeat;
pub(crate) use repository::Repository;
pub(crate) use repository::RepositoryLock;
pub(crate) use shared::SharedCopy;
pub(crate) use shared::VolumeSlot;
pub use snapshot::SnapshotLease;
pub use snapshot_id::SnapshotId;
pub use snapshot_id::SnapshotKey;
pub(crate) use snapshot_meta::META_LIMIT;
pub use snapshot_meta::SnapshotMeta;
pub use snapshot_meta::SnapshotPart;
pub(crate) use staging::Staging;
pub use sweep::SweepReport;
pub(crate) use target::TargetSlot;
pub(crate) use trash::Deletion;
pub use trash::remove_tree;
pub use usage::Usage;
pub use verify::Damage;
pub use verify::Part;
pub use verify::Repair;
pub use verify::Verification;

use evict::EvictionCount;
use layout::Layout;
use removal::Pace;
use root::Missing;

/// A store on disk. Clones share it, and so do other processes.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Arc<Layout>,
    access: Arc<Access>,
    /// The number of changed snapshots found.
    changed: Arc<AtomicU64>,
    evicted: Arc<EvictionCount>,
}

impl Store {
    /// Opens the store at `root`. Creates it if the directory is missing or empty.
    ///
    /// # Errors
    /// [`StoreError::UnsuitableRoot`] if the directory is a symlink, belongs to another user, is writable by others, or
    /// holds something else; [`StoreError::Newer`] if a newer program created it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = Arc::new(Layout::open(root)?);
        let access = Arc::new(Access::new(Arc::clone(&layout)));
        Ok(Self { layout, access, changed: Arc::default(), evicted: Arc::default() })
    }

    /// Opens a further store of the same node in `directory`, and creates it if there is none. Proofs of access are
    /// kept in `main`, so a proof or a refusal counts in both stores.
    ///
    /// The store is in `.gitrepo/`, so it touches nothing else in the directory. A missing directory is created with
    /// access for root alone.
    ///
    /// # Errors
    /// [`StoreError::UnsuitableRoot`] if a component of the path is a symlink, belongs to another user, or is writable
    /// by others (except a sticky parent such as `/var/tmp`); otherwise as [`Store::open`].
    pub fn open_beside(directory: &Path, main: &Self) -> Result<Self, StoreError> {
        let gone = || StoreError::io("open", directory)(io::Error::from(io::ErrorKind::NotFound));
        let layout = Layout::open_further(directory, Missing::Make)?.ok_or_else(gone)?;
        Ok(Self {
            layout: Arc::new(layout),
            access: Arc::clone(&main.access),
            changed: Arc::default(),
            evicted: Arc::default(),
        })
    }

    /// Opens the further store in `directory`, if there is one. Creates nothing. For unpublishing when the main store
    /// is gone: without the main store there are no proofs of access, so nothing can be published.
    pub fn find_further(directory: &Path) -> Result<Option<Self>, StoreError> {
        let layout = Layout::open_further(directory, Missing::Leave)?.map(Arc::new);
        Ok(layout.map(|layout| Self {
            access: Arc::new(Access::new(Arc::clone(&layout))),
            layout,
            changed: Arc::default(),
            evicted: Arc::default(),
        }))
    }

    /// Returns the store's directory: absolute, without symlinks.
    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// Returns a path in the store that is reserved for the mounter.
    pub fn mounting(&self) -> PathBuf {
        self.root().join("mounting")
    }

    /// Creates a staging directory.
    pub(crate) fn staging(&self) -> Result<Staging, StoreError> {
        Staging::create(&self.layout)
    }

    /// Returns the repository of this URL, which may not exist yet.
    pub(crate) fn repository(&self, url: &RepositoryUrl) -> Repository {
        Repository::new(&self.layout, url)
    }

    /// Deletes what calls of this process have moved to the trash, for about as long as `budget`. For callers that hold
    /// no lock. Returns whether something is left for a sweep.
    pub fn delete_discarded(&self, budget: Duration) -> bool {
        self.layout.trash.delete_left(Instant::now().checked_add(budget))
    }

    /// Empties the trash, also of what others left there, for about as long as `budget`. Returns whether it is empty.
    ///
    /// # Errors
    ///
    /// If the trash cannot be read.
    pub fn empty_trash(&self, budget: Duration) -> Result<bool, StoreError> {
        let emptied = self.layout.trash.empty(Instant::now().checked_add(budget), Pace::within(budget))?;
        Ok(!emptied.out_of_time && emptied.failures.is_empty())
    }

    /// Returns how many trees and files are in the trash.
    ///
    /// # Errors
    ///
    /// If the trash cannot be read.
    pub fn trash_entries(&self) -> Result<usize, StoreError> {
        self.layout.trash.count()
    }

    /// Returns the proofs of access.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

//! What is kept on the node: repositories, snapshots, and who uses them.
//!
//! ```text
//! <root>/                                            private, everything owned by one user
//!   VERSION                                          of this layout
//!   repositories/<sha256 of the canonical URL>/      a bare repository
//!   snapshots/<id>/                                  meta.json, what the snapshot format wrote, and its seal
//!   volumes/<sha256 of the volume id>/
//!     targets/<sha256 of the target>/                record.json, and copy/ of a writable volume
//!     shared/                                        copy.json and tree/, the copy that all its targets share
//!   staging/<boot>.<random>/                         in flight
//!   locks/  access/  trash/
//! ```
//!
//! A node has one such store, and may have further ones on other filesystems, each in `.gitrepo/` of a configured
//! directory. Those have no `access/`: proofs are the node's.
//!
//! Several processes use one store at once, and each may be killed at any instruction. So a thing appears by a rename
//! when it is complete and on disk, disappears by a rename into the trash, and is held by a lock that the kernel drops with
//! its holder (`lock` has the order). Nothing that matters is in memory.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::spec::RepositoryUrl;

mod access;
mod changed;
mod clock;
mod digest;
mod durable;
mod error;
mod evict;
#[cfg(test)]
pub(crate) mod fixture;
mod last_use;
mod layout;
mod lock;
mod mounted;
mod origin;
mod presence;
mod record;
mod repository;
mod root;
mod shared;
mod snapshot;
mod staging;
mod sweep;
mod target;
mod trash;
mod usage;

pub use access::Access;
pub use access::CredentialId;
pub use access::Resolution;
pub use access::ResolveLock;
pub use clock::BootId;
pub use error::StoreError;
pub use evict::Eviction;
pub use evict::Shown;
pub(crate) use lock::Turn;
pub use mounted::is_from_a_store;
pub use origin::Origin;
pub(crate) use record::MountTable;
pub use record::Record;
pub use record::Shows;
pub(crate) use repository::Repository;
pub(crate) use repository::RepositoryLock;
pub(crate) use shared::SharedCopy;
pub(crate) use shared::VolumeSlot;
pub use snapshot::SnapshotId;
pub use snapshot::SnapshotKey;
pub use snapshot::SnapshotLease;
pub use snapshot::SnapshotMeta;
pub(crate) use staging::Staging;
pub use sweep::SweepReport;
pub(crate) use target::TargetSlot;
pub(crate) use trash::Deletion;
pub use usage::Usage;

use layout::Layout;
use root::Missing;

/// A store on disk. Clones share it, and so do other processes.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Arc<Layout>,
    access: Arc<Access>,
    /// Changed snapshots that were found.
    changed: Arc<AtomicU64>,
}

impl Store {
    /// Opens the store at `root`, and makes it if there is nothing.
    ///
    /// # Errors
    /// [`StoreError::UnsuitableRoot`] when the directory is a link, belongs to another user, can be written to by
    /// others, or holds something else; [`StoreError::Newer`] when a newer program made it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let layout = Arc::new(Layout::open(root)?);
        let access = Arc::new(Access::new(Arc::clone(&layout)));
        Ok(Self { layout, access, changed: Arc::default() })
    }

    /// Opens a further store of the same node in `directory`, and makes it if there is nothing. Which credential may read
    /// which repository is `main`'s to know: a proof or a refusal in one store counts in the other.
    ///
    /// It is in `.gitrepo/` there, so that nothing else in the directory matters or is touched. The directory is made, for
    /// root alone, where it is missing.
    ///
    /// # Errors
    /// [`StoreError::UnsuitableRoot`] when a component of the path is a symbolic link, is another user's, or can be written
    /// to by others (a sticky parent, such as `/var/tmp`, excepted); otherwise as [`Store::open`].
    pub fn open_beside(directory: &Path, main: &Self) -> Result<Self, StoreError> {
        let gone = || StoreError::io("open", directory)(io::Error::from(io::ErrorKind::NotFound));
        let layout = Layout::open_further(directory, Missing::Make)?.ok_or_else(gone)?;
        Ok(Self { layout: Arc::new(layout), access: Arc::clone(&main.access), changed: Arc::default() })
    }

    /// The further store in `directory`, if there is one: nothing is made. It is for who takes volumes away, whatever has
    /// become of the main store. Without that one it knows no credential, so nothing can be published from it.
    pub fn find_further(directory: &Path) -> Result<Option<Self>, StoreError> {
        let layout = Layout::open_further(directory, Missing::Leave)?.map(Arc::new);
        Ok(layout.map(|layout| Self {
            access: Arc::new(Access::new(Arc::clone(&layout))),
            layout,
            changed: Arc::default(),
        }))
    }

    /// Where it is: absolute, without links.
    pub fn root(&self) -> &Path {
        &self.layout.root
    }

    /// A name in the store for a mounter's own use.
    pub fn mounting(&self) -> PathBuf {
        self.root().join("mounting")
    }

    /// A private place for work in flight.
    pub(crate) fn staging(&self) -> Result<Staging, StoreError> {
        Staging::create(&self.layout)
    }

    /// What is kept of a repository; nothing need be there yet.
    pub(crate) fn repository(&self, url: &RepositoryUrl) -> Repository {
        Repository::new(&self.layout, url)
    }

    /// Which credential may read which repository.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

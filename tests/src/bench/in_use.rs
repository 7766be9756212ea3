//! What of a filesystem is in use.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// What of a filesystem is in use.
#[derive(Debug, Clone, Copy)]
pub struct InUse {
    /// Bytes.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

impl InUse {
    /// Looks at the filesystem of `place`.
    pub fn of(place: &Path) -> Self {
        let status = statvfs(place).unwrap();
        Self {
            bytes: (status.blocks() - status.blocks_free()) * status.fragment_size(),
            inodes: status.files() - status.files_free(),
        }
    }
}

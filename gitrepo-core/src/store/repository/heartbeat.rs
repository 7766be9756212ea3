//! The sign of life of a fetch, for calls in any process that wait for its repository: the modification time of the
//! lock file. Only a change of it means anything.

use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Repository;

/// The sign of life of whoever fetches into one repository.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    path: PathBuf,
}

impl Repository {
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        Heartbeat { path: self.layout.locks.path(&self.lock_name()) }
    }
}

impl Heartbeat {
    /// Tells that the fetch advances. Without it, others soon fetch for themselves, which does no harm.
    pub(crate) fn beat(&self) {
        let beaten = File::options().write(true).open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = beaten {
            tracing::debug!(path = %self.path.display(), %error, "cannot tell that a fetch advances");
        }
    }

    /// Returns what the next beat changes.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        self.path.metadata().and_then(|metadata| metadata.modified()).ok()
    }
}

//! A private place for work in flight.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::clock::BootId;
use super::durable;
use super::error::StoreError;
use super::layout::Layout;
use super::lock;
use super::lock::Lock;
use super::trash;

/// An empty directory on the store's filesystem, `staging/<boot>.<random>/`: what is finished is renamed out of it, and
/// the rest is deleted when this is dropped. Should the process die first, the lock on the directory goes with it, which
/// tells a sweep of any process to delete it.
#[derive(Debug)]
pub struct Staging {
    layout: Arc<Layout>,
    path: PathBuf,
    _lock: Lock,
}

impl Staging {
    pub(super) fn create(layout: &Arc<Layout>) -> Result<Self, StoreError> {
        let boot = BootId::current()?;
        loop {
            let path = layout.staging().join(format!("{}.{}", boot.prefix(), durable::random_name()?));
            DirBuilder::new().mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
            // `None` when a sweep came between, and takes the directory away.
            if let Some(lock) = lock::try_lock_existing(&path)? {
                return Ok(Self { layout: Arc::clone(layout), path, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        match self.layout.trash.take(&self.path) {
            Ok(Some(taken)) => trash::delete_or_leave(&taken),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = %crate::error::chain(&error), "staging is left for a later sweep");
            }
        }
    }
}

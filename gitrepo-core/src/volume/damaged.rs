//! Which volumes show a snapshot that was changed or damaged after it was made.

use super::Volumes;
use crate::error::chain;
use crate::store::Record;
use crate::store::Shows;
use crate::store::StoreError;

impl Volumes {
    /// Returns what is wrong with the snapshot that a volume shows; `None` if nothing is known. A volume with its own copy
    /// does not show a snapshot; one with a layer shows what it has not changed of it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn damage(&self, record: &Record) -> Result<Option<String>, StoreError> {
        match record.shows {
            Shows::Copy | Shows::SharedCopy => Ok(None),
            _ => self.store.damage_of(&record.snapshot),
        }
    }

    /// Returns the records of all volumes that show a damaged snapshot, and what is wrong with it. A snapshot that cannot be
    /// examined is logged and left out: a failing disk must not hide the others.
    ///
    /// # Errors
    ///
    /// If the records cannot be read.
    pub fn damaged(&self) -> Result<Vec<(Record, String)>, StoreError> {
        let mut damaged = Vec::new();
        for record in self.store.records()? {
            match self.damage(&record) {
                Ok(Some(reason)) => damaged.push((record, reason)),
                Ok(None) => {}
                Err(error) => {
                    let (target, error) = (record.target.display(), chain(&error));
                    tracing::warn!(%target, error, "cannot tell whether a volume shows a damaged snapshot");
                }
            }
        }
        Ok(damaged)
    }
}

//! Which volumes show a snapshot that was changed or damaged after it was made.

use super::Volumes;
use crate::store::Record;
use crate::store::Shows;
use crate::store::StoreError;

impl Volumes {
    /// Returns what is wrong with the snapshot that a volume shows; `None` if nothing is known. A volume with its own copy
    /// does not show a snapshot.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn damage(&self, record: &Record) -> Result<Option<String>, StoreError> {
        match record.shows {
            Shows::Snapshot => self.store.damage_of(&record.snapshot),
            _ => Ok(None),
        }
    }

    /// Returns the records of all volumes that show a damaged snapshot, and what is wrong with it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn damaged(&self) -> Result<Vec<(Record, String)>, StoreError> {
        let mut damaged = Vec::new();
        for record in self.store.records()? {
            if let Some(reason) = self.damage(&record)? {
                damaged.push((record, reason));
            }
        }
        Ok(damaged)
    }
}

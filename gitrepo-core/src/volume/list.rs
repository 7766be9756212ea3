//! What is published.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Volumes;
use crate::store::Record;
use crate::store::StoreError;

/// One published target.
#[derive(Debug, Clone)]
pub struct PublishedVolume {
    /// Its record.
    pub record: Record,
    /// Since it was first published, by the wall clock.
    pub age: Duration,
    /// Whether it is mounted.
    pub state: State,
}

/// How a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Mounted, and seen from this mount namespace.
    Mounted,
    /// Not mounted in this mount namespace; perhaps in another one, perhaps lost by a reboot.
    NotMounted,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mounted => "mounted",
            Self::NotMounted => "not mounted",
        })
    }
}

impl Volumes {
    /// The published targets of this store, whoever published them, by target.
    pub fn list(&self) -> Result<Vec<PublishedVolume>, StoreError> {
        let mut volumes: Vec<_> = self.store.records()?.into_iter().map(|record| self.look_at(record)).collect();
        volumes.sort_by(|a, b| a.record.target.cmp(&b.record.target));
        Ok(volumes)
    }
}

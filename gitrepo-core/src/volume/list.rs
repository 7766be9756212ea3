//! The list of published volumes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Format;
use super::Volumes;
use crate::store::Record;
use crate::store::StoreError;

/// One published target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PublishedVolume {
    /// The target's record.
    pub record: Record,
    /// Time since the first publish, by the wall clock.
    pub age: Duration,
    /// Whether it is mounted.
    pub state: State,
    /// How it shows its tree.
    pub format: Format,
}

/// Whether a target is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Mounted, and seen from this mount namespace.
    Mounted,
    /// Not mounted in this mount namespace. It may be mounted in another one, or a reboot removed the mount.
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
    /// Lists the published targets of this store, of all origins, sorted by target.
    pub fn list(&self) -> Result<Vec<PublishedVolume>, StoreError> {
        let mut volumes: Vec<_> = self.store.records()?.into_iter().map(|record| self.with_state(record)).collect();
        volumes.sort_by(|a, b| a.record.target.cmp(&b.record.target));
        Ok(volumes)
    }
}

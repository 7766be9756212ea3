//! What a long operation tells while it runs.

use serde::Deserialize;
use serde::Serialize;

/// One observation of a running operation. Numbers are totals so far, never differences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "step")]
pub enum Step {
    /// The remote is being asked where the revision stands.
    Resolving,
    /// As many sessions with remotes are at work as there may be; we wait for a place.
    Queued,
    /// Another process fetches the same repository; we wait for it.
    Waiting,
    /// A pack arrives.
    #[serde(rename_all = "camelCase")]
    Fetching {
        /// Bytes of the pack received.
        bytes: u64,
        /// Objects received.
        objects: u64,
        /// Objects in the pack; 0 while unknown.
        total_objects: u64,
    },
    /// The tree is being written.
    #[serde(rename_all = "camelCase")]
    Writing {
        /// Files and links written.
        entries: u64,
        /// Entries of the tree.
        total_entries: u64,
        /// Bytes of content written.
        bytes: u64,
    },
    /// Everything is written and made durable.
    Syncing,
}

/// Receives what a long operation tells. Called often and from any thread: be quick.
pub trait Progress: Send + Sync {
    /// The operation has come this far.
    fn report(&self, step: &Step);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _step: &Step) {}
}

//! Progress reports of a long operation.

use serde::Deserialize;
use serde::Serialize;

/// One observation of a running operation. Numbers are totals, never differences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "step")]
pub enum Step {
    /// The remote is being asked for the revision's commit.
    Resolving,
    /// All session slots for remotes are taken; waiting for one.
    Queued,
    /// Another process is fetching the same repository; waiting for it.
    Waiting,
    /// A pack is being received.
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
    /// Everything is written and is being made durable.
    Syncing,
    /// The content of the store is being read and checked.
    #[serde(rename_all = "camelCase")]
    Verifying {
        /// Bytes read.
        bytes: u64,
    },
}

/// Receives progress reports. Called often and from any thread: be quick.
pub trait Progress: Send + Sync {
    /// Reports that the operation has reached this step.
    fn report(&self, step: &Step);
}

/// Ignores all reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&self, _step: &Step) {}
}

//! How much one volume may cost.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::spec::duration;
use crate::spec::quantity;

/// Bounds of one fetch and one tree. A hostile repository or server can use them up, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes received from the remote.
    #[serde(with = "quantity")]
    pub fetch_bytes: u64,
    /// Bytes of content of the tree, every file counted as often as it appears.
    #[serde(with = "quantity")]
    pub tree_bytes: u64,
    /// Files, links and directories of the tree, counted as often as they appear.
    pub entries: u64,
    /// Directories inside each other.
    pub path_depth: u32,
    /// Bytes of a path inside the tree. Linux takes 4095.
    pub path_length: u32,
    /// For everything that one publish does with the remote.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// For which a server that owes an answer may be silent.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// Bytes that a pod may add to a writable volume.
    #[serde(with = "quantity")]
    pub writable_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch_bytes: 10 << 30,
            tree_bytes: 20 << 30,
            entries: 2_000_000,
            path_depth: 256,
            path_length: 4095,
            timeout: Duration::from_secs(30 * 60),
            stall: Duration::from_secs(60),
            writable_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// A limit that lets nothing through, if there is one: surely a slip, and hard to find from its effects.
    pub(super) fn field_without_room(&self) -> Option<&'static str> {
        let fields = [
            ("limits.fetchBytes", self.fetch_bytes == 0),
            ("limits.treeBytes", self.tree_bytes == 0),
            ("limits.entries", self.entries == 0),
            ("limits.pathDepth", self.path_depth == 0),
            ("limits.pathLength", self.path_length == 0),
            ("limits.timeout", self.timeout.is_zero()),
            ("limits.stall", self.stall.is_zero()),
        ];
        fields.into_iter().find(|(_, is_zero)| *is_zero).map(|(field, _)| field)
    }
}

//! The limits of one volume.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::spec::duration;
use crate::spec::quantity;

/// Bounds of one fetch and one tree. This is all that a hostile repository or server can use up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes received from the remote. Unpacked, they may be as many as the larger one of this and `tree_bytes`.
    #[serde(with = "quantity")]
    pub fetch_bytes: u64,
    /// Bytes of content of the tree; each file counts every time it appears.
    #[serde(with = "quantity")]
    pub tree_bytes: u64,
    /// Files, links and directories of the tree; each counts every time it appears.
    pub entries: u64,
    /// Depth of nested directories.
    pub path_depth: u32,
    /// Bytes of a path inside the tree. The maximum of Linux is 4095.
    pub path_length: u32,
    /// Time for everything that one publish does with the remote.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long a server may stay silent while it owes an answer.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// Bytes per second that a server must send, on average over `stall`, while somebody waits for it; 0 for any. Until
    /// it has begun to send, it has five times as long.
    #[serde(with = "quantity")]
    pub minimum_rate: u64,
    /// Bytes of a writable volume. A larger tree is not copied; what pods add is measured.
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
            minimum_rate: 1 << 10,
            writable_bytes: 1 << 30,
        }
    }
}

impl Limits {
    /// Whether any size may be larger than `others` allow.
    pub(crate) fn allow_more_than(&self, others: &Self) -> bool {
        let sizes = |limits: &Self| {
            let [depth, length] = [limits.path_depth, limits.path_length].map(u64::from);
            [limits.fetch_bytes, limits.tree_bytes, limits.entries, depth, length]
        };
        sizes(self).iter().zip(sizes(others)).any(|(ours, theirs)| *ours > theirs)
    }

    /// The name of a limit that is zero, if any: a mistake that is hard to diagnose from its effects.
    pub(super) fn field_without_room(&self) -> Option<&'static str> {
        let fields = [
            ("limits.fetchBytes", self.fetch_bytes == 0),
            ("limits.treeBytes", self.tree_bytes == 0),
            ("limits.entries", self.entries == 0),
            ("limits.pathDepth", self.path_depth == 0),
            ("limits.pathLength", self.path_length == 0),
            ("limits.writableBytes", self.writable_bytes == 0),
            ("limits.timeout", self.timeout.is_zero()),
            ("limits.stall", self.stall.is_zero()),
        ];
        fields.into_iter().find(|(_, is_zero)| *is_zero).map(|(field, _)| field)
    }
}

//! The options that decide what a tree holds.

use serde::Deserialize;
use serde::Serialize;

use crate::spec::RelativePath;
use crate::spec::Symlinks;

/// What is laid out of a commit, and where. Two equal values and one commit are one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeOptions {
    /// Where in the volume the tree appears; `.` for the volume's root.
    pub directory: RelativePath,
    /// Only this directory of the commit, as the tree's root; `.` for all.
    pub subdirectory: RelativePath,
    /// What to do with links that lead out of the volume.
    pub symlinks: Symlinks,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self { directory: RelativePath::root(), subdirectory: RelativePath::root(), symlinks: Symlinks::Keep }
    }
}

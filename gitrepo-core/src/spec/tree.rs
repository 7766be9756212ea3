//! The options that determine the content of a tree.

use serde::Deserialize;
use serde::Serialize;

use crate::spec::Checkout;
use crate::spec::RelativePath;
use crate::spec::Submodules;
use crate::spec::Symlinks;

/// Which part of a commit is written, and where. Equal options and the same commit give the same tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TreeOptions {
    /// Where in the volume the tree appears; `.` for the volume's root.
    pub directory: RelativePath,
    /// The directory of the commit that becomes the tree's root; `.` for all.
    pub subdirectory: RelativePath,
    /// What to do with links that lead out of the volume.
    pub symlinks: Symlinks,
    /// What appears in place of submodules. Metadata of versions that did not know them has none.
    #[serde(default)]
    pub submodules: Submodules,
    /// How blobs become files.
    #[serde(default)]
    pub checkout: Checkout,
    /// Whether to replace Git LFS pointers by their content.
    #[serde(default)]
    pub lfs: bool,
}

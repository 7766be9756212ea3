//! The blobs of a fetched repository, for git, which does not read segments.

#![expect(clippy::expect_used, reason = "a repository that cannot be read fails the test")]

use std::io::Read;
use std::path::Path;

use crate::content::Segments;

/// Writes the blobs of a repository and its base into a new bare repository.
///
/// # Panics
///
/// If a blob cannot be read, or is not what its id says.
pub fn export_blobs(repository: &Path, into: &Path) {
    let copy = git2::Repository::init_bare(into).expect("a new repository");
    let segments = Segments::open(repository).expect("the segments");
    for (id, extent) in segments.blobs().expect("an index") {
        let mut content = Vec::new();
        segments.read(extent).read_to_end(&mut content).expect("a blob");
        assert_eq!(copy.blob(&content).expect("a copy"), id);
    }
}

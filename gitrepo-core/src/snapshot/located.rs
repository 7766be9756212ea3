//! A listed tree with the place of each entry's content in the segments of its repository.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::SnapshotError;
use super::TreeRequest;
use super::TreeSummary;
use super::blob;
use super::listing::Entry;
use super::listing::Listing;
use super::object;
use super::submodules;
use super::symlink;
use super::widen;
use crate::content::Extent;
use crate::content::Segments;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::spec::CommitId;
use crate::spec::Submodules;
use crate::spec::Symlinks;

/// A tree whose content was found, within the limits.
pub(crate) struct Located<'a> {
    pub(crate) request: &'a TreeRequest,
    pub(crate) listing: &'a Listing,
    pub(crate) segments: Segments,
    /// Where the content of each entry is; `None` for a submodule.
    pub(crate) extents: Vec<Option<Extent>>,
    /// Where submodules come from, by their index in the listing. Empty if they are not wanted.
    pub(crate) submodules: HashMap<usize, String>,
}

impl<'a> Located<'a> {
    /// Finds the content of a tree in a bare repository and its alternates.
    pub(crate) fn find(
        repository: &Path,
        request: &'a TreeRequest,
        listing: &'a Listing,
    ) -> Result<Self, SnapshotError> {
        Self::find_any(repository, request, listing)?.within_limits(SnapshotError::too_large)
    }

    /// The same of a tree whose files were converted, or replaced by those of Git LFS. As they were committed they are
    /// within the limits.
    pub(crate) fn find_converted(
        repository: &Path,
        request: &'a TreeRequest,
        listing: &'a Listing,
    ) -> Result<Self, SnapshotError> {
        Self::find_any(repository, request, listing)?.within_limits(SnapshotError::addition_too_large)
    }

    /// Finds what may exceed the limits.
    fn find_any(repository: &Path, request: &'a TreeRequest, listing: &'a Listing) -> Result<Self, SnapshotError> {
        let segments = Segments::open(repository).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SnapshotError::Incomplete {
                commit: request.commit,
                source: Cause::new("the content of a segment is gone"),
            },
            _ => SnapshotError::io("open the segments of", repository.as_os_str().as_encoded_bytes(), error),
        })?;
        let extents = locate(repository, &segments, listing, request.commit)?;
        let submodules = match request.tree.submodules {
            Submodules::None => HashMap::new(),
            Submodules::Recursive => submodules::urls(listing, &segments, request.commit)?,
        };
        Ok(Self { request, listing, segments, extents, submodules })
    }

    fn within_limits(self, error: fn(CommitId, &str, u64, &str) -> SnapshotError) -> Result<Self, SnapshotError> {
        let limit = self.request.limits.tree_bytes;
        if self.bytes() > limit {
            return Err(error(self.request.commit, "bytes", limit, "limits.treeBytes"));
        }
        Ok(self)
    }

    /// The size of each entry, in the order of the listing.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.extents.iter().map(|extent| extent.map_or(0, |extent| extent.length))
    }

    fn bytes(&self) -> u64 {
        self.sizes().fold(0, u64::saturating_add)
    }

    pub(crate) fn summary(&self) -> TreeSummary {
        let count = |mode| self.listing.entries.iter().filter(|entry| entry.mode == mode).count();
        TreeSummary {
            files: widen(count(EntryMode::File) + count(EntryMode::Executable)),
            symlinks: widen(count(EntryMode::Symlink)),
            directories: widen(self.listing.directories.len() - 1),
            bytes: self.bytes(),
        }
    }

    pub(crate) fn check_target_length(&self, entry: &Entry, size: u64) -> Result<(), SnapshotError> {
        if size == 0 {
            return Err(self.unsafe_link(entry, "a link to nothing"));
        }
        if size > widen(symlink::LONGEST_TARGET) {
            return Err(self.unsafe_link(entry, "a link to a path of more than 4095 bytes"));
        }
        Ok(())
    }

    pub(crate) fn check_target(&self, entry: &Entry, target: &[u8]) -> Result<(), SnapshotError> {
        if target.contains(&0) {
            return Err(self.unsafe_link(entry, "a link to a path with a NUL in it"));
        }
        let depth = self.listing.directory_depth(entry.directory);
        if self.request.tree.symlinks == Symlinks::RejectEscaping && symlink::may_escape(target, depth) {
            return Err(SnapshotError::EscapingSymlink {
                commit: self.request.commit,
                path: String::from_utf8_lossy(&self.listing.path(entry)).into_owned(),
                link: String::from_utf8_lossy(target).into_owned(),
            });
        }
        Ok(())
    }

    fn unsafe_link(&self, entry: &Entry, reason: &str) -> SnapshotError {
        let path = String::from_utf8_lossy(&self.listing.path(entry)).into_owned();
        SnapshotError::UnsafeName { commit: self.request.commit, path, reason: reason.to_owned() }
    }
}

/// Finds the content of each entry.
fn locate(
    repository: &Path,
    segments: &Segments,
    listing: &Listing,
    commit: CommitId,
) -> Result<Vec<Option<Extent>>, SnapshotError> {
    let is_blob = |entry: &&Entry| entry.mode != EntryMode::Submodule;
    let ids: Vec<Oid> = listing.entries.iter().filter(is_blob).map(|entry| entry.id).collect();
    let mut found = blob::locate(segments, &ids, commit)?.into_iter();
    let locate = |entry: &Entry| match entry.mode {
        EntryMode::Submodule => Ok(None),
        _ => match found.next().flatten() {
            Some(extent) => Ok(Some(extent)),
            None => Err(not_a_blob(repository, entry.id, commit).unwrap_or_else(|| blob::missing(commit, entry.id))),
        },
    };
    listing.entries.iter().map(locate).collect()
}

/// The error for a file whose id is that of a commit, a tree or a tag, if it is.
fn not_a_blob(repository: &Path, id: Oid, commit: CommitId) -> Option<SnapshotError> {
    let repository = git2::Repository::open_bare(repository).ok()?;
    let odb = repository.odb().ok()?;
    let (_, kind) = odb.read_header(id).ok().filter(|(_, kind)| *kind != ObjectType::Blob)?;
    // Its hash tells a repository that is malformed from one that is damaged here.
    let source = match object::read(&odb, commit, id, kind) {
        Ok(_) => Cause::new(format_args!("object {id} is a {kind}, not a blob")),
        Err(error) => return Some(error),
    };
    Some(SnapshotError::Malformed { commit, source })
}

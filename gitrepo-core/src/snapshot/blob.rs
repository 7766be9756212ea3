//! Finds blobs in the segments of a repository, and reads those that decide something about a tree.
//!
//! Most blobs are only shown, and damage to one is found when the store is verified. What is converted, or read as a list of
//! rules, is checked before: what came of it would have an id of its own, and look whole for ever.

use std::io;
use std::io::Read;

use git2::ObjectType;
use git2::Oid;

use super::SnapshotError;
use super::object::Hash;
use crate::content::Extent;
use crate::content::IndexError;
use crate::content::Segments;
use crate::error::Cause;
use crate::spec::CommitId;

/// Finds these blobs of a commit; `None` for one that is nowhere.
pub(super) fn locate(segments: &Segments, ids: &[Oid], commit: CommitId) -> Result<Vec<Option<Extent>>, SnapshotError> {
    segments.locate(ids).map_err(|error| match error {
        IndexError::Io(error) => SnapshotError::io("read the index of", b"a segment", error),
        IndexError::Damaged(what) => incomplete(commit, format_args!("a segment is damaged: {what}")),
    })
}

/// Reads a blob whole, and verifies that it hashes to its id. The caller has bounded its length.
pub(super) fn read(segments: &Segments, id: Oid, extent: Extent, commit: CommitId) -> Result<Vec<u8>, SnapshotError> {
    let out_of_memory = SnapshotError::OutOfMemory { commit };
    let Ok(length) = usize::try_from(extent.length) else { return Err(out_of_memory) };
    let mut content = Vec::new();
    if content.try_reserve_exact(length).is_err() {
        return Err(out_of_memory);
    }
    segments.read(extent).read_to_end(&mut content).map_err(|error| unreadable(commit, id, error))?;
    let mut hash = Hash::new(ObjectType::Blob, extent.length);
    hash.update(&content);
    if hash.is(id) { Ok(content) } else { Err(damaged(commit, id)) }
}

/// What it means that a blob cannot be read.
pub(super) fn unreadable(commit: CommitId, id: Oid, error: io::Error) -> SnapshotError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => incomplete(commit, format_args!("object {id} is cut short")),
        _ => SnapshotError::io("read", b"a segment", error),
    }
}

/// A blob that does not hash to its id.
pub(super) fn damaged(commit: CommitId, id: Oid) -> SnapshotError {
    incomplete(commit, format_args!("object {id} is damaged"))
}

/// A blob that is nowhere.
pub(super) fn missing(commit: CommitId, id: Oid) -> SnapshotError {
    incomplete(commit, format_args!("object {id} is missing"))
}

fn incomplete(commit: CommitId, what: std::fmt::Arguments<'_>) -> SnapshotError {
    SnapshotError::Incomplete { commit, source: Cause::new(what) }
}

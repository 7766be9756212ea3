//! Reads one object and verifies that it is the requested one.

use git2::ObjectType;
use git2::Odb;
use git2::OdbObject;
use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::SnapshotError;
use super::widen;
use crate::error::Cause;
use crate::spec::CommitId;

/// Reads the object `id` of the commit, which must be of this kind and hash to its id.
///
/// libgit2 can check the hash too, with collision-detecting SHA-1, but that takes a third of the time of a whole
/// checkout. Collisions were already checked when the object was received. Only damage on our own disk remains to be
/// detected, for which plain SHA-1, in hardware if available, is enough.
pub(crate) fn read<'a>(
    odb: &'a Odb<'_>,
    commit: CommitId,
    id: Oid,
    kind: ObjectType,
) -> Result<OdbObject<'a>, SnapshotError> {
    let object = odb.read(id).map_err(|error| SnapshotError::unreadable(commit, &error))?;
    let mut hash = Hash::new(object.kind(), widen(object.len()));
    hash.update(object.data());
    if !hash.is(id) {
        return Err(SnapshotError::Incomplete { commit, source: Cause::new(format_args!("object {id} is damaged")) });
    }
    if object.kind() != kind {
        let source = Cause::new(format_args!("object {id} is a {}, not a {kind}", object.kind()));
        return Err(SnapshotError::Malformed { commit, source });
    }
    Ok(object)
}

/// The hash of an object whose content comes in pieces.
pub(crate) struct Hash(Sha1);

impl Hash {
    pub(crate) fn new(kind: ObjectType, size: u64) -> Self {
        Self(Sha1::new_with_prefix(format!("{kind} {size}\0")))
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the object's id.
    pub(crate) fn id(self) -> std::io::Result<Oid> {
        Oid::from_bytes(&self.0.finalize()).map_err(std::io::Error::other)
    }

    /// Whether this is the object's id.
    pub(crate) fn is(self, id: Oid) -> bool {
        self.0.finalize().as_slice() == id.as_bytes()
    }
}

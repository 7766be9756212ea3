//! The id of an object, computed with a look-out for attacks on SHA-1.

use git2::ObjectType;
use git2::Oid;
use sha1dc::Hasher;

use super::PackError;
use super::content::Content;

/// Hashes one object, piece by piece.
pub(super) struct ObjectHash(Hasher);

impl ObjectHash {
    /// `length` is the object's, in bytes.
    pub(super) fn new(kind: ObjectType, length: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(format!("{kind} {length}\0").as_bytes());
        Self(hasher)
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Returns the object's id, unless its content was made to share its id with another one (CVE-2005-4900).
    pub(super) fn finish(self) -> Result<Oid, PackError> {
        match self.0.finalize() {
            Ok(digest) => Ok(id(digest.as_ref())),
            Err(collision) => Err(PackError::Collision(id(collision.digest().as_ref()))),
        }
    }
}

/// Hashes an object.
pub(super) fn id_of(kind: ObjectType, content: &Content) -> Result<Oid, PackError> {
    let mut hash = ObjectHash::new(kind, content.len());
    let hashed = content.for_each_piece(|piece| {
        hash.update(piece);
        Ok(())
    });
    hashed.map_err(PackError::Disk)?;
    hash.finish()
}

/// libgit2 fails only for another length.
fn id(digest: &[u8]) -> Oid {
    Oid::from_bytes(digest).unwrap_or(Oid::ZERO_SHA1)
}

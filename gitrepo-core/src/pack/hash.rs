//! The id of an object, computed with a look-out for attacks on SHA-1.

use git2::ObjectType;
use git2::Oid;

use super::PackError;

/// Hashes the content of an object piece by piece.
pub(super) struct Hasher(sha1dc::Hasher);

impl Hasher {
    /// For an object of this type and size in bytes.
    pub(super) fn new(kind: ObjectType, size: u64) -> Self {
        let mut hasher = sha1dc::Hasher::new();
        hasher.update(format!("{kind} {size}\0").as_bytes());
        Self(hasher)
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The id, unless the content was made to share its id with another one (CVE-2005-4900).
    pub(super) fn finish(self) -> Result<Oid, PackError> {
        match self.0.finalize() {
            Ok(digest) => Ok(id(digest.as_ref())),
            Err(collision) => Err(PackError::Collision(id(collision.digest().as_ref()))),
        }
    }
}

/// libgit2 fails only for another length.
fn id(digest: &[u8]) -> Oid {
    Oid::from_bytes(digest).unwrap_or(Oid::ZERO_SHA1)
}

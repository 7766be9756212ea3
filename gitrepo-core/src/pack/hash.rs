//! The id of an object, computed with a look-out for attacks on SHA-1.

use git2::ObjectType;
use git2::Oid;
use sha1dc::Hasher;

use super::PackError;
use super::content::Content;

/// The id of an object, unless its content was made to share its id with another one (CVE-2005-4900).
pub(super) fn id_of(kind: ObjectType, content: &Content) -> Result<Oid, PackError> {
    let mut hasher = Hasher::new();
    hasher.update(format!("{kind} {}\0", content.len()).as_bytes());
    let hashed = content.for_each_piece(|piece| {
        hasher.update(piece);
        Ok(())
    });
    hashed.map_err(PackError::Disk)?;
    match hasher.finalize() {
        Ok(digest) => Ok(id(digest.as_ref())),
        Err(collision) => Err(PackError::Collision(id(collision.digest().as_ref()))),
    }
}

/// libgit2 fails only for another length.
fn id(digest: &[u8]) -> Oid {
    Oid::from_bytes(digest).unwrap_or(Oid::ZERO_SHA1)
}

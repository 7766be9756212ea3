//! The commit and the trees above the directory that a narrow fetch brings.
//!
//! They name what was not fetched. A repository of the store has everything that its objects name, so these never get
//! into one: they are held in memory until the tree of the directory is listed.

use std::collections::HashMap;
use std::io;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::hash::ObjectHash;
use super::stream;
use super::stream::Inlet;

/// Most bytes of the commit and the trees above a directory. A tree of 100,000 entries has some 4 MB.
pub(crate) const LONGEST_ABOVE: u64 = 32 << 20;

/// Most objects above a directory: a path has fewer components.
const MOST_ABOVE: usize = 4096;

/// Objects above a directory, by the ids that were found here.
#[derive(Debug, Default)]
pub(crate) struct Above {
    objects: HashMap<Oid, (ObjectType, Vec<u8>)>,
    bytes: u64,
}

impl Above {
    /// Whether none came.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The content of a commit or tree.
    pub(crate) fn get(&self, kind: ObjectType, id: Oid) -> Option<&[u8]> {
        self.objects.get(&id).filter(|(found, _)| *found == kind).map(|(_, content)| content.as_slice())
    }

    /// Takes in one object.
    pub(super) fn take_in(&mut self, inlet: &mut Inlet) -> Result<(), PackError> {
        let kind = stream::kind(inlet.command()?).filter(|kind| matches!(kind, ObjectType::Commit | ObjectType::Tree));
        let kind = kind.ok_or_else(|| nonsense("neither a commit nor a tree is above a directory"))?;
        let length = inlet.number()?;
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > LONGEST_ABOVE || self.objects.len() == MOST_ABOVE {
            return Err(PackError::TooLarge(LONGEST_ABOVE));
        }
        let mut hash = ObjectHash::new(kind, length);
        let mut content = Vec::new();
        inlet.content(length, |piece| {
            hash.update(piece);
            content.try_reserve(piece.len()).map_err(|_| PackError::OutOfMemory)?;
            content.extend_from_slice(piece);
            Ok(())
        })?;
        self.objects.insert(hash.finish()?, (kind, content));
        Ok(())
    }
}

fn nonsense(what: &'static str) -> PackError {
    PackError::HandOver(io::Error::new(io::ErrorKind::InvalidData, what))
}

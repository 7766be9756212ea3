//! Git LFS: what its pointers, its answers and its addresses mean. Nothing here speaks to anybody.
//!
//! A pointer is a small blob that names an object by its SHA-256 and its size. The batch API asks a server where
//! objects are. What a repository has of them is in its segments, like any blob; a file of it says under which id.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

mod address;
pub(crate) mod batch;
mod expiry;
mod id;
mod known;
mod pointer;

pub use address::Endpoint;
pub(crate) use address::Origin;
pub(crate) use address::without_secrets;
pub use batch::Action;
pub use id::ObjectId;
pub(crate) use known::FILE as KNOWN;
pub(crate) use known::Found;
pub(crate) use known::Known;
pub(crate) use known::LONGEST as LONGEST_KNOWN;
pub(crate) use known::is_line as is_known_line;
pub(crate) use pointer::LONGEST as LONGEST_POINTER;
pub(crate) use pointer::Pointer;

/// Most objects of one volume.
pub(crate) const MOST: usize = 50_000;

/// Most objects that are brought before the tree is looked at again.
pub(crate) const PAGE: usize = 1000;

/// Most times that objects are brought for one volume. Each leaves a segment, and more if much is brought.
pub(crate) const MOST_ROUNDS: usize = 200;

/// Most segments that the objects of one volume leave. Of 1 PiB, some 130 are left because of their size.
pub(crate) const MOST_SEGMENTS: usize = MOST_ROUNDS + 160;

/// Longest path that is kept for messages, in bytes.
const LONGEST_PATH: usize = 256;

/// An object that a tree needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Object {
    /// The hash of its content.
    pub id: ObjectId,
    /// In bytes.
    pub size: u64,
    /// The path of a file that has it, for messages: printable, and perhaps cut short.
    pub path: String,
}

impl Object {
    /// The object of a pointer at this path.
    pub(crate) fn new(pointer: &Pointer, path: &[u8]) -> Self {
        let mut printable = String::new();
        for character in String::from_utf8_lossy(path).chars() {
            if printable.len() >= LONGEST_PATH {
                printable.push('…');
                break;
            }
            printable.push(if character.is_control() { '?' } else { character });
        }
        Self { id: pointer.id, size: pointer.size, path: printable }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (sha256 {})", self.path, self.id)
    }
}

/// What a tree needs and its repository does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Missing {
    /// At most 1000 of the objects, each once.
    pub objects: Vec<Object>,
    /// Bytes of all that are missing.
    pub bytes: u64,
    /// The server that the commit's `.lfsconfig` names.
    pub server: Option<String>,
}

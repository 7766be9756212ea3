//! The content of a repository's blobs, in segments.
//!
//! A segment is a file with the blobs that one fetch brought, one after the other, each from a 512-byte boundary on, and
//! nothing else. The rest of each block is zeros. So a file of a volume can be a part of a segment. Its index says where
//! each blob is. Neither ever changes once it is complete.

mod identity;
mod index;
mod locate;
mod segment;

use crate::digest;

pub(crate) use identity::Identity;
pub(crate) use index::Hashed;
pub(crate) use index::IndexError;
pub(crate) use index::check;
pub(crate) use locate::Extent;
pub(crate) use locate::Segments;
pub(crate) use segment::DRAFT;
pub(crate) use segment::SegmentWriter;

/// The directory of the segments, in a repository.
pub(crate) const DIRECTORY: &str = "segments";

/// Ends of the names of a segment and its index: `segment-<hash of the index>.content` and `.index`.
pub(crate) const CONTENT: &str = "content";
pub(crate) const INDEX: &str = "index";

/// Beginning of the name of a segment, before a hash of 40 digits.
pub(crate) const PREFIX: &str = "segment-";

/// The name of a segment without its end, by the hash of its index.
fn stem_of(hash: &[u8]) -> String {
    format!("{PREFIX}{}", digest::hex(hash))
}

/// Most packs, and most small segments, that a repository has before it is worth compacting.
pub(crate) const MANY: usize = 32;

/// Where a blob may begin, in bytes.
pub(crate) const ALIGNMENT: u64 = 512;

#[cfg(test)]
mod tests;

//! Packs: read once, object by object, as they arrive (gitformat-pack(5)).
//!
//! Two processes work on a pack at the same time. The receiver [ingests](mod@ingest) it: it inflates the objects and resolves
//! the deltas. The verifier [keeps](mod@keep) the objects: it hashes them and writes them into a segment and the history.
//! Between them is a [stream].
//!
//! Memory is bounded whatever a pack contains: an object of a pack that is larger than [`WHOLE`] is never held whole.

use std::io;
use std::path::PathBuf;

use git2::Oid;

mod above;
mod cache;
mod content;
mod delta;
mod entry;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fake;
mod find;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod hash;
mod history;
mod index;
mod inflate;
mod ingest;
mod input;
mod keep;
mod objects;
mod stage;
mod stream;

pub(crate) use above::Above;
pub(crate) use above::LONGEST_ABOVE;
pub(crate) use content::Content;
pub(crate) use find::LONGEST_COMMIT;
pub(crate) use find::find;
pub(crate) use find::find_tree;
pub(crate) use hash::ObjectHash;
pub(crate) use hash::is_commit;
pub(crate) use hash::is_object;
pub(crate) use history::History;
pub(crate) use history::header;
pub(crate) use history::write_history;
pub(crate) use ingest::Outside;
pub(crate) use ingest::Seen;
pub(crate) use ingest::ingest;
pub(crate) use keep::Named;
pub(crate) use keep::keep;
pub(crate) use objects::keep_objects;
pub(crate) use stream::Inlet;
pub(crate) use stream::Outlet;
pub(crate) use stream::pipes;

/// Where the parts of a pack are kept, and how large they may become.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The directory of segments.
    pub(crate) segments: PathBuf,
    /// The directory of git's packs, for the history.
    pub(crate) packs: PathBuf,
    /// Most bytes that are written for one fetch.
    pub(crate) limit: u64,
}

/// Largest object that is held in memory, in bytes. A larger one goes through a file.
const WHOLE: u64 = 4 << 20;

/// Most objects of a pack: some 80 bytes are remembered of each while it is received, and some 150 while it is kept. The
/// full history of the Linux kernel has some 11 million.
pub(crate) const MOST_OBJECTS: u32 = 25_000_000;

/// Most packs of one fetch. It brings one, or a few if it looks for a commit in more and more history.
pub(crate) const MOST_PACKS: usize = 8;

/// Most commits at which the history of a repository is cut.
pub(crate) const MOST_BOUNDARIES: usize = 400_000;

/// Bytes read or written at once.
const CHUNK: usize = 64 * 1024;

/// Why a pack could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The stream that brings the pack failed.
    #[error("the stream failed")]
    Stream(#[source] io::Error),
    /// The process that receives objects and the one that keeps them do not understand each other, or one has ended.
    #[error("its objects cannot be handed over")]
    HandOver(#[source] io::Error),
    /// Our own disk failed.
    #[error("cannot write the pack")]
    Disk(#[source] io::Error),
    /// It is not a pack, or a damaged one.
    #[error("its pack is damaged: {0}")]
    Damaged(&'static str),
    /// One object is damaged.
    #[error("its pack is damaged: the object at byte {offset} {what}")]
    Object {
        /// Where the object begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A delta builds on an object that is neither in the pack nor here.
    #[error("its pack is incomplete: object {0} is missing")]
    MissingBase(Oid),
    /// The object was made to share its id with another one (<https://shattered.io>).
    #[error("object {0} is one half of an attack on SHA-1")]
    Collision(Oid),
    /// Its content is larger than is accepted.
    #[error("its content is larger than {0} bytes")]
    TooLarge(u64),
    /// It announces more objects than are accepted.
    #[error("it has {0} objects")]
    TooMany(u32),
    /// There is not enough memory to remember its objects.
    #[error("out of memory")]
    OutOfMemory,
    /// The observer ended it.
    #[error("it is no longer wanted")]
    Stopped,
}

/// Makes room for one more in a list of at most `most`. It grows by eighths: to double what takes hundreds of megabytes
/// would need them three times.
pub(crate) fn make_room<T>(list: &mut Vec<T>, most: usize) -> Result<(), PackError> {
    if list.len() < list.capacity() {
        return Ok(());
    }
    let more = (list.len() / 8).max(1024).min(most.saturating_sub(list.len()).max(1));
    list.try_reserve_exact(more).map_err(|_| PackError::OutOfMemory)
}

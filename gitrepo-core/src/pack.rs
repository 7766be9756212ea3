//! Packs: read once, object by object, as they arrive (gitformat-pack(5)).
//!
//! Memory is bounded whatever a pack contains: an object of a pack that is larger than [`WHOLE`] is never held whole.

use std::io;

use git2::Oid;

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
mod stage;

pub(crate) use content::Content;
pub(crate) use find::find;
pub(crate) use hash::ObjectHash;
pub(crate) use history::header;
pub(crate) use history::write_history;
pub(crate) use ingest::Outside;
pub(crate) use ingest::Places;
pub(crate) use ingest::Seen;
pub(crate) use ingest::ingest;

/// Largest object that is held in memory, in bytes. A larger one goes through a file.
const WHOLE: u64 = 4 << 20;

/// Most objects of a pack: some 80 bytes are remembered of each. The full history of the Linux kernel has some 11 million.
pub(crate) const MOST_OBJECTS: u32 = 25_000_000;

/// Bytes read or written at once.
const CHUNK: usize = 64 * 1024;

/// Why a pack could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The stream that brings the pack failed.
    #[error("the stream failed")]
    Stream(#[source] io::Error),
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
fn make_room<T>(list: &mut Vec<T>, most: usize) -> Result<(), PackError> {
    if list.len() < list.capacity() {
        return Ok(());
    }
    let more = (list.len() / 8).max(1024).min(most.saturating_sub(list.len()).max(1));
    list.try_reserve_exact(more).map_err(|_| PackError::OutOfMemory)
}

//! EROFS images: read by the letter of the format, and mounted by the kernel.

mod mount;
mod reader;
pub mod tools;

pub use mount::Mounted;
pub use mount::Way;
pub use reader::Contents;
pub use reader::read;

/// An entry of a filesystem, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions, as in `stat`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links.
    pub links: u64,
    /// Time of modification, in seconds since 1970. Nanoseconds are zero.
    pub mtime: i64,
    /// What it contains.
    pub content: Content,
}

/// What an [`Entry`] contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory. Its entries are entries of their own.
    Directory,
    /// The target of a link.
    Symlink(Vec<u8>),
    /// A file.
    File {
        /// Length in bytes.
        size: u64,
        /// The device that holds its bytes, and where they begin there; `None` if there are none, or if only the kernel
        /// knows.
        place: Option<(usize, u64)>,
    },
}

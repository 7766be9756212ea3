//! Why a tree cannot become an image.

use super::BlockSize;
use super::Node;
use crate::error::Kind;

/// A failure to build an image. Paths are escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// An entry cannot be in an image.
    #[error("cannot put {path:?} into an EROFS image")]
    Entry {
        /// Its path in the tree, escaped.
        path: String,
        /// What is wrong with it.
        #[source]
        problem: EntryError,
    },
    /// A device ends within a block.
    #[error("cannot use a device of {length} bytes for an EROFS image: its length is not a multiple of {block_size}")]
    PartialBlock {
        /// The device's length in bytes.
        length: u64,
        /// The image's block size.
        block_size: BlockSize,
    },
    /// There are more devices than an image can name.
    #[error("cannot use {0} devices for an EROFS image: it has at most 65,535")]
    TooManyDevices(usize),
    /// There are more blocks than EROFS can address.
    #[error("the EROFS image and its devices have {blocks} blocks of {block_size} bytes: EROFS can address {limit}")]
    TooLarge {
        /// The blocks of the image and its devices.
        blocks: u64,
        /// The image's block size.
        block_size: BlockSize,
        /// The number of addresses.
        limit: u64,
    },
}

/// A problem of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// No directory can have such a name.
    #[error("its name is empty, \".\" or \"..\", or contains a slash or NUL")]
    Name,
    /// The name is too long for Linux.
    #[error("its name has {0} bytes: at most 255 are possible")]
    LongName(usize),
    /// Another entry has the same name.
    #[error("its directory has another entry of the same name")]
    Duplicate,
    /// The parent is a file or a link, or does not exist.
    #[error("its parent is not a directory of the tree")]
    Parent,
    /// It is an ancestor of its own, or below such a directory.
    #[error("it is not below the root")]
    Unreachable,
    /// The target is empty or too long for Linux.
    #[error("the target of the link has {0} bytes: 1 to 4095 are possible")]
    TargetLength(usize),
    /// The target contains a NUL, where Linux would cut it.
    #[error("the target of the link contains a NUL")]
    TargetNul,
    /// There is no such device.
    #[error("its content is on device {device}, and there are {devices}")]
    Device {
        /// The index of the device.
        device: usize,
        /// The number of devices.
        devices: usize,
    },
    /// The content begins within a block.
    #[error("its content begins at byte {offset} of its device, which is not a multiple of {block_size}")]
    Misaligned {
        /// Where it begins.
        offset: u64,
        /// The image's block size.
        block_size: BlockSize,
    },
    /// The content does not end within its device.
    #[error("its {size} bytes of content at byte {offset} are not on its device, which has {length} bytes")]
    Outside {
        /// Where it begins.
        offset: u64,
        /// Its length.
        size: u64,
        /// The length of the device.
        length: u64,
    },
}

impl ImageError {
    /// A problem of the node with this index.
    pub(super) fn entry(nodes: &[Node<'_>], index: usize, problem: EntryError) -> Self {
        Self::Entry { path: path(nodes, index), problem }
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::TooManyDevices(_) | Self::TooLarge { .. } => Kind::ResourceExhausted,
            // A tree is checked before it becomes an image.
            Self::Entry { .. } | Self::PartialBlock { .. } => Kind::Internal,
        }
    }
}

/// The path of a node, as far as its parents lead.
fn path(nodes: &[Node<'_>], index: usize) -> String {
    let parent = |node: &&Node<'_>| node.parent.and_then(|parent| nodes.get(parent));
    // The bound is for nodes that are their own ancestors.
    let ancestors = std::iter::successors(nodes.get(index), parent).take(LONGEST_PATH);
    let mut names: Vec<_> = ancestors.map(|node| node.name).collect();
    names.reverse();
    names.join(&b'/').escape_ascii().to_string()
}

/// Longest path in an error, in names.
const LONGEST_PATH: usize = 64;

//! EROFS images: a tree as a filesystem for the kernel to mount, without the content of its files.
//!
//! An image holds names, modes, owners, times and links. The content of the files is in *extra devices*: plain files that
//! a mount names in its options (`device=`), where each content begins on a block boundary. So another owner or other
//! modes are another small image over the same content.
//!
//! The format is that of Linux (`fs/erofs/erofs_fs.h`), without compression and extended attributes:
//!
//! | from byte | what |
//! |---|---|
//! | 1024 | the superblock |
//! | 1152 | the device table |
//! | its end | the inodes, the root's first; a small directory or link follows its inode in the same block |
//! | the next block | the larger directories and links |
//!
//! EROFS addresses blocks: first those of the image, then those of the devices, one device after the other.

use std::fmt;

mod chunk;
mod devices;
mod dirent;
mod error;
mod fields;
mod hierarchy;
mod inode;
mod layout;
mod superblock;
mod writer;

pub use error::EntryError;
pub use error::ImageError;

pub(crate) use superblock::MAGIC;
pub(crate) use superblock::START as SUPERBLOCK;
pub(crate) use superblock::UUID;

use devices::DeviceTable;
use hierarchy::Hierarchy;
use inode::Format;
use inode::Inode;
use layout::Layout;
use writer::Writer;

/// A tree, and where its content is.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// All entries but the root, in any order.
    pub nodes: &'a [Node<'a>],
    /// The length of each device in bytes: a multiple of the block size.
    pub devices: &'a [u64],
    /// The alignment of the content.
    pub block_size: BlockSize,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its directory, as an index into [`Tree::nodes`]. `None` is the root.
    pub parent: Option<usize>,
    /// Its name in that directory.
    pub name: &'a [u8],
    /// Its type and content.
    pub kind: Kind<'a>,
    /// Its time in seconds since 1970; `None` for that of the image.
    pub time: Option<i64>,
}

/// The type of a [`Node`].
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// A directory: other nodes name it as their parent.
    Directory,
    /// A regular file.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Where its content is.
        content: Extent,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points to: 1 to 4095 bytes.
        target: &'a [u8],
    },
}

/// A part of a device. If its size is 0, the other fields mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The device, as an index into [`Tree::devices`].
    pub device: usize,
    /// Where it begins, in bytes: a multiple of the block size.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The block size of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSize {
    /// 512 bytes. Needs Linux 6.4.
    B512,
    /// 4096 bytes: the page size of most machines, and on them the only one that older kernels take.
    B4096,
}

/// The UUID of an image.
pub type Uuid = [u8; 16];

/// What an image shows besides the tree: the same for all its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The time of all nodes, in seconds since 1970.
    pub mtime: i64,
    /// The owner of all nodes.
    pub uid: u32,
    /// The group of all nodes.
    pub gid: u32,
    /// The permissions.
    pub modes: Modes,
}

/// Permissions, up to `0o7777`. Those of links are always `0o777`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Of directories, the root included.
    pub directory: u16,
    /// Of files.
    pub file: u16,
    /// Of executable files.
    pub executable: u16,
}

impl Modes {
    /// Those of a git checkout with the umask 022.
    pub const PLAIN: Self = Self { directory: 0o755, file: 0o644, executable: 0o755 };

    /// Those for a group that may only read, as a pod's `fsGroup` of a read-only volume.
    pub const GROUP_READABLE: Self = Self { directory: 0o2755, ..Self::PLAIN };

    /// Those for a group that may write, as a pod's `fsGroup`: a new file belongs to the group of its directory.
    pub const GROUP_WRITABLE: Self = Self { directory: 0o2775, file: 0o664, executable: 0o775 };
}

impl BlockSize {
    /// The number of bytes, as a power of two.
    const fn bits(self) -> u8 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> usize {
        1 << self.bits()
    }

    /// How many blocks `length` bytes take.
    const fn blocks(self, length: u64) -> u64 {
        length.div_ceil(1 << self.bits())
    }

    /// Whether a block begins at the byte `offset`.
    const fn is_boundary(self, offset: u64) -> bool {
        offset.trailing_zeros() >= self.bits() as u32
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// An image, and what lstat(2) tells of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// The image.
    pub(crate) bytes: Vec<u8>,
    /// The inode number of each node, in the order of [`Tree::nodes`].
    pub(crate) inodes: Vec<u64>,
}

/// Returns the image of a tree, as [`build_numbered`] does.
///
/// # Errors
///
/// The same.
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub fn build(tree: &Tree<'_>, view: &View, uuid: &Uuid) -> Result<Vec<u8>, ImageError> {
    build_numbered(tree, view, uuid).map(|image| image.bytes)
}

/// Returns the image of a tree. Equal arguments give equal bytes. The UUID tells the image from every other one.
///
/// # Errors
///
/// [`ImageError`] when the nodes do not form a tree, their content is not on the devices, or EROFS has no room for them.
pub(crate) fn build_numbered(tree: &Tree<'_>, view: &View, uuid: &Uuid) -> Result<Numbered, ImageError> {
    devices::check(tree)?;
    let hierarchy = Hierarchy::new(tree.nodes)?;
    let format = Format { block_size: tree.block_size, devices: tree.devices.len(), view: *view };
    let inodes: Vec<Inode> = (0..hierarchy.len()).map(|number| Inode::new(&hierarchy, number, &format)).collect();
    let layout = Layout::new(&hierarchy.order(), &inodes, tree.block_size, devices::table_end(tree.devices.len()));
    let devices = DeviceTable::new(tree, layout.block_count())?;

    // The number of a node is its index plus one.
    let inodes_of = (1..hierarchy.len()).map(|number| layout.node_id(number)).collect();
    let mut image = Writer::new(&hierarchy, &inodes, &layout, &devices, &format).into_image();
    devices.write(&mut image);
    superblock::write(&mut image, uuid, &inodes, &format, &layout, &devices);
    Ok(Numbered { bytes: image, inodes: inodes_of })
}

#[cfg(test)]
mod tests;

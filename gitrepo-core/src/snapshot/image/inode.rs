//! Inodes: compact ones of 32 bytes, and extended ones of 64 for larger numbers.

use super::BlockSize;
use super::Kind;
use super::View;
use super::chunk::Chunks;
use super::dirent;
use super::fields::Fields;
use super::hierarchy::Hierarchy;

const COMPACT: usize = 32;
const EXTENDED: usize = 64;

const REGULAR: u16 = 0o100000;
const DIRECTORY: u16 = 0o040000;
const SYMLINK: u16 = 0o120000;

/// The address of data that has no block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// What all inodes of an image have in common.
pub(super) struct Format {
    pub(super) block_size: BlockSize,
    /// The number of devices.
    pub(super) devices: usize,
    pub(super) view: View,
}

/// Where the data of an inode is.
#[derive(Clone, Copy)]
enum DataLayout {
    /// In blocks.
    FlatPlain = 0,
    /// In blocks, and the rest behind the inode.
    FlatInline = 2,
    /// In chunks, whose indexes are behind the inode.
    ChunkBased = 4,
}

/// An inode without its place and its address of data.
#[derive(Clone, Copy)]
pub(super) struct Inode {
    mode: u16,
    /// `None` for that of the image.
    time: Option<i64>,
    links: u32,
    size: u64,
    is_extended: bool,
    data: DataLayout,
    /// Bytes behind the inode, in the same block.
    pub(super) tail: usize,
    /// Blocks of data elsewhere in the image.
    pub(super) blocks: usize,
}

impl Inode {
    pub(super) fn new(hierarchy: &Hierarchy<'_>, number: usize, format: &Format) -> Self {
        let Format { block_size, view, .. } = format;
        let time = hierarchy.time(number);
        match hierarchy.kind(number) {
            Kind::Directory => {
                let size = dirent::size(&dirent::dirents(hierarchy, number), *block_size);
                let links = u32::try_from(2 + hierarchy.subdirectories(number)).unwrap_or(u32::MAX);
                Self::flat(DIRECTORY | view.modes.directory & 0o7777, links, size, (time, format))
            }
            Kind::Symlink { target } => Self::flat(SYMLINK | 0o777, 1, target.len(), (time, format)),
            Kind::File { executable, content } => {
                let permissions = if executable { view.modes.executable } else { view.modes.file };
                Self::file(REGULAR | permissions & 0o7777, content.size, (time, format))
            }
        }
    }

    /// Data in the image: what does not fill a block is behind the inode if both fit into one.
    fn flat(mode: u16, links: u32, size: usize, (time, format): (Option<i64>, &Format)) -> Self {
        let inode = Self::plain(mode, links, size as u64, (time, format));
        let block_size = format.block_size.bytes();
        let rest = size % block_size;
        if rest == 0 || inode.length() + rest > block_size {
            Self { blocks: size.div_ceil(block_size), ..inode }
        } else {
            Self { data: DataLayout::FlatInline, tail: rest, blocks: size / block_size, ..inode }
        }
    }

    /// Data on a device.
    fn file(mode: u16, size: u64, (time, format): (Option<i64>, &Format)) -> Self {
        let inode = Self::plain(mode, 1, size, (time, format));
        match Chunks::of(size, format.devices, format.block_size) {
            Some(chunks) => Self { data: DataLayout::ChunkBased, tail: chunks.length(), ..inode },
            None => inode,
        }
    }

    fn plain(mode: u16, links: u32, size: u64, (time, format): (Option<i64>, &Format)) -> Self {
        let View { uid, gid, .. } = format.view;
        let is_short = |number: u32| u16::try_from(number).is_ok();
        let fits = [uid, gid, links].into_iter().all(is_short) && u32::try_from(size).is_ok();
        let is_extended = !fits || time.is_some();
        Self { mode, time, links, size, is_extended, data: DataLayout::FlatPlain, tail: 0, blocks: 0 }
    }

    pub(super) fn has_chunks(&self) -> bool {
        matches!(self.data, DataLayout::ChunkBased)
    }

    /// Bytes of the inode.
    pub(super) fn length(&self) -> usize {
        if self.is_extended { EXTENDED } else { COMPACT }
    }

    /// Writes the inode. `data` is the address of its data, or the format of its chunks.
    pub(super) fn write(&self, id: u64, data: u32, view: &View, into: &mut [u8]) {
        let mut fields = Fields(into);
        fields.put(((self.data as u16) << 1 | u16::from(self.is_extended)).to_le_bytes());
        // No extended attributes.
        fields.skip(2);
        fields.put(self.mode.to_le_bytes());
        if self.is_extended {
            fields.skip(2);
            fields.put(self.size.to_le_bytes());
        } else {
            fields.put((self.links as u16).to_le_bytes());
            fields.put((self.size as u32).to_le_bytes());
            // No time of its own: that of the superblock.
            fields.skip(4);
        }
        fields.put(data.to_le_bytes());
        // The inode number for 32-bit kernels.
        fields.put((id as u32).to_le_bytes());
        if self.is_extended {
            fields.put(view.uid.to_le_bytes());
            fields.put(view.gid.to_le_bytes());
            fields.put(self.time.unwrap_or(view.mtime).to_le_bytes());
            // Nanoseconds.
            fields.skip(4);
            fields.put(self.links.to_le_bytes());
        } else {
            fields.put((view.uid as u16).to_le_bytes());
            fields.put((view.gid as u16).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Modes;
    use super::*;

    fn format(uid: u32, gid: u32) -> Format {
        let view = View { mtime: -2, uid, gid, modes: Modes::PLAIN };
        Format { block_size: BlockSize::B512, devices: 1, view }
    }

    #[test]
    fn an_inode_is_compact_if_its_numbers_fit() {
        let is_extended =
            |uid, gid, links, size| Inode::plain(REGULAR, links, size, (None, &format(uid, gid))).is_extended;
        assert!(!is_extended(65_535, 65_535, 65_535, 0xffff_ffff));
        assert!(is_extended(65_536, 0, 1, 0));
        assert!(is_extended(0, 65_536, 1, 0));
        assert!(is_extended(0, 0, 65_536, 0));
        assert!(is_extended(0, 0, 1, 1 << 32));
        assert!(Inode::plain(REGULAR, 1, 0, (Some(7), &format(0, 0))).is_extended, "it has a time of its own");
    }

    #[test]
    fn the_rest_of_data_is_behind_the_inode_if_a_block_takes_both() {
        let placed = |size, gid| {
            let inode = Inode::flat(SYMLINK, 1, size, (None, &format(0, gid)));
            (inode.blocks, inode.tail)
        };
        assert_eq!(placed(1, 0), (0, 1));
        assert_eq!(placed(480, 0), (0, 480));
        assert_eq!(placed(481, 0), (1, 0));
        assert_eq!(placed(480, 65_536), (1, 0), "an extended inode is larger");
        assert_eq!(placed(512, 0), (1, 0));
        assert_eq!(placed(513, 0), (1, 1));
        assert_eq!(placed(1024 + 481, 0), (3, 0));
    }

    #[test]
    fn fields_are_where_the_kernel_reads_them() {
        let mut bytes = [0; COMPACT];
        Inode::flat(DIRECTORY | 0o755, 3, 40, (None, &format(1, 2))).write(5, NO_BLOCK, &format(1, 2).view, &mut bytes);
        let expected = b"\x04\0\0\0\xed\x41\x03\0\x28\0\0\0\0\0\0\0\xff\xff\xff\xff\x05\0\0\0\x01\0\x02\0\0\0\0\0";
        assert_eq!(bytes, *expected);

        let mut bytes = [0; EXTENDED];
        let format = format(0x10001, 2);
        Inode::file(REGULAR | 0o644, 0x1_0000_0000, (None, &format)).write(5, 0x37, &format.view, &mut bytes);
        let expected = [
            &b"\x09\0\0\0\xa4\x81\0\0\0\0\0\0\x01\0\0\0\x37\0\0\0\x05\0\0\0\x01\0\x01\0\x02\0\0\0"[..],
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\x01\0\0\0",
            &[0; 16],
        ];
        assert_eq!(bytes, expected.concat().as_slice());
    }
}

//! The place of each inode and of its data in the image.

use std::ops::Range;

use super::BlockSize;
use super::hierarchy::ROOT;
use super::inode::Inode;

/// Inodes begin at multiples of this many bytes, and their ids count them.
const SLOT: usize = 32;

/// Where everything is. Inodes are known by their number in the hierarchy.
pub(super) struct Layout {
    block_size: usize,
    /// The first byte of each inode.
    inodes: Vec<usize>,
    /// The first byte of the blocks of each inode; 0 if it has none.
    blocks: Vec<usize>,
    /// The end of the image.
    end: usize,
    /// Inode ids count from the beginning of this block.
    metadata: usize,
}

impl Layout {
    /// Places inodes from the byte `start` on in this order, which begins with the root, and then their blocks.
    pub(super) fn new(order: &[usize], inodes: &[Inode], block_size: BlockSize, start: usize) -> Self {
        let block_size = block_size.bytes();
        let mut places = vec![0; inodes.len()];
        let mut records = Records { end: start, gaps: Vec::new(), block_size };
        for &number in order {
            let inode = &inodes[number];
            places[number] = records.place(inode.length() + inode.tail);
        }
        let mut end = records.end.next_multiple_of(block_size);
        let mut blocks = vec![0; inodes.len()];
        for &number in order.iter().filter(|number| inodes[**number].blocks > 0) {
            blocks[number] = end;
            end += inodes[number].blocks * block_size;
        }
        // Ids count from a block before the root's: readers take the id 0 for a deleted entry. And from no earlier one:
        // the root's id has only 16 bits.
        Self { block_size, inodes: places, blocks, end, metadata: (start - 1) / block_size }
    }

    /// How many blocks the image has.
    pub(super) fn block_count(&self) -> usize {
        self.end / self.block_size
    }

    /// The first byte of an inode.
    pub(super) fn inode(&self, number: usize) -> usize {
        self.inodes[number]
    }

    /// The first of the blocks of an inode.
    pub(super) fn first_block(&self, number: usize) -> Option<usize> {
        Some(self.blocks[number]).filter(|byte| *byte > 0).map(|byte| byte / self.block_size)
    }

    /// The block from which inode ids count.
    pub(super) fn metadata_block(&self) -> usize {
        self.metadata
    }

    /// The id of an inode (`nid`).
    pub(super) fn node_id(&self, number: usize) -> u64 {
        ((self.inodes[number] - self.metadata * self.block_size) / SLOT) as u64
    }

    /// The id of the root, which is in one of the two blocks after the first of the metadata.
    pub(super) fn root_id(&self) -> u16 {
        self.node_id(ROOT) as u16
    }
}

/// Places inodes with what follows them, each within a block.
struct Records {
    end: usize,
    /// What was left of blocks that were too short.
    gaps: Vec<Range<usize>>,
    block_size: usize,
}

impl Records {
    /// Returns the first byte of a record with this many bytes, which are at most a block.
    fn place(&mut self, length: usize) -> usize {
        let length = length.next_multiple_of(SLOT);
        if let Some(gap) = self.gaps.pop_if(|gap| gap.len() >= length) {
            let rest = gap.start + length..gap.end;
            if !rest.is_empty() {
                self.gaps.push(rest);
            }
            return gap.start;
        }
        let boundary = self.end.next_multiple_of(self.block_size);
        if self.end + length > boundary && self.end < boundary {
            self.gaps.push(self.end..boundary);
            self.end = boundary;
        }
        let place = self.end;
        self.end += length;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_never_cross_blocks_and_small_ones_fill_gaps() {
        let mut records = Records { end: 1184, gaps: Vec::new(), block_size: 512 };
        // From 1184 the block has 352 bytes left, of which 352 - 320 stay free.
        assert_eq!(records.place(320), 1184);
        assert_eq!(records.place(33), 1536, "64 bytes do not fit");
        assert_eq!(records.place(512), 2048, "a whole block");
        assert_eq!(records.place(32), 1600, "the last gap first");
        assert_eq!(records.place(400), 1632);
        assert_eq!(records.place(32), 1504);
        assert_eq!(records.place(32), 2560);
        assert_eq!((records.end, records.gaps), (2592, vec![]));
    }
}

//! Writes the inodes of an image, and their data.

use super::Extent;
use super::Kind;
use super::chunk::Chunks;
use super::devices::DeviceTable;
use super::dirent;
use super::hierarchy::Hierarchy;
use super::inode::Format;
use super::inode::Inode;
use super::inode::NO_BLOCK;
use super::layout::Layout;

/// An image that is being written. What is not written stays zero.
pub(super) struct Writer<'a> {
    image: Vec<u8>,
    hierarchy: &'a Hierarchy<'a>,
    inodes: &'a [Inode],
    layout: &'a Layout,
    devices: &'a DeviceTable,
    format: &'a Format,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        hierarchy: &'a Hierarchy<'a>,
        inodes: &'a [Inode],
        layout: &'a Layout,
        devices: &'a DeviceTable,
        format: &'a Format,
    ) -> Self {
        let image = vec![0; layout.block_count() * format.block_size.bytes()];
        Self { image, hierarchy, inodes, layout, devices, format }
    }

    /// Writes all inodes and their data, and returns the image.
    pub(super) fn into_image(mut self) -> Vec<u8> {
        for number in 0..self.hierarchy.len() {
            match self.hierarchy.kind(number) {
                Kind::Directory => self.write_directory(number),
                Kind::Symlink { target } => self.write_symlink(number, target),
                Kind::File { content, .. } => self.write_file(number, &content),
            }
        }
        self.image
    }

    fn write_directory(&mut self, number: usize) {
        self.write_inode(number, self.first_block(number));
        let (hierarchy, layout) = (self.hierarchy, self.layout);
        let dirents = dirent::dirents(hierarchy, number);
        for (index, block) in dirent::blocks(&dirents, self.format.block_size).enumerate() {
            dirent::write(block, |number| layout.node_id(number), self.data(number, index));
        }
    }

    fn write_symlink(&mut self, number: usize, target: &[u8]) {
        self.write_inode(number, self.first_block(number));
        for (index, piece) in target.chunks(self.format.block_size.bytes()).enumerate() {
            self.data(number, index)[..piece.len()].copy_from_slice(piece);
        }
    }

    fn write_file(&mut self, number: usize, content: &Extent) {
        let Format { block_size, devices, .. } = *self.format;
        match Chunks::of(content.size, devices, block_size) {
            Some(chunks) => {
                self.write_inode(number, chunks.format());
                chunks.write(content, block_size, self.tail(number));
            }
            None if content.size == 0 => self.write_inode(number, NO_BLOCK),
            None => self.write_inode(number, self.devices.address(content)),
        }
    }

    /// The address of data in the image.
    fn first_block(&self, number: usize) -> u32 {
        // The image's blocks have 32 bits, or there would be no addresses for the devices.
        self.layout.first_block(number).map_or(NO_BLOCK, |block| block as u32)
    }

    fn write_inode(&mut self, number: usize, data: u32) {
        let start = self.layout.inode(number);
        let inode = &self.inodes[number];
        let bytes = &mut self.image[start..start + inode.length()];
        inode.write(self.layout.node_id(number), data, &self.format.view, bytes);
    }

    /// The block of an inode's data with this index; the last one is behind the inode if it is not whole.
    fn data(&mut self, number: usize, index: usize) -> &mut [u8] {
        let block_size = self.format.block_size.bytes();
        match self.layout.first_block(number) {
            Some(first) if index < self.inodes[number].blocks => {
                &mut self.image[(first + index) * block_size..][..block_size]
            }
            _ => self.tail(number),
        }
    }

    /// What follows an inode.
    fn tail(&mut self, number: usize) -> &mut [u8] {
        let inode = &self.inodes[number];
        &mut self.image[self.layout.inode(number) + inode.length()..][..inode.tail]
    }
}

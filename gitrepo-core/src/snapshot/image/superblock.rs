//! The superblock.

use super::BlockSize;
use super::Uuid;
use super::devices::DeviceTable;
use super::devices::FIRST_SLOT;
use super::fields::Fields;
use super::inode::Format;
use super::inode::Inode;
use super::layout::Layout;

/// Where it begins.
pub(crate) const START: usize = 1024;

/// Where it ends. It has no extensions.
pub(super) const END: usize = START + 128;

/// Where the UUID is.
pub(crate) const UUID: usize = START + 48;

/// Where its checksum is.
const CHECKSUM: usize = START + 4;

pub(crate) const MAGIC: u32 = 0xE0F5_E1E2;

/// The superblock has a checksum.
const COMPAT_CHECKSUM: u32 = 0x1;

/// The time of an inode is that of its modification.
const COMPAT_MTIME: u32 = 0x2;

const INCOMPAT_CHUNKED_FILE: u32 = 0x4;
const INCOMPAT_DEVICE_TABLE: u32 = 0x8;

/// Writes the superblock into an image that is complete but for it.
pub(super) fn write(
    image: &mut [u8],
    uuid: &Uuid,
    inodes: &[Inode],
    format: &Format,
    layout: &Layout,
    devices: &DeviceTable,
) {
    let mut fields = Fields(&mut image[START..END]);
    fields.put(MAGIC.to_le_bytes());
    fields.skip(4);
    fields.put((COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
    fields.put([format.block_size.bits()]);
    fields.skip(1);
    fields.put(layout.root_id().to_le_bytes());
    fields.put((inodes.len() as u64).to_le_bytes());
    fields.put(format.view.mtime.to_le_bytes());
    // Nanoseconds.
    fields.skip(4);
    // The devices have addresses behind these blocks, so 32 bits are enough.
    fields.put((layout.block_count() as u32).to_le_bytes());
    fields.put((layout.metadata_block() as u32).to_le_bytes());
    // Extended attributes.
    fields.skip(4);
    fields.put(*uuid);
    // Name.
    fields.skip(16);
    let table = if devices.count() > 0 { INCOMPAT_DEVICE_TABLE } else { 0 };
    let chunks = if inodes.iter().any(Inode::has_chunks) { INCOMPAT_CHUNKED_FILE } else { 0 };
    fields.put((table | chunks).to_le_bytes());
    // Compression.
    fields.skip(2);
    fields.put(devices.count().to_le_bytes());
    fields.put(FIRST_SLOT.to_le_bytes());

    let checksum = crc32c(&image[START..checked_end(format.block_size)]);
    image[CHECKSUM..CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Where the bytes under the checksum end: with the block of the superblock, or a block's length from its beginning if
/// blocks are smaller than what is before it.
fn checked_end(block_size: BlockSize) -> usize {
    match block_size.bytes() {
        bytes if bytes > START => bytes,
        bytes => START + bytes,
    }
}

/// CRC-32C (Castagnoli) without its final inversion, as the kernel computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let shift = |crc: u32| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of the CRC catalogue, and the first test of RFC 3720, B.4.
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(!crc32c(&[0; 32]), 0x8A91_36AA);
    }
}

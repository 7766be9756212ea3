//! The fields of an image that decide which files it consists of.
//!
//! The kernel checks the rest. It does not check that a device holds what the image expects; and it takes an image that
//! is mounted without its devices for one that needs none, whose files then cannot be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::stat::fstat;

use crate::sys::mount::UUID_LENGTH;

/// Where the superblock is, whatever the block size.
const SUPERBLOCK: u64 = 1024;

/// Length of the superblock, of which this reads the beginning.
const LENGTH: usize = 128;

const MAGIC: u32 = 0xe0f5_e1e2;

/// The feature (`incompat`) of an image with a device table.
const HAS_DEVICE_TABLE: u32 = 8;

/// Length of an entry of the device table, and the unit of the table's offset.
const SLOT: usize = 128;

/// What an image says about itself.
#[derive(Debug)]
pub(super) struct Header {
    /// Different in every image.
    pub(super) uuid: [u8; UUID_LENGTH],
    /// The length of each device, in bytes.
    pub(super) devices: Vec<u64>,
}

impl Header {
    /// Reads an image; `None` if it is not EROFS. The kernel has its own words for that.
    pub(super) fn read(image: &File) -> io::Result<Option<Self>> {
        let mut superblock = [0; LENGTH];
        match image.read_exact_at(&mut superblock, SUPERBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        // struct erofs_super_block: magic 0, blkszbits 12, blocks 36, uuid 48, feature_incompat 80, extra_devices 86,
        // devt_slotoff 88.
        if word(&superblock, 0) != MAGIC {
            return Ok(None);
        }
        let mut uuid = [0; UUID_LENGTH];
        uuid.copy_from_slice(&superblock[48..][..UUID_LENGTH]);
        let count = match word(&superblock, 80) & HAS_DEVICE_TABLE {
            0 => 0,
            _ => half(&superblock, 86),
        };
        let mut table = vec![0; usize::from(count) * SLOT];
        image.read_exact_at(&mut table, u64::from(half(&superblock, 88)) * SLOT as u64)?;
        let block_bits = u32::from(superblock[12]);
        // A nonsensical block size is the kernel's to refuse.
        let bytes = |blocks: u32| u64::from(blocks).checked_shl(block_bits).unwrap_or(0);
        if fstat(image)?.st_size.unsigned_abs() < bytes(word(&superblock, 36)) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut short"));
        }
        // struct erofs_deviceslot: blocks 64.
        let length = |slot: &[u8]| bytes(word(slot, 64));
        Ok(Some(Self { uuid, devices: table.chunks(SLOT).map(length).collect() }))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(image: &[u8]) -> io::Result<Option<Header>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(image).unwrap();
        Header::read(&file)
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; 4096];
        image[1024..1028].copy_from_slice(&MAGIC.to_le_bytes());
        image[1036] = 9;
        image[1072..1088].copy_from_slice(b"sixteen letters.");
        image[1104] = 8;
        image[1110] = 2;
        image[1112] = 10;
        for (slot, blocks) in [(0, 3u8), (1, 200)] {
            image[1280 + slot * SLOT + 64] = blocks;
        }
        image
    }

    #[test]
    fn the_uuid_and_the_lengths_of_the_devices_are_read() {
        let header = read(&image()).unwrap().unwrap();
        assert_eq!((&header.uuid, header.devices), (b"sixteen letters.", vec![3 * 512, 200 * 512]));
    }

    #[test]
    fn an_image_without_the_feature_has_no_devices() {
        let mut image = image();
        image[1104] = 4;
        assert!(read(&image).unwrap().unwrap().devices.is_empty());
    }

    #[test]
    fn an_image_that_is_cut_short_is_an_error() {
        let mut image = image();
        image[1060] = 8;
        assert!(read(&image).is_ok());
        image[1060] = 9;
        assert_eq!(read(&image).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn anything_else_is_no_image_and_a_table_beyond_the_end_an_error() {
        for other in [&[][..], &[0; 4096], &image()[..1100]] {
            assert!(read(other).unwrap().is_none());
        }
        assert!(read(&image()[..1300]).is_err());
        let mut odd = image();
        odd[1036] = 255;
        assert_eq!(read(&odd).unwrap().unwrap().devices, [0, 0]);
    }
}

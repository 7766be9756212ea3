//! The table of the devices, and content on them.

use super::BlockSize;
use super::EntryError;
use super::Extent;
use super::ImageError;
use super::Kind;
use super::Tree;
use super::fields::Fields;
use super::superblock;

/// Bytes of a device's slot in the table.
const SLOT: usize = 128;

/// Where the table begins, in slots.
pub(super) const FIRST_SLOT: u16 = (superblock::END / SLOT) as u16;

/// Bytes of a slot for a name or digest of the device. The kernel does not need it where mounts name all devices.
const TAG: usize = 64;

/// One more than the largest address of a block: the largest number of 32 bits stands for no block.
const ADDRESSES: u64 = u32::MAX as u64;

/// A device in the table.
struct Device {
    blocks: u32,
    /// Its first block in the space of all devices.
    address: u32,
}

/// The devices, with their addresses.
pub(super) struct DeviceTable {
    devices: Vec<Device>,
    block_size: BlockSize,
}

/// Checks that an image can name the devices, and that they have the content of all files.
pub(super) fn check(tree: &Tree<'_>) -> Result<(), ImageError> {
    let block_size = tree.block_size;
    if u16::try_from(tree.devices.len()).is_err() {
        return Err(ImageError::TooManyDevices(tree.devices.len()));
    }
    if let Some(&length) = tree.devices.iter().find(|length| !block_size.is_boundary(**length)) {
        return Err(ImageError::PartialBlock { length, block_size });
    }
    check_addresses(tree, 0)?;
    for (index, node) in tree.nodes.iter().enumerate() {
        if let Kind::File { content, .. } = &node.kind
            && let Err(problem) = check_content(content, tree)
        {
            return Err(ImageError::entry(tree.nodes, index, problem));
        }
    }
    Ok(())
}

fn check_content(content: &Extent, tree: &Tree<'_>) -> Result<(), EntryError> {
    let &Extent { device, offset, size } = content;
    if size == 0 {
        return Ok(());
    }
    let devices = tree.devices.len();
    let length = *tree.devices.get(device).ok_or(EntryError::Device { device, devices })?;
    if !tree.block_size.is_boundary(offset) {
        return Err(EntryError::Misaligned { offset, block_size: tree.block_size });
    }
    match offset.checked_add(size) {
        Some(end) if end <= length => Ok(()),
        _ => Err(EntryError::Outside { offset, size, length }),
    }
}

/// Checks that EROFS has addresses for the blocks of the image and its devices.
fn check_addresses(tree: &Tree<'_>, image_blocks: u64) -> Result<(), ImageError> {
    let block_size = tree.block_size;
    let lengths = tree.devices.iter();
    let blocks = lengths.fold(image_blocks, |sum, length| sum.saturating_add(block_size.blocks(*length)));
    if blocks > ADDRESSES {
        return Err(ImageError::TooLarge { blocks, block_size, limit: ADDRESSES });
    }
    Ok(())
}

/// Where the table of this many devices ends in the image.
pub(super) fn table_end(devices: usize) -> usize {
    superblock::END + devices * SLOT
}

impl DeviceTable {
    /// Gives addresses to the devices of a checked tree, behind those of the image.
    pub(super) fn new(tree: &Tree<'_>, image_blocks: usize) -> Result<Self, ImageError> {
        check_addresses(tree, image_blocks as u64)?;
        let block_size = tree.block_size;
        let mut address = image_blocks as u32;
        let place = |length: &u64| {
            let device = Device { blocks: block_size.blocks(*length) as u32, address };
            address += device.blocks;
            device
        };
        Ok(Self { devices: tree.devices.iter().map(place).collect(), block_size })
    }

    pub(super) fn count(&self) -> u16 {
        self.devices.len() as u16
    }

    /// The address of the first block of checked content.
    pub(super) fn address(&self, content: &Extent) -> u32 {
        self.devices[content.device].address + self.block_size.blocks(content.offset) as u32
    }

    /// Writes the table into the image.
    pub(super) fn write(&self, image: &mut [u8]) {
        let mut fields = Fields(&mut image[superblock::END..]);
        for device in &self.devices {
            fields.skip(TAG);
            fields.put(device.blocks.to_le_bytes());
            fields.put(device.address.to_le_bytes());
            fields.skip(SLOT - TAG - 8);
        }
    }
}

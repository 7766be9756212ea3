//! EROFS images made by hand: a directory of files, each of which has its content on a device of its own.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::mount::Mount;

/// An image and its devices.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image.
    pub metadata: PathBuf,
    /// A device for each file.
    pub devices: Vec<PathBuf>,
}

/// The smallest block size.
pub const BLOCK: usize = 512;

/// Where the superblock is.
pub const SUPERBLOCK: u64 = 1024;

/// Where the device table is: behind the superblock.
const TABLE: usize = 1152;

/// Length of an entry of the device table.
const SLOT: usize = 128;

/// Blocks of a device.
const DEVICE_BLOCKS: usize = 3;

impl Image {
    /// Writes `<directory>/image` and `<directory>/device-0000` and so on. The content depends on `seed`, and so does
    /// the image's UUID.
    pub fn write(directory: &Path, devices: u16, seed: u8) -> Self {
        fs::create_dir_all(directory).unwrap();
        let image = Self {
            metadata: directory.join("image"),
            devices: (0..devices).map(|number| directory.join(format!("device-{number:04}"))).collect(),
        };
        fs::write(&image.metadata, metadata(devices, seed)).unwrap();
        for (number, device) in image.devices.iter().enumerate() {
            let mut content = content(number, seed).into_bytes();
            content.resize(DEVICE_BLOCKS * BLOCK, 0);
            fs::write(device, content).unwrap();
        }
        image
    }

    /// Its mount.
    pub fn mount(&self, target: impl Into<PathBuf>) -> Mount {
        Mount::image(&self.metadata, self.devices.clone(), target)
    }

    /// Deletes its files.
    pub fn remove(&self) {
        for file in self.devices.iter().chain([&self.metadata]) {
            fs::remove_file(file).unwrap();
        }
    }

    /// Changes bytes of the image.
    pub fn overwrite(&self, at: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.metadata).unwrap().write_all_at(bytes, at).unwrap();
    }
}

/// The name of a file in an image.
pub fn name(number: usize) -> String {
    format!("file-{number:04}")
}

/// The content of a file in an image.
pub fn content(number: usize, seed: u8) -> String {
    format!("content of file {number} of image {seed}\n")
}

/// The entries of the root, sorted: a name, and the file's number.
fn entries(files: usize) -> Vec<(String, Option<usize>)> {
    let files = (0..files).map(|number| (name(number), Some(number)));
    [(".".to_owned(), None), ("..".to_owned(), None)].into_iter().chain(files).collect()
}

/// Superblock, device table, inode of the root, inodes of the files, entries of the root.
fn metadata(devices: u16, seed: u8) -> Vec<u8> {
    const INODE: usize = 32;
    /// An inode of a file and its only chunk. Neither may cross a block.
    const FILE: usize = 64;
    const DIRECTORY: u8 = 2;
    const REGULAR: u8 = 1;
    let count = usize::from(devices);
    let root = (TABLE + count * SLOT).next_multiple_of(FILE);
    let file = |number: usize| root + FILE + number * FILE;

    let blocks_of_entries = in_blocks(entries(count));
    let entries_at = file(count).next_multiple_of(BLOCK);
    let mut image = vec![0; entries_at + blocks_of_entries.len() * BLOCK];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);

    let mut size = 0;
    for (index, block) in blocks_of_entries.iter().enumerate() {
        let mut name_at = block.len() * 12;
        for (slot, (name, number)) in block.iter().enumerate() {
            let (inode, kind) = number.map_or((root, DIRECTORY), |number| (file(number), REGULAR));
            let at = entries_at + index * BLOCK;
            put(at + slot * 12, &(inode as u64 / INODE as u64).to_le_bytes());
            put(at + slot * 12 + 8, &(name_at as u16).to_le_bytes());
            put(at + slot * 12 + 10, &[kind]);
            put(at + name_at, name.as_bytes());
            name_at += name.len();
        }
        size = index * BLOCK + name_at;
    }

    let superblock = SUPERBLOCK as usize;
    put(superblock, &0xe0f5_e1e2_u32.to_le_bytes());
    put(superblock + 12, &[9]);
    put(superblock + 14, &((root / INODE) as u16).to_le_bytes());
    put(superblock + 16, &(count as u64 + 1).to_le_bytes());
    put(superblock + 36, &((entries_at / BLOCK + blocks_of_entries.len()) as u32).to_le_bytes());
    put(superblock + 48, &[seed; 16]);
    put(superblock + 80, &[if devices == 0 { 0 } else { 4 | 8 }]);
    put(superblock + 86, &devices.to_le_bytes());
    put(superblock + 88, &((TABLE / SLOT) as u16).to_le_bytes());
    for slot in 0..count {
        put(TABLE + slot * SLOT + 64, &[DEVICE_BLOCKS as u8]);
    }

    put(root + 4, &0o40755_u16.to_le_bytes());
    put(root + 6, &[2]);
    put(root + 8, &(size as u32).to_le_bytes());
    put(root + 16, &((entries_at / BLOCK) as u32).to_le_bytes());
    put(root + 20, &[1]);
    for number in 0..count {
        let at = file(number);
        put(at, &[4 << 1]);
        put(at + 4, &0o100644_u16.to_le_bytes());
        put(at + 6, &[1]);
        put(at + 8, &(content(number, seed).len() as u32).to_le_bytes());
        put(at + 16, &[0x20]);
        put(at + 20, &(number as u32 + 2).to_le_bytes());
        put(at + INODE + 2, &(number as u16 + 1).to_le_bytes());
    }
    image
}

/// Each block has its entries, and then their names.
fn in_blocks(entries: Vec<(String, Option<usize>)>) -> Vec<Vec<(String, Option<usize>)>> {
    let mut blocks: Vec<Vec<_>> = vec![Vec::new()];
    let mut used = 0;
    for entry in entries {
        let needed = 12 + entry.0.len();
        if used + needed > BLOCK {
            blocks.push(Vec::new());
            used = 0;
        }
        used += needed;
        if let Some(block) = blocks.last_mut() {
            block.push(entry);
        }
    }
    blocks
}

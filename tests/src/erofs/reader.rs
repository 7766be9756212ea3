//! A reader that is as strict as it can be: it panics on everything that an image should not contain, and on every byte
//! that is set and belongs to nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Content;
use super::Entry;

const SUPERBLOCK: usize = 1024;
const CHUNKED_FILE: u32 = 4;
const DEVICE_TABLE: u32 = 8;

/// What an image contains.
pub struct Contents {
    /// Entries by their path; that of the root is empty.
    pub entries: BTreeMap<Vec<u8>, Entry>,
    /// Bytes of a block.
    pub block_size: usize,
    /// Inodes of 64 bytes.
    pub extended: usize,
    /// Files with chunk indexes.
    pub chunked: usize,
}

/// Reads an image.
pub fn read(image: &[u8]) -> Contents {
    let mut reader = Reader::new(image);
    reader.walk();
    let stray = (0..image.len()).find(|byte| image[*byte] != 0 && !reader.claimed[*byte]);
    assert_eq!(stray, None, "a byte of this number is set and belongs to nothing");
    let features = reader.u32(SUPERBLOCK + 80);
    assert_eq!(features & CHUNKED_FILE != 0, reader.contents.chunked > 0);
    assert_eq!(reader.u64(SUPERBLOCK + 16), reader.contents.entries.len() as u64, "number of inodes");
    reader.contents
}

struct Reader<'a> {
    image: &'a [u8],
    block_size: usize,
    /// Where inode ids count from, in bytes.
    metadata: usize,
    /// Of each device: its first block in the space of all, and how many it has.
    devices: Vec<(u32, u32)>,
    /// The bytes that belong to something.
    claimed: Vec<bool>,
    contents: Contents,
}

struct Inode {
    id: u64,
    layout: u16,
    mode: u32,
    size: u64,
    /// The first block, or the format of chunks.
    data: u32,
    /// Its last byte plus one.
    end: usize,
}

impl<'a> Reader<'a> {
    fn new(image: &'a [u8]) -> Self {
        let contents = Contents { entries: BTreeMap::new(), block_size: 0, extended: 0, chunked: 0 };
        let claimed = vec![false; image.len()];
        let mut reader = Self { image, block_size: 0, metadata: 0, devices: Vec::new(), claimed, contents };
        reader.read_superblock();
        reader
    }

    fn read_superblock(&mut self) {
        let field = |offset| SUPERBLOCK + offset;
        assert_eq!(self.u32(field(0)), 0xE0F5_E1E2, "magic");
        assert_eq!(self.u32(field(8)), 3, "a checksum, and times of modification");
        let bits = self.image[field(12)];
        assert!(matches!(bits, 9..=12), "{bits} bits of block size");
        self.block_size = 1 << bits;
        self.contents.block_size = self.block_size;
        self.check_sum();
        let count = self.u16(field(86));
        let features = self.u32(field(80));
        assert_eq!(features & !(CHUNKED_FILE | DEVICE_TABLE), 0, "features");
        assert_eq!(features & DEVICE_TABLE != 0, count > 0);
        assert_eq!(self.u32(field(36)) as usize * self.block_size, self.image.len(), "blocks of the image");
        self.metadata = self.u32(field(40)) as usize * self.block_size;
        // The UUID is at byte 48.
        for unused in [13..14, 32..36, 44..48, 64..80, 84..86, 90..128] {
            let unused = field(unused.start)..field(unused.end);
            assert!(
                self.image[unused.clone()].iter().all(|byte| *byte == 0),
                "{unused:?} of the superblock is not zero"
            );
        }
        self.claim(field(0)..field(128));
        self.read_devices(usize::from(self.u16(field(88))) * 128, count);
    }

    fn read_devices(&mut self, table: usize, count: u16) {
        let mut next = self.u32(SUPERBLOCK + 36);
        for device in 0..usize::from(count) {
            let slot = table + device * 128;
            let (blocks, address) = (self.u32(slot + 64), self.u32(slot + 68));
            assert_eq!(address, next, "device {device} follows the one before it");
            next += blocks;
            self.devices.push((address, blocks));
            self.claim(slot + 64..slot + 72);
        }
    }

    fn check_sum(&self) {
        let length = if self.block_size > SUPERBLOCK { self.block_size - SUPERBLOCK } else { self.block_size };
        let mut checked = self.image[SUPERBLOCK..SUPERBLOCK + length].to_vec();
        checked[4..8].fill(0);
        let mut sum = u32::MAX;
        for byte in checked {
            sum ^= u32::from(byte);
            for _ in 0..8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0x82F6_3B78 } else { sum >> 1 };
            }
        }
        assert_eq!(self.u32(SUPERBLOCK + 4), sum, "checksum");
    }

    fn walk(&mut self) {
        let root = u64::from(self.u16(SUPERBLOCK + 14));
        let mut unread = vec![(Vec::new(), root, root)];
        while let Some((path, id, parent)) = unread.pop() {
            let (inode, entry) = self.read_inode(id);
            if inode.mode & 0o170000 == 0o040000 {
                for (name, child) in self.read_directory(&inode, parent) {
                    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    unread.push(([&path, separator, &name].concat(), child, id));
                }
            }
            assert_eq!(self.contents.entries.insert(path, entry), None);
        }
    }

    fn read_inode(&mut self, id: u64) -> (Inode, Entry) {
        assert_ne!(id, 0, "readers take entries with the id 0 for deleted");
        let at = self.metadata + id as usize * 32;
        let format = self.u16(at);
        assert_eq!(format & !0b1111, 0, "format");
        assert_eq!(self.u16(at + 2), 0, "extended attributes");
        assert_eq!(u64::from(self.u32(at + 20)), id, "inode number");
        let (mode, data) = (u32::from(self.u16(at + 4)), self.u32(at + 16));
        let (size, links, uid, gid, mtime, length);
        if format & 1 == 0 {
            (size, links) = (u64::from(self.u32(at + 8)), u64::from(self.u16(at + 6)));
            (uid, gid) = (u32::from(self.u16(at + 24)), u32::from(self.u16(at + 26)));
            // Newer kernels add this to the time of the superblock.
            assert_eq!((self.u32(at + 12), self.u32(at + 28)), (0, 0));
            (mtime, length) = (self.u64(SUPERBLOCK + 24), 32);
        } else {
            (size, links) = (self.u64(at + 8), u64::from(self.u32(at + 44)));
            (uid, gid) = (self.u32(at + 24), self.u32(at + 28));
            assert_eq!((self.u16(at + 6), self.u32(at + 40)), (0, 0));
            assert!(self.image[at + 48..at + 64].iter().all(|byte| *byte == 0));
            (mtime, length) = (self.u64(at + 32), 64);
            self.contents.extended += 1;
        }
        self.claim(at..at + length);
        let inode = Inode { id, layout: format >> 1, mode, size, data, end: at + length };
        let content = match mode & 0o170000 {
            0o040000 => Content::Directory,
            0o120000 => Content::Symlink(self.read_symlink(&inode)),
            0o100000 => Content::File { size, place: self.place(&inode) },
            other => panic!("the inode {id} has the type {other:o}"),
        };
        (inode, Entry { mode, uid, gid, links, mtime: mtime as i64, content })
    }

    /// Where the pieces of data in the image are; each but the last is a block.
    fn pieces(&self, inode: &Inode) -> Vec<Range<usize>> {
        let (size, block) = (usize::try_from(inode.size).unwrap(), self.block_size);
        let is_inline = match inode.layout {
            0 => false,
            2 => true,
            other => panic!("the inode {} has the data layout {other}", inode.id),
        };
        let in_blocks = if is_inline { size / block * block } else { size };
        let first = if in_blocks == 0 { 0 } else { inode.data as usize * block };
        assert!(in_blocks > 0 || inode.data == u32::MAX);
        let mut pieces: Vec<_> =
            (0..in_blocks).step_by(block).map(|piece| first + piece..first + in_blocks.min(piece + block)).collect();
        if is_inline {
            let end = inode.end + size - in_blocks;
            assert!(inode.end < end && inode.end / block == (end - 1) / block, "inline data crosses a block");
            pieces.push(inode.end..end);
        }
        pieces
    }

    fn read_symlink(&mut self, inode: &Inode) -> Vec<u8> {
        let pieces = self.pieces(inode);
        pieces.iter().for_each(|piece| self.claim(piece.clone()));
        pieces.into_iter().flat_map(|piece| self.image[piece].to_vec()).collect()
    }

    /// The entries of a directory without "." and "..", which must be right.
    fn read_directory(&mut self, inode: &Inode, parent: u64) -> Vec<(Vec<u8>, u64)> {
        let mut entries: Vec<(Vec<u8>, u64)> = Vec::new();
        for piece in self.pieces(inode) {
            let start = piece.start;
            let count = usize::from(self.u16(start + 8)) / 12;
            let offset = |index: usize| usize::from(self.u16(start + index * 12 + 8));
            assert_eq!(offset(0), count * 12, "names follow the entries");
            let last = start + offset(count - 1);
            let end = (last..piece.end).find(|byte| self.image[*byte] == 0).unwrap_or(piece.end);
            for index in 0..count {
                let until = if index + 1 < count { start + offset(index + 1) } else { end };
                let name = self.image[start + offset(index)..until].to_vec();
                assert!(matches!(name.len(), 1..=255), "a name of {} bytes", name.len());
                let entry = start + index * 12;
                let id = self.u64(entry);
                let mode = self.u16(self.metadata + id as usize * 32 + 4);
                let file_type = match mode & 0o170000 {
                    0o100000 => 1,
                    0o040000 => 2,
                    _ => 7,
                };
                assert_eq!(self.image[entry + 10..entry + 12], [file_type, 0]);
                entries.push((name, id));
            }
            self.claim(start..end);
        }
        assert!(entries.is_sorted_by(|one, next| one.0 < next.0), "entries are not sorted");
        for (name, id) in [(&b"."[..], inode.id), (b"..", parent)] {
            let index = entries.iter().position(|entry| entry.0 == name).expect("a directory has . and ..");
            assert_eq!(entries.remove(index).1, id);
        }
        entries
    }

    /// The device and the byte where a file's content begins.
    fn place(&mut self, inode: &Inode) -> Option<(usize, u64)> {
        let block = self.block_size as u64;
        let (device, first) = match inode.layout {
            0 if inode.size == 0 => {
                assert_eq!(inode.data, u32::MAX);
                return None;
            }
            0 => {
                let on = |(address, blocks): &(u32, u32)| (*address..address + blocks).contains(&inode.data);
                let device = self.devices.iter().position(on).expect("an address on a device");
                (device, inode.data - self.devices[device].0)
            }
            4 => self.read_chunks(inode),
            other => panic!("a file with the data layout {other}"),
        };
        assert!(u64::from(first) + inode.size.div_ceil(block) <= self.devices[device].1.into(), "beyond its device");
        Some((device, u64::from(first) * block))
    }

    fn read_chunks(&mut self, inode: &Inode) -> (usize, u32) {
        self.contents.chunked += 1;
        assert_eq!(inode.data & !0b1_1111, 0b10_0000, "format of chunks");
        let chunk = 1 << (inode.data & 0b1_1111);
        let count = inode.size.div_ceil(self.block_size as u64).div_ceil(chunk);
        assert_eq!(inode.end % 8, 0, "alignment of indexes");
        let index = |number: u64| inode.end + number as usize * 8;
        let first = self.u32(index(0) + 4);
        let device = self.u16(index(0) + 2);
        for number in 0..count {
            assert_eq!((self.u16(index(number)), self.u16(index(number) + 2)), (0, device));
            assert_eq!(u64::from(self.u32(index(number) + 4)), u64::from(first) + number * chunk);
            self.claim(index(number)..index(number + 1));
        }
        (usize::from(device) - 1, first)
    }

    fn claim(&mut self, range: Range<usize>) {
        for byte in range {
            assert!(!self.claimed[byte], "byte {byte} belongs to two things");
            self.claimed[byte] = true;
        }
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.image[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.image[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.image[at..at + 8].try_into().unwrap())
    }
}

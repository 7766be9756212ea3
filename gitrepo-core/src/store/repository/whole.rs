//! Checks that a pack or a segment, and its index, are complete, by their checksums.
//!
//! A kill, a full disk or a power failure leaves files that are truncated or contain zeros. The content of a pack is
//! not interpreted here; only the worker that reads it does that.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use sha1::Digest;
use sha1::Sha1;

use crate::content;
use crate::content::IndexError;
use crate::store::error::StoreError;
use crate::sys::lease;

/// gitformat-pack(5): signature and version.
const PACK_BEGINS: [u8; 8] = *b"PACK\0\0\0\x02";
const INDEX_BEGINS: [u8; 8] = *b"\xfftOc\0\0\0\x02";

/// Length of a SHA-1, in bytes.
const CHECKSUM: usize = 20;

const CHUNK: usize = 1 << 20;

/// Gets the length of each piece, in bytes.
pub(in crate::store) type WasRead<'a> = dyn FnMut(u64) -> Result<(), StoreError> + 'a;

/// Checks a pack and its index, in a place where nobody else can open them. A process that still has them open for
/// writing could invalidate the result.
pub(super) fn check_pack(pack: &Path, index: &Path) -> Result<(), StoreError> {
    check_pack_slowly(pack, index, &mut |_| Ok(()))
}

/// The same, with a call of `was_read` after each piece, which may pause or give up.
pub(in crate::store) fn check_pack_slowly(
    pack: &Path,
    index: &Path,
    was_read: &mut WasRead<'_>,
) -> Result<(), StoreError> {
    let in_pack = checked(pack, PACK_BEGINS, was_read)?;
    let in_index = checked(index, INDEX_BEGINS, was_read)?;
    // An index ends with the checksum of its pack, then its own.
    if in_index[..CHECKSUM] != in_pack[CHECKSUM..] {
        return Err(StoreError::corrupt(index, "it is the index of another pack"));
    }
    Ok(())
}

/// Checks a segment and its index in the same way.
pub(super) fn check_segment(segment: &Path, index: &Path) -> Result<(), StoreError> {
    let [segment_file, index_file] = [open_unwritten(segment)?, open_unwritten(index)?];
    let stem = segment.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    content::check(stem, &segment_file, index_file).map_err(|error| match error {
        IndexError::Io(error) => StoreError::io("read", index)(error),
        IndexError::Damaged(what) => StoreError::corrupt(index, what),
    })
}

/// Opens a file that nobody can write to any more.
fn open_unwritten(path: &Path) -> Result<File, StoreError> {
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    if !lease::nobody_writes(file.as_fd()).map_err(StoreError::io("take a lease on", path))? {
        return Err(StoreError::Untrusted { path: path.to_path_buf(), reason: "somebody still writes to it" });
    }
    Ok(file)
}

/// Checks the beginning and the trailing checksum of a file. Returns its end, as long as two checksums.
fn checked(path: &Path, begins: [u8; 8], was_read: &mut WasRead<'_>) -> Result<[u8; 2 * CHECKSUM], StoreError> {
    let file = open_unwritten(path)?;
    let length = file.metadata().map_err(StoreError::io("examine", path))?.len();
    let content = length.checked_sub(CHECKSUM as u64).filter(|content| *content >= begins.len() as u64);
    let content = content.ok_or_else(|| StoreError::corrupt(path, "it is cut short"))?;
    let mut reader = Hashing { file, hash: Sha1::new(), tail: [0; 2 * CHECKSUM] };
    let first = reader.read_to(content, begins.len(), path, was_read)?;
    let sum = reader.hash.finalize();
    if first != begins || sum.as_slice() != &reader.tail[CHECKSUM..] {
        return Err(StoreError::corrupt(path, "its checksum does not match"));
    }
    Ok(reader.tail)
}

struct Hashing {
    file: File,
    hash: Sha1,
    tail: [u8; 2 * CHECKSUM],
}

impl Hashing {
    /// Hashes `content` bytes, keeps the end of the file as the tail, and returns the `first` bytes.
    fn read_to(
        &mut self,
        content: u64,
        first: usize,
        path: &Path,
        was_read: &mut WasRead<'_>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut chunk = vec![0; CHUNK];
        let mut beginning = Vec::new();
        let mut left = content;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            self.file.read_exact(&mut chunk[..wanted]).map_err(StoreError::io("read", path))?;
            self.hash.update(&chunk[..wanted]);
            if beginning.is_empty() {
                beginning = chunk[..first.min(wanted)].to_vec();
            }
            self.keep(&chunk[..wanted]);
            left -= wanted as u64;
            was_read(wanted as u64)?;
        }
        let mut checksum = [0; CHECKSUM];
        self.file.read_exact(&mut checksum).map_err(StoreError::io("read", path))?;
        self.keep(&checksum);
        Ok(beginning)
    }

    /// Moves the end of the data read into the tail.
    fn keep(&mut self, read: &[u8]) {
        let kept = read.len().min(self.tail.len());
        self.tail.rotate_left(kept);
        let at = self.tail.len() - kept;
        self.tail[at..].copy_from_slice(&read[read.len() - kept..]);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = Sha1::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Files with the headers and checksums of a pack of `content` and its index.
    pub(in super::super) fn pack_and_index(content: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let pack = summed([&PACK_BEGINS, content].concat());
        let index = summed([&INDEX_BEGINS, &[0; 1024][..], &pack[pack.len() - CHECKSUM..]].concat());
        (pack, index)
    }

    fn write(place: &Path, pack: &[u8], index: &[u8]) -> Result<(), StoreError> {
        let paths = [("pack", pack), ("idx", index)].map(|(name, content)| {
            fs::write(place.join(name), content).unwrap();
            place.join(name)
        });
        check_pack(&paths[0], &paths[1])
    }

    #[test]
    fn complete_files_of_any_length_are_accepted() {
        let place = tempfile::tempdir().unwrap();
        for length in [12, 31, 32, 33, 1000, CHUNK - 28, CHUNK - 8, CHUNK, CHUNK + 1, 2 * CHUNK + 5] {
            let (pack, index) = pack_and_index(&vec![7; length]);
            write(place.path(), &pack, &index).unwrap_or_else(|error| panic!("{length}: {error}"));
        }
    }

    #[test]
    fn r4_truncated_or_changed_files_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let (pack, index) = pack_and_index(&[7; 4000]);
        let changes: [fn(&mut Vec<u8>); 6] = [
            Vec::clear,
            |bytes| bytes.truncate(bytes.len() - 1),
            |bytes| bytes.truncate(30),
            |bytes| bytes.push(0),
            |bytes| bytes[500] ^= 1,
            |bytes| bytes[200..300].fill(0x55),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (mut bad_pack, mut bad_index) = (pack.clone(), index.clone());
            change(&mut bad_pack);
            change(&mut bad_index);
            assert!(write(place.path(), &bad_pack, &index).is_err(), "pack {number}");
            assert!(write(place.path(), &pack, &bad_index).is_err(), "index {number}");
        }
        assert!(write(place.path(), &index, &pack).is_err(), "pack and index exchanged");
        let (_, other) = pack_and_index(&[8; 4000]);
        assert!(write(place.path(), &pack, &other).is_err(), "another's index");
        write(place.path(), &pack, &index).unwrap();
    }

    #[test]
    fn s19_files_that_somebody_can_still_write_to_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let (pack, index) = pack_and_index(&[7; 4000]);
        write(place.path(), &pack, &index).unwrap();
        for name in ["pack", "idx"] {
            let writer = File::options().append(true).open(place.path().join(name)).unwrap();
            let checked = check_pack(&place.path().join("pack"), &place.path().join("idx"));
            assert!(matches!(checked, Err(StoreError::Untrusted { .. })), "{name}");
            drop(writer);
        }
    }
}

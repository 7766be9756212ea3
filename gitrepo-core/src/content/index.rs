//! The index of a segment: where each blob is.
//!
//! `GRSI`, a version, the number of blobs, the length of the segment and its CRC-32; then for each blob, sorted by id, the
//! id, the offset and the length; then the SHA-1 of all that. Numbers are big-endian.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;

use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::ALIGNMENT;
use crate::sys;

const MAGIC: [u8; 8] = *b"GRSI\0\0\0\x01";

/// Length of a record, and of what precedes the first one.
const RECORD: usize = 20 + 8 + 8;
const HEADER: usize = 8 + 8 + 8 + 4;

/// Length of the hash at the end.
pub(super) const TRAILER: usize = 20;

/// One blob of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: Oid,
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) length: u64,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// It cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// It is damaged, or does not fit its segment.
    #[error("{0}")]
    Damaged(&'static str),
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut short"),
            io::ErrorKind::NotFound => Self::Damaged("it is gone"),
            _ => Self::Io(error),
        }
    }
}

/// Writes an index. `records` are sorted by id. Returns the hash at its end.
pub(super) fn write(to: &File, records: &[Record], length: u64, crc: u32) -> io::Result<[u8; TRAILER]> {
    let mut to = Hashed::new(BufWriter::new(to));
    to.write_all(&MAGIC)?;
    to.write_all(&(records.len() as u64).to_be_bytes())?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&crc.to_be_bytes())?;
    for Record { id, offset, length } in records {
        to.write_all(id.as_bytes())?;
        to.write_all(&offset.to_be_bytes())?;
        to.write_all(&length.to_be_bytes())?;
    }
    to.finish()
}

/// Writes a file that ends with its SHA-1.
pub(crate) struct Hashed<W> {
    to: W,
    hash: Sha1,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, hash: Sha1::new() }
    }

    /// Writes the hash, and returns it.
    pub(crate) fn finish(mut self) -> io::Result<[u8; TRAILER]> {
        let hash: [u8; TRAILER] = self.hash.finalize().into();
        self.to.write_all(&hash)?;
        self.to.flush()?;
        Ok(hash)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.to.write(piece)?;
        self.hash.update(&piece[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Records that are read at once.
const BATCH: usize = 4096;

/// The records of an index, read one after the other.
pub(super) struct Records {
    from: File,
    /// Records that were read, and where the next one begins.
    batch: Vec<u8>,
    position: usize,
    hash: Sha1,
    left: u64,
    /// Length of the segment, in bytes.
    pub(super) length: u64,
    pub(super) crc: u32,
    last: Option<Oid>,
    /// The hash at its end, once all records were read and match it.
    pub(super) digest: [u8; TRAILER],
}

impl Records {
    pub(super) fn open(index: File) -> Result<Self, IndexError> {
        let mut from = index;
        let size = from.metadata()?.len();
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| header[at + byte]));
        let left = number(8);
        let fits = left.checked_mul(RECORD as u64).and_then(|records| records.checked_add((HEADER + TRAILER) as u64));
        if header[..8] != MAGIC || fits != Some(size) {
            return Err(IndexError::Damaged("it is not an index, or cut short"));
        }
        let crc = u32::from_be_bytes(std::array::from_fn(|byte| header[24 + byte]));
        let hash = Sha1::new_with_prefix(header);
        Ok(Self {
            from,
            batch: Vec::new(),
            position: 0,
            hash,
            left,
            length: number(16),
            crc,
            last: None,
            digest: [0; TRAILER],
        })
    }

    /// The next record: sorted, and inside the segment. At the end, the hash must match.
    pub(super) fn next(&mut self) -> Result<Option<Record>, IndexError> {
        if self.left == 0 {
            let hash: [u8; TRAILER] = std::mem::take(&mut self.hash).finalize().into();
            let mut trailer = [0; TRAILER];
            self.from.read_exact(&mut trailer)?;
            self.digest = hash;
            return if hash == trailer { Ok(None) } else { Err(IndexError::Damaged("its checksum does not match")) };
        }
        if self.position == self.batch.len() {
            let records = usize::try_from(self.left).unwrap_or(BATCH).min(BATCH);
            self.batch.resize(records * RECORD, 0);
            self.from.read_exact(&mut self.batch)?;
            self.hash.update(&self.batch);
            self.position = 0;
        }
        self.left -= 1;
        let bytes = &self.batch[self.position..self.position + RECORD];
        self.position += RECORD;
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let id = Oid::from_bytes(&bytes[..20]).map_err(|_| IndexError::Damaged("it has no sensible id"))?;
        let record = Record { id, offset: number(20), length: number(28) };
        let is_inside = record.offset.checked_add(record.length).is_some_and(|end| end <= self.length);
        if !is_inside || !record.offset.is_multiple_of(ALIGNMENT) {
            return Err(IndexError::Damaged("a blob is not inside its segment"));
        }
        if self.last.replace(id).is_some_and(|last| last >= id) {
            return Err(IndexError::Damaged("it is not sorted"));
        }
        Ok(Some(record))
    }
}

impl Records {
    /// Checks the name of a segment whose records were all read.
    pub(super) fn check_name(&self, stem: &str) -> Result<(), IndexError> {
        match stem == super::stem_of(&self.digest) {
            true => Ok(()),
            false => Err(IndexError::Damaged("its name is that of another segment")),
        }
    }
}

/// Checks a segment that may have been cut short or torn: its index, its length and its checksum. `stem` is its name
/// without an end.
pub(crate) fn check(stem: &str, mut content: &File, index: File) -> Result<(), IndexError> {
    let mut records = Records::open(index)?;
    while records.next()?.is_some() {}
    records.check_name(stem)?;
    if content.metadata()?.len() != records.length {
        return Err(IndexError::Damaged("its segment has another length"));
    }
    let mut crc = 0;
    let mut piece = vec![0; 1 << 20];
    loop {
        match content.read(&mut piece)? {
            0 => break,
            length => crc = sys::deflate::crc32(crc, &piece[..length]),
        }
    }
    if crc == records.crc { Ok(()) } else { Err(IndexError::Damaged("its segment's checksum does not match")) }
}

//! Writes a segment, blob by blob.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use git2::Oid;

use super::ALIGNMENT;
use super::CONTENT;
use super::INDEX;
use super::index;
use super::index::Record;
use crate::sys;

/// Names of the segment and its index until they are complete.
pub(crate) const DRAFT: &str = "tmp_content";
const DRAFT_INDEX: &str = "tmp_index";

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Bytes after which the kernel is told to begin to write them to the disk, so that the sync at the end is short.
const WRITEBACK: u64 = 8 << 20;

/// A segment that is being written. It is removed unless it is finished.
pub(crate) struct SegmentWriter {
    directory: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// What is in the file already, in bytes.
    written: u64,
    /// Up to where writeback has begun.
    begun: u64,
    crc: u32,
    is_finished: bool,
}

/// A point of a segment to go back to.
pub(crate) struct Mark {
    position: u64,
    /// The checksum of what precedes it.
    crc: u32,
}

impl SegmentWriter {
    /// Begins a segment in `directory`.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(directory.join(DRAFT))?;
        Ok(Self {
            directory: directory.to_owned(),
            file,
            buffer: Vec::new(),
            written: 0,
            begun: 0,
            crc: 0,
            is_finished: false,
        })
    }

    /// Begins a blob, and returns its offset in bytes. What is written next is its content.
    pub(crate) fn begin(&mut self) -> io::Result<u64> {
        let position = self.position();
        let padding = position.next_multiple_of(ALIGNMENT) - position;
        const ZEROS: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];
        self.write_all(&ZEROS[..usize::try_from(padding).unwrap_or_default()])?;
        Ok(self.position())
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Remembers where the next byte goes.
    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.position(), crc: sys::deflate::crc32(self.crc, &self.buffer) }
    }

    /// Takes back what was written since.
    pub(crate) fn rewind(&mut self, mark: &Mark) -> io::Result<()> {
        if let Some(kept) = mark.position.checked_sub(self.written) {
            self.buffer.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            return Ok(());
        }
        self.buffer.clear();
        self.file.set_len(mark.position)?;
        self.file.seek(SeekFrom::Start(mark.position))?;
        (self.written, self.crc) = (mark.position, mark.crc);
        self.begun = self.begun.min(mark.position);
        Ok(())
    }

    /// Writes everything to the file, so that it can be read there.
    pub(crate) fn put(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.append(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.crc = sys::deflate::crc32(self.crc, bytes);
        self.written += bytes.len() as u64;
        if self.written - self.begun >= WRITEBACK {
            sys::writeback::begin(&self.file, self.begun, self.written - self.begun);
            self.begun = self.written;
        }
        Ok(())
    }

    /// Completes the segment, and gives it its name with its index, which makes it visible. Without a blob it is removed.
    pub(crate) fn finish(mut self, blobs: impl Iterator<Item = (Oid, u64, u64)>) -> io::Result<()> {
        // The last block of a segment is whole: a device has a number of blocks.
        self.begin()?;
        self.put()?;
        let mut records: Vec<_> = blobs.map(|(id, offset, length)| Record { id, offset, length }).collect();
        records.sort_unstable_by_key(|record| (record.id, record.offset));
        records.dedup_by_key(|record| record.id);
        if records.is_empty() {
            return Ok(());
        }
        let index = File::create_new(self.directory.join(DRAFT_INDEX))?;
        let hash = index::write(&index, &records, self.written, self.crc)?;
        let named = |end: &str| self.directory.join(format!("{}.{end}", super::stem_of(&hash)));
        fs::rename(self.directory.join(DRAFT), named(CONTENT))?;
        fs::rename(self.directory.join(DRAFT_INDEX), named(INDEX))?;
        self.is_finished = true;
        Ok(())
    }
}

impl Write for SegmentWriter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = piece.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&piece[..length]);
        if self.buffer.len() == BUFFER {
            self.put()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.put()
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            for name in [DRAFT, DRAFT_INDEX] {
                drop(fs::remove_file(self.directory.join(name)));
            }
        }
    }
}

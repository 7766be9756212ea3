//! The bytes of a pack: buffered, counted, and copied on as they are consumed.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;

use sha1::Digest;
use sha1::Sha1;

use super::CHUNK;
use super::PackError;

/// Length of the SHA-1 at the end of a pack, in bytes.
pub(super) const TRAILER: usize = 20;

/// A pack that is being read. What is consumed goes on to `copy`.
pub(super) struct Input<R, W: Write> {
    source: R,
    copy: W,
    buffer: Box<[u8]>,
    /// The part of the buffer that was read and not consumed.
    start: usize,
    end: usize,
    /// Where the consumed part of the buffer begins that was not hashed, nor copied.
    kept: usize,
    position: u64,
    hash: Sha1,
    /// Checksum of the bytes since it was last taken.
    crc: flate2::Crc,
}

impl<R: Read, W: Write> Input<R, W> {
    pub(super) fn new(source: R, copy: W) -> Self {
        Self::with_capacity(CHUNK, source, copy)
    }

    /// Reads so many bytes at once.
    pub(super) fn with_capacity(capacity: usize, source: R, copy: W) -> Self {
        let buffer = vec![0; capacity].into_boxed_slice();
        Self {
            source,
            copy,
            buffer,
            start: 0,
            end: 0,
            kept: 0,
            position: 0,
            hash: Sha1::new(),
            crc: flate2::Crc::new(),
        }
    }

    /// Number of bytes consumed.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What comes next: at least one byte.
    pub(super) fn peek(&mut self) -> Result<&[u8], PackError> {
        if self.start == self.end && self.fill()? == 0 {
            return Err(PackError::Damaged("it ends too early"));
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Consumes bytes that were peeked at.
    pub(super) fn consume(&mut self, length: usize) {
        let consumed = &self.buffer[self.start..self.start + length];
        self.crc.update(consumed);
        self.start += length;
        self.position += length as u64;
    }

    /// Consumes one byte.
    pub(super) fn byte(&mut self) -> Result<u8, PackError> {
        let byte = self.peek()?[0];
        self.consume(1);
        Ok(byte)
    }

    /// Consumes as many bytes as an array has.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// The checksum of the bytes since the last call, as the index of a pack has it.
    pub(super) fn take_crc(&mut self) -> u32 {
        std::mem::take(&mut self.crc).sum()
    }

    /// Passes on all consumed bytes.
    pub(super) fn flush(&mut self) -> Result<(), PackError> {
        let consumed = &self.buffer[self.kept..self.start];
        self.hash.update(consumed);
        self.copy.write_all(consumed).map_err(PackError::Disk)?;
        self.kept = self.start;
        Ok(())
    }

    /// Consumes the trailer, which must be the hash of all bytes before it, and reads the stream to its end. git too
    /// accepts what comes after the trailer.
    pub(super) fn finish(mut self) -> Result<[u8; TRAILER], PackError> {
        self.flush()?;
        let hash: [u8; TRAILER] = std::mem::take(&mut self.hash).finalize().into();
        let trailer: [u8; TRAILER] = self.array()?;
        if trailer != hash {
            return Err(PackError::Damaged("its checksum does not match"));
        }
        self.copy.write_all(&trailer).map_err(PackError::Disk)?;
        loop {
            self.start = self.end;
            self.kept = self.end;
            if self.fill()? == 0 {
                return Ok(trailer);
            }
        }
    }

    /// Reads on, once all that was read is consumed. Returns the number of bytes.
    fn fill(&mut self) -> Result<usize, PackError> {
        self.flush()?;
        (self.start, self.end, self.kept) = (0, 0, 0);
        self.end = loop {
            match self.source.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(PackError::Stream)?,
            }
        };
        Ok(self.end)
    }
}

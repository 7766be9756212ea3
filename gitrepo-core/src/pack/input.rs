//! The bytes of a pack: buffered, counted, and hashed for its trailer.

use std::io::ErrorKind;
use std::io::Read;

use sha1::Digest;
use sha1::Sha1;

use super::PackError;

/// Length of the SHA-1 at the end of a pack, in bytes.
pub(super) const TRAILER: usize = 20;

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// A pack that is being read.
pub(super) struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    /// The part of the buffer that was read and not consumed.
    start: usize,
    end: usize,
    /// Where the consumed part of the buffer begins that was not hashed.
    hashed: usize,
    position: u64,
    hash: Sha1,
    /// Whether the source has ended.
    is_at_end: bool,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        Self::with_capacity(BUFFER, source)
    }

    /// Reads so many bytes at once.
    pub(super) fn with_capacity(capacity: usize, source: R) -> Self {
        let (buffer, hash) = (vec![0; capacity], Sha1::new());
        Self { source, buffer, start: 0, end: 0, hashed: 0, position: 0, hash, is_at_end: false }
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

    /// What comes next: so many bytes or more, unless the stream ends before.
    pub(super) fn ahead(&mut self, wanted: usize) -> Result<&[u8], PackError> {
        while self.end - self.start < wanted {
            if self.start + wanted > self.buffer.len() {
                self.make_room(wanted);
            }
            if self.read()? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Consumes bytes that were peeked at.
    pub(super) fn consume(&mut self, length: usize) {
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

    /// Consumes the trailer, which must be the hash of all bytes before it, and reads the stream to its end. git too
    /// accepts what comes after the trailer.
    pub(super) fn finish(mut self) -> Result<(), PackError> {
        self.hash_consumed();
        let hash: [u8; TRAILER] = std::mem::take(&mut self.hash).finalize().into();
        if self.array()? != hash {
            return Err(PackError::Damaged("its checksum does not match"));
        }
        while self.fill()? > 0 {}
        Ok(())
    }

    fn hash_consumed(&mut self) {
        self.hash.update(&self.buffer[self.hashed..self.start]);
        self.hashed = self.start;
    }

    /// Forgets what was consumed, so that the rest and what comes next fit into the buffer.
    fn make_room(&mut self, wanted: usize) {
        self.hash_consumed();
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end, self.hashed) = (0, self.end - self.start, 0);
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted, 0);
        }
    }

    /// Reads on after everything was consumed. Returns the number of bytes.
    fn fill(&mut self) -> Result<usize, PackError> {
        self.hash_consumed();
        (self.start, self.end, self.hashed) = (0, 0, 0);
        self.read()
    }

    /// Reads more. Returns the number of bytes.
    fn read(&mut self) -> Result<usize, PackError> {
        loop {
            if self.is_at_end {
                return Ok(0);
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => {
                    let length = outcome.map_err(PackError::Stream)?;
                    self.end += length;
                    self.is_at_end = length == 0;
                    return Ok(length);
                }
            }
        }
    }
}

//! The bytes of a pack: buffered, counted, and hashed for its trailer.

use std::io::ErrorKind;
use std::io::Read;

use sha1::Digest;
use sha1::Sha1;

use super::CHUNK;
use super::PackError;

/// Length of the SHA-1 at the end of a pack, in bytes.
pub(super) const TRAILER: usize = 20;

/// A pack that is being read.
pub(super) struct Input<R> {
    source: R,
    buffer: Box<[u8]>,
    /// The part of the buffer that was read and not consumed.
    start: usize,
    end: usize,
    /// Where the consumed part of the buffer begins that was not hashed.
    hashed: usize,
    position: u64,
    hash: Sha1,
}

impl<R: Read> Input<R> {
    pub(super) fn new(source: R) -> Self {
        Self::with_capacity(CHUNK, source)
    }

    /// Reads so many bytes at once.
    pub(super) fn with_capacity(capacity: usize, source: R) -> Self {
        let buffer = vec![0; capacity].into_boxed_slice();
        Self { source, buffer, start: 0, end: 0, hashed: 0, position: 0, hash: Sha1::new() }
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

    /// Reads on, and forgets what was read before. Returns the number of bytes.
    fn fill(&mut self) -> Result<usize, PackError> {
        self.hash_consumed();
        (self.start, self.end, self.hashed) = (0, 0, 0);
        self.end = loop {
            match self.source.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(PackError::Stream)?,
            }
        };
        Ok(self.end)
    }
}

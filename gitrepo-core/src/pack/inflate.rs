//! Inflates the objects of a pack.

use std::io::Read;

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

use super::CHUNK;
use super::PackError;
use super::input::Input;
use crate::sys::deflate::Decompressor;

/// Inflates one object after the other.
pub(super) struct Inflater {
    whole: Decompressor,
    stream: Decompress,
    piece: Box<[u8]>,
}

impl Inflater {
    pub(super) fn new() -> Result<Self, PackError> {
        let whole = Decompressor::new().ok_or(PackError::OutOfMemory)?;
        Ok(Self { whole, stream: Decompress::new(true), piece: vec![0; CHUNK].into_boxed_slice() })
    }

    /// Inflates what comes next in `input` into `output`, which it must fill exactly. `offset` is where the object begins.
    pub(super) fn fill<R: Read>(
        &mut self,
        input: &mut Input<R>,
        offset: u64,
        output: &mut [u8],
    ) -> Result<(), PackError> {
        let ahead = input.ahead(most_compressed(output.len()))?;
        if let Some(consumed) = self.whole.inflate(ahead, output) {
            input.consume(consumed);
            return Ok(());
        }
        // It is damaged, or compressed worse than storing it would be.
        let mut filled = 0;
        self.inflate(input, (offset, output.len() as u64), |piece| {
            output[filled..][..piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })
    }

    /// Inflates what comes next in `input`, which must be exactly `size` bytes, and passes it on piece by piece.
    /// `offset` is where the object begins.
    pub(super) fn inflate<R: Read>(
        &mut self,
        input: &mut Input<R>,
        (offset, size): (u64, u64),
        mut pass_on: impl FnMut(&[u8]) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let damaged = |what| PackError::Object { offset, what };
        self.stream.reset(true);
        loop {
            let (read_before, made_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(input.peek()?, &mut self.piece, FlushDecompress::None);
            let status = status.map_err(|_| damaged("cannot be inflated"))?;
            let read = as_length(self.stream.total_in() - read_before);
            let made = as_length(self.stream.total_out() - made_before);
            input.consume(read);
            if self.stream.total_out() > size {
                return Err(damaged("is larger than it says"));
            }
            pass_on(&self.piece[..made])?;
            match status {
                Status::StreamEnd if self.stream.total_out() == size => return Ok(()),
                Status::StreamEnd => return Err(damaged("is smaller than it says")),
                _ if read == 0 && made == 0 => return Err(damaged("cannot be inflated")),
                _ => {}
            }
        }
    }
}

/// What so many bytes take at most if they are compressed by any sensible program: it stores what does not shrink, in
/// blocks with a few bytes of overhead each.
fn most_compressed(size: usize) -> usize {
    size + size / 1000 + 64
}

/// A length of part of a buffer.
fn as_length(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

//! Inflates the objects of a pack.

use std::io::Read;

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

use super::CHUNK;
use super::PackError;
use super::input::Input;

/// Inflates one object after the other.
pub(super) struct Inflater {
    zlib: Decompress,
    piece: Box<[u8]>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true), piece: vec![0; CHUNK].into_boxed_slice() }
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
        self.zlib.reset(true);
        loop {
            let (read_before, made_before) = (self.zlib.total_in(), self.zlib.total_out());
            let status = self.zlib.decompress(input.peek()?, &mut self.piece, FlushDecompress::None);
            let status = status.map_err(|_| damaged("cannot be inflated"))?;
            let read = as_length(self.zlib.total_in() - read_before);
            let made = as_length(self.zlib.total_out() - made_before);
            input.consume(read);
            if self.zlib.total_out() > size {
                return Err(damaged("is larger than it says"));
            }
            pass_on(&self.piece[..made])?;
            match status {
                Status::StreamEnd if self.zlib.total_out() == size => return Ok(()),
                Status::StreamEnd => return Err(damaged("is smaller than it says")),
                _ if read == 0 && made == 0 => return Err(damaged("cannot be inflated")),
                _ => {}
            }
        }
    }
}

/// A length of part of a buffer.
fn as_length(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

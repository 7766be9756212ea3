//! Applies a delta: instructions that copy parts of a base, or insert bytes of their own (gitformat-pack(5)).

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;

use super::CHUNK;
use super::content::Content;

/// After how many bytes of a result to look whether it is still wanted.
const LOOK: u64 = 1 << 20;

/// Why a delta cannot be applied.
#[derive(Debug)]
pub(super) enum DeltaError {
    /// It is damaged, or made for another base.
    Damaged(&'static str),
    Disk(io::Error),
    /// The result is not wanted any more.
    Stopped,
}

impl From<io::Error> for DeltaError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("is a delta that is cut short"),
            _ => Self::Disk(error),
        }
    }
}

/// A delta whose header was read.
pub(super) struct Delta<'a> {
    base: &'a Content,
    instructions: Instructions<'a>,
    /// Size of the result, in bytes.
    pub(super) size: u64,
}

impl<'a> Delta<'a> {
    /// Reads the header of `delta`, which must have been made for `base`.
    pub(super) fn new(base: &'a Content, delta: &'a Content) -> Result<Self, DeltaError> {
        let mut instructions = Instructions::of(delta);
        if instructions.size()? != base.len() {
            return Err(DeltaError::Damaged("is a delta of another object"));
        }
        let size = instructions.size()?;
        Ok(Self { base, instructions, size })
    }

    /// Writes the result, as long as `is_wanted`: a few bytes can make gigabytes.
    pub(super) fn apply(self, result: &mut impl Write, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), DeltaError> {
        let Self { base, instructions: mut delta, size } = self;
        let mut left = size;
        let mut next_look = left.saturating_sub(LOOK);
        let mut piece = vec![0; usize::try_from(size).unwrap_or(CHUNK).min(CHUNK)];
        while let Some(instruction) = delta.optional_byte()? {
            let (length, from) = match instruction {
                0 => return Err(DeltaError::Damaged("is a delta with an unknown instruction")),
                insert if insert & 0x80 == 0 => (u64::from(insert), None),
                copy => {
                    let offset = delta.number(copy, 4)?;
                    let length = delta.number(copy >> 4, 3)?;
                    let length = if length == 0 { 0x10000 } else { length };
                    if offset + length > base.len() {
                        return Err(DeltaError::Damaged("is a delta that copies what its base does not have"));
                    }
                    (length, Some(offset))
                }
            };
            left = left.checked_sub(length).ok_or(DeltaError::Damaged("is a delta that makes more than it says"))?;
            if left < next_look {
                if !is_wanted() {
                    return Err(DeltaError::Stopped);
                }
                next_look = left.saturating_sub(LOOK);
            }
            let mut done = 0;
            while done < length {
                let wanted = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
                let part = &mut piece[..wanted];
                match from {
                    Some(offset) => base.read_exact_at(part, offset + done)?,
                    None => delta.source.read_exact(part)?,
                }
                result.write_all(part)?;
                done += wanted as u64;
            }
        }
        if left > 0 {
            return Err(DeltaError::Damaged("is a delta that makes less than it says"));
        }
        Ok(())
    }
}

/// The bytes of a delta.
struct Instructions<'a> {
    source: BufReader<Reader<'a>>,
}

impl<'a> Instructions<'a> {
    fn of(delta: &'a Content) -> Self {
        Self { source: BufReader::with_capacity(4096, Reader { content: delta, position: 0 }) }
    }

    fn optional_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.source.read(&mut byte)? == 1).then_some(byte[0]))
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.optional_byte()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// A size, seven bits in a byte.
    fn size(&mut self) -> Result<u64, DeltaError> {
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > 62 || bits << shift >> shift != bits {
                return Err(DeltaError::Damaged("is a delta without a sensible size"));
            }
            size |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
    }

    /// A number of up to `bytes` bytes, the lowest first, of which only those are there whose bit is set.
    fn number(&mut self, bits: u8, bytes: u32) -> io::Result<u64> {
        let mut number = 0;
        for place in (0..bytes).filter(|place| bits & (1 << place) != 0) {
            number |= u64::from(self.byte()?) << (8 * place);
        }
        Ok(number)
    }
}

/// Reads a content from its beginning.
struct Reader<'a> {
    content: &'a Content,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.len() - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(into.len());
        self.content.read_exact_at(&mut into[..wanted], self.position)?;
        self.position += wanted as u64;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn whole(bytes: &[u8]) -> Content {
        bytes.to_vec().into()
    }

    /// The same, in the middle of a file.
    fn part(bytes: &[u8]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(bytes).unwrap();
        file.write_all(b"after").unwrap();
        Content::Part { file: Arc::new(file), offset: 6, length: bytes.len() as u64 }
    }

    fn apply(base: &Content, delta: &Content) -> Result<Vec<u8>, DeltaError> {
        let mut result = Vec::new();
        Delta::new(base, delta)?.apply(&mut result, &mut || true)?;
        Ok(result)
    }

    #[test]
    fn a_large_result_that_is_not_wanted_any_more_is_given_up() {
        // The result is 1,024 times the base: 64 MiB.
        let base = whole(&[0; 1 << 16]);
        let mut delta = vec![0x80, 0x80, 0x04, 0x80, 0x80, 0x80, 0x20];
        delta.extend(std::iter::repeat_n(0x80, 1024));
        let delta = whole(&delta);
        let mut looks = 0;
        let mut result = Vec::new();
        let given_up = Delta::new(&base, &delta).unwrap().apply(&mut result, &mut || {
            looks += 1;
            looks < 3
        });
        assert!(matches!(given_up, Err(DeltaError::Stopped)), "{given_up:?}");
        assert!((2 << 20..4 << 20).contains(&result.len()), "{}", result.len());
        assert_eq!(apply(&base, &delta).unwrap().len(), 64 << 20);
    }

    #[test]
    fn parts_are_copied_and_inserted() {
        let base = b"0123456789".repeat(10_000);
        // The size of the base, 100,000, and of the result.
        let mut delta = vec![0xa0, 0x8d, 0x06, 0x8d, 0x80, 0x04];
        // Without a length 65,536 bytes are copied.
        delta.extend([0x80, 3, b'a', b'b', b'c', 0x91, 98, 10]);
        let expected = [&base[..65_536], b"abc", &base[98..108]].concat();
        assert_eq!(expected.len(), 65_549);
        for base in [whole(&base), part(&base)] {
            for delta in [whole(&delta), part(&delta)] {
                assert_eq!(apply(&base, &delta).unwrap(), expected);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let base = whole(b"0123456789");
        for (delta, words) in [
            (&[9, 1, 1, b'x'][..], "another object"),
            (&[10, 1, 2, b'x', b'y'], "more than it says"),
            (&[10, 3, 1, b'x'], "less than it says"),
            (&[10, 1, 0], "unknown instruction"),
            (&[10, 11, 0x90, 11], "does not have"),
            (&[10, 3, 0x91, 9, 3], "does not have"),
            (&[10, 3, 0x9f, 255, 255, 255, 255, 3], "does not have"),
            (&[10, 3, 3, b'x'], "cut short"),
            (&[10, 3, 0x91], "cut short"),
            (&[10], "cut short"),
            (&[], "cut short"),
            (&[0xff; 30], "sensible size"),
        ] {
            let Err(DeltaError::Damaged(what)) = apply(&base, &whole(delta)) else { panic!("{delta:?}") };
            assert!(what.contains(words), "{delta:?}: {what}");
        }
        assert_eq!(apply(&base, &whole(&[10, 0])).unwrap(), b"");
    }
}

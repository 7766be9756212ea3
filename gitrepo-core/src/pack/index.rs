//! Writes the index of a pack, version 2.

use std::io;
use std::io::BufWriter;
use std::io::Write;

use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use super::input::TRAILER;

const MAGIC: [u8; 8] = *b"\xfftOc\0\0\0\x02";

/// From here on an offset has 64 bits, in a table of its own.
const LONG: u64 = 1 << 31;

/// One object of the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) id: Oid,
    /// Checksum of the object as it stands in the pack.
    pub(super) crc: u32,
    /// Where it begins in the pack.
    pub(super) offset: u64,
}

/// Writes the index of the pack with this trailer. `lines` are sorted by their ids.
pub(super) fn write(lines: &[Line], trailer: [u8; TRAILER], to: impl Write) -> io::Result<()> {
    let mut to = Hashed { to: BufWriter::new(to), hash: Sha1::new() };
    to.write_all(&MAGIC)?;
    let mut upto = 0;
    for first in 0..=u8::MAX {
        upto += lines[upto..].iter().take_while(|line| line.id.as_bytes()[0] == first).count();
        to.write_all(&number(upto)?.to_be_bytes())?;
    }
    for line in lines {
        to.write_all(line.id.as_bytes())?;
    }
    for line in lines {
        to.write_all(&line.crc.to_be_bytes())?;
    }
    let mut long = Vec::new();
    for line in lines {
        let short = match u32::try_from(line.offset) {
            Ok(short) if line.offset < LONG => short,
            _ => {
                long.push(line.offset);
                number(long.len() - 1)? | 1 << 31
            }
        };
        to.write_all(&short.to_be_bytes())?;
    }
    for offset in long {
        to.write_all(&offset.to_be_bytes())?;
    }
    to.write_all(&trailer)?;
    let sum: [u8; TRAILER] = to.hash.finalize().into();
    to.to.write_all(&sum)?;
    to.to.flush()
}

fn number(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(io::Error::other)
}

struct Hashed<W> {
    to: W,
    hash: Sha1,
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

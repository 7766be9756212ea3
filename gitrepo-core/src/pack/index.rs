//! Writes the index of a pack, version 2.

use std::io;
use std::io::BufWriter;
use std::io::Write;

use super::input::TRAILER;
use crate::content::Hashed;
use git2::Oid;

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
pub(super) fn write<L>(lines: L, trailer: [u8; TRAILER], to: impl Write) -> io::Result<()>
where
    L: ExactSizeIterator<Item = Line> + Clone,
{
    let mut to = Hashed::new(BufWriter::new(to));
    to.write_all(&MAGIC)?;
    let mut counts = [0_u32; 256];
    for line in lines.clone() {
        counts[usize::from(line.id.as_bytes()[0])] += 1;
    }
    let mut up_to = 0;
    for count in counts {
        up_to += count;
        to.write_all(&up_to.to_be_bytes())?;
    }
    for line in lines.clone() {
        to.write_all(line.id.as_bytes())?;
    }
    for line in lines.clone() {
        to.write_all(&line.crc.to_be_bytes())?;
    }
    let mut long = Vec::new();
    for line in lines {
        let short = match u32::try_from(line.offset) {
            Ok(short) if line.offset < LONG => short,
            _ => {
                long.push(line.offset);
                u32::try_from(long.len() - 1).map_err(io::Error::other)? | 1 << 31
            }
        };
        to.write_all(&short.to_be_bytes())?;
    }
    for offset in long {
        to.write_all(&offset.to_be_bytes())?;
    }
    to.write_all(&trailer)?;
    to.finish().map(drop)
}

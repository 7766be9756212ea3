//! Header compression of HTTP/2 (RFC 7541), as far as a rewriter needs it: full decoding, but encoding only as literals
//! that leave the peer's table unchanged.
//!
//! No crate fits: h2's own is private, `hpack` is unmaintained and panics (RUSTSEC-2023-0084, RUSTSEC-2023-0085), and
//! its forks have had no release for years.

mod huffman;
mod table;

use table::HeaderTable;

/// Why a header block cannot be decoded. The connection must end: its compression state is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The block ends inside a field.
    #[error("the header block ends inside a field")]
    Truncated,
    /// A number is larger than any header block may be.
    #[error("a number in the header block is too large")]
    Number,
    /// The block refers to a table entry that does not exist.
    #[error("the header block names the table entry {0}, which does not exist")]
    Index(usize),
    /// The client asks for a larger table than the server allows.
    #[error("the header block asks for a table of {0} bytes")]
    TableSize(usize),
    /// A table size update is not at the start of the block.
    #[error("the header block changes the table's size between fields")]
    LateTableSize,
    /// Some bits are not a Huffman code.
    #[error("the header block holds an invalid Huffman code")]
    Huffman,
}

/// Decodes the header blocks of one direction of one connection, in order.
#[derive(Debug)]
pub(super) struct Decoder {
    table: HeaderTable,
}

/// A field of a header block.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// This field must not enter a table, not even when it is passed on (RFC 7541, 7.1.3).
    pub(super) never_indexed: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { table: HeaderTable::new() }
    }

    /// Decodes a whole block and calls `each` with every field. An error of `each` ends the decoding.
    pub(super) fn decode<E: From<Malformed>>(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = block;
        let mut fields = false;
        while let Some(first) = rest.first().copied() {
            match first {
                0x80.. => {
                    let (name, value) = self.table.get(number(&mut rest, 7)?)?;
                    each(Field { name, value, never_indexed: false })?;
                }
                0x40..0x80 => {
                    let (name, value) = self.literal(&mut rest, 6)?;
                    each(Field { name: &name, value: &value, never_indexed: false })?;
                    self.table.insert(name, value);
                }
                0x20..0x40 if fields => return Err(Malformed::LateTableSize.into()),
                0x20..0x40 => {
                    self.table.resize(number(&mut rest, 5)?)?;
                    continue;
                }
                0x00..0x20 => {
                    let (name, value) = self.literal(&mut rest, 4)?;
                    each(Field { name: &name, value: &value, never_indexed: first & 0x10 != 0 })?;
                }
            }
            fields = true;
        }
        Ok(())
    }

    /// Decodes a literal: its name, from a table or spelled out, and its value.
    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let name = match number(rest, prefix)? {
            0 => string(rest)?,
            index => self.table.get(index)?.0.to_vec(),
        };
        Ok((name, string(rest)?))
    }
}

/// Reads a number: the low `prefix` bits of the next byte, and further bytes if all these bits are set (RFC 7541, 5.1).
fn number(rest: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let mask = (1_u8 << prefix) - 1;
    let mut value = usize::from(byte(rest)? & mask);
    if value < usize::from(mask) {
        return Ok(value);
    }
    // Four bytes hold numbers below 2^28, more than the length of any accepted header block.
    for shift in [0, 7, 14, 21] {
        let next = byte(rest)?;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed::Number)
}

/// Reads a length and that many bytes, plain or Huffman coded (RFC 7541, 5.2).
fn string(rest: &mut &[u8]) -> Result<Vec<u8>, Malformed> {
    let is_huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
    *rest = after;
    if is_huffman { huffman::decode(bytes) } else { Ok(bytes.to_vec()) }
}

fn byte(rest: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, after) = rest.split_first().ok_or(Malformed::Truncated)?;
    *rest = after;
    Ok(*first)
}

/// Appends a field as a literal that does not enter any table.
pub(super) fn encode(field: &Field<'_>, into: &mut Vec<u8>) {
    into.push(if field.never_indexed { 0x10 } else { 0x00 });
    for bytes in [field.name, field.value] {
        encode_length(bytes.len(), into);
        into.extend_from_slice(bytes);
    }
}

/// Writes the length of a string that is not Huffman coded, with a prefix of seven bits.
fn encode_length(length: usize, into: &mut Vec<u8>) {
    if length < 0x7f {
        into.push(length as u8);
        return;
    }
    into.push(0x7f);
    let mut rest = length - 0x7f;
    while rest >= 0x80 {
        into.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

#[cfg(test)]
mod tests;

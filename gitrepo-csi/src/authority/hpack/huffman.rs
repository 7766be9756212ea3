//! The fixed Huffman code of header strings (RFC 7541, appendix B).
//!
//! The code is canonical: codes of one length are in the order of their symbols, and each length continues where the
//! shorter one ended. So the lengths determine the whole code.

use super::Malformed;

/// The end-of-string symbol; a string that contains it is an error (RFC 7541, 5.2).
const END: u16 = 256;

/// The longest code, in bits.
const LONGEST: usize = 30;

/// The code length of each byte in bits, then that of [`END`].
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The code, ordered by length.
struct Code {
    /// The first code of each length.
    first: [u32; LONGEST + 1],
    /// How many codes have each length.
    count: [u32; LONGEST + 1],
    /// The index in `symbols` at which the symbols of each length begin.
    start: [usize; LONGEST + 1],
    symbols: [u16; 257],
}

static CODE: Code = canonical();

const fn canonical() -> Code {
    let mut code =
        Code { first: [0; LONGEST + 1], count: [0; LONGEST + 1], start: [0; LONGEST + 1], symbols: [0; 257] };
    let mut next = 0;
    let mut assigned = 0;
    let mut length = 1;
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.start[length] = assigned;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[assigned] = symbol as u16;
                code.count[length] += 1;
                assigned += 1;
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
}

/// Decodes a string. The padding of its last byte must be the beginning of the longest code: at most seven ones.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut decoded = Vec::with_capacity(bytes.len() * 8 / 5);
    let mut bits: u32 = 0;
    let mut length: usize = 0;
    for byte in bytes {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            length += 1;
            let Some(symbol) = symbol(bits, length)? else { continue };
            decoded.push(symbol);
            bits = 0;
            length = 0;
        }
    }
    let padding = (1 << length.min(8)) - 1;
    if length > 7 || bits != padding {
        return Err(Malformed::Huffman);
    }
    Ok(decoded)
}

/// Returns the byte that has this code, or `None` if the bits are only the beginning of a code.
fn symbol(bits: u32, length: usize) -> Result<Option<u8>, Malformed> {
    let (Some(first), Some(count)) = (CODE.first.get(length), CODE.count.get(length)) else {
        return Err(Malformed::Huffman);
    };
    let rank = bits.wrapping_sub(*first);
    if rank >= *count {
        return Ok(None);
    }
    match CODE.symbols[CODE.start[length] + rank as usize] {
        END => Err(Malformed::Huffman),
        byte => Ok(Some(byte as u8)),
    }
}

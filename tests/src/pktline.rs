//! Git's pkt-line framing (gitprotocol-common), as far as hostile servers need it.

use std::iter;

/// The flush packet, which ends a section.
pub const FLUSH: &[u8] = b"0000";

/// A packet. Content is at most 65,516 bytes.
pub fn packet(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut packet = format!("{:04x}", content.len() + 4).into_bytes();
    packet.extend_from_slice(content);
    packet
}

/// A packet of the side band `number`: 1 for the pack, 2 for progress, 3 for errors.
pub fn band(number: u8, content: &[u8]) -> Vec<u8> {
    packet([&[number], content].concat())
}

/// The ranges of packets' contents in a stream; stops at the first non-packet.
pub fn contents(stream: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut at = 0;
    iter::from_fn(move || {
        loop {
            let digits = str::from_utf8(stream.get(at..at + 4)?).ok()?;
            let length = usize::from_str_radix(digits, 16).ok()?;
            let start = at + 4;
            // Only special packets are shorter than their length field: flush, delimiter, end of answer.
            at += length.max(4);
            if length > 4 && at <= stream.len() {
                return Some(start..at);
            }
        }
    })
}

/// Where the pack begins in an answer of `git-upload-pack`.
pub fn find_pack(answer: &[u8]) -> Option<usize> {
    const BEGINNING: &[u8] = b"PACK\0\0\0\x02";
    answer.windows(BEGINNING.len()).position(|bytes| bytes == BEGINNING)
}

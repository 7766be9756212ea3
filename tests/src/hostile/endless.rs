//! Endless answers.

use std::io;
use std::time::Duration;

use super::foreign;
use crate::fixtures;
use crate::http::Answer;
use crate::http::Ending;
use crate::http::Request;
use crate::http::Wire;
use crate::http::message;
use crate::pktline;

/// The number of objects that an endless pack announces. With 32 KiB each the last one never arrives, and a client can
/// still allocate an index of them.
const OBJECTS: u32 = 1_000_000;

/// The ref advertisement announces new branches for ever.
pub fn advertisement_never_ends() -> impl Fn(&Request) -> Answer {
    |request| {
        if !request.is_info_refs() {
            return Answer::Git;
        }
        Answer::raw(|wire| {
            begin(wire, "application/x-git-upload-pack-advertisement")?;
            message::write_chunk(wire, &pktline::packet("# service=git-upload-pack\n"))?;
            message::write_chunk(wire, pktline::FLUSH)?;
            let id = "a11ce".repeat(8);
            message::write_chunk(wire, &pktline::packet(format!("{id} HEAD\0side-band-64k ofs-delta shallow\n")))?;
            for number in 0_u64.. {
                let refs = (0..1000).map(|part| format!("{id} refs/heads/branch-{number:015}{part:03}\n"));
                message::write_chunk(wire, &refs.flat_map(pktline::packet).collect::<Vec<_>>())?;
            }
            Ok(Ending::Broken)
        })
    }
}

/// The pack has complete new incompressible objects for ever.
pub fn pack_never_ends() -> impl Fn(&Request) -> Answer {
    |request| {
        endless_answer(request, |wire| {
            message::write_chunk(wire, &pktline::band(1, &pack_header()))?;
            let mut content = fixtures::noise(1, 32 << 10);
            for number in 0..OBJECTS {
                content[..4].copy_from_slice(&number.to_le_bytes());
                message::write_chunk(wire, &pktline::band(1, &packed_blob(&content)))?;
            }
            Ok(Ending::Broken)
        })
    }
}

/// Instead of a pack, the server sends progress messages for ever.
pub fn progress_never_ends() -> impl Fn(&Request) -> Answer {
    |request| {
        endless_answer(request, |wire| {
            let words = pktline::band(2, "Counting objects: still counting\r".repeat(1000).as_bytes());
            loop {
                message::write_chunk(wire, &words)?;
            }
        })
    }
}

/// The pack arrives at one byte per `interval`: never silent for long and never complete.
pub fn pack_trickles(interval: Duration) -> impl Fn(&Request) -> Answer {
    move |request| {
        endless_answer(request, move |wire| {
            message::write_chunk(wire, &pktline::band(1, &pack_header()))?;
            let objects = (0_u8..).flat_map(|number| pktline::band(1, &packed_blob(&[number; 1000])));
            for byte in objects {
                if wire.hung_up_within(interval) {
                    break;
                }
                message::write_chunk(wire, &[byte])?;
            }
            Ok(Ending::Broken)
        })
    }
}

/// The answer to a pack request, up to the beginning of the pack; to any other, git's.
fn endless_answer(request: &Request, rest: impl Fn(&mut Wire) -> io::Result<Ending> + Send + Sync + 'static) -> Answer {
    if !request.is_upload_pack() {
        return Answer::Git;
    }
    let (preamble, pack) = (foreign::preamble(&request.body), foreign::wants_pack(&request.body));
    Answer::raw(move |wire| {
        begin(wire, "application/x-git-upload-pack-result")?;
        if !preamble.is_empty() {
            message::write_chunk(wire, &preamble)?;
        }
        if pack { rest(wire) } else { message::write_chunk(wire, &[]).map(|()| Ending::Complete) }
    })
}

/// The head of an answer of unknown length: chunked, the only form that libgit2 supports.
fn begin(wire: &mut Wire, content_type: &str) -> io::Result<()> {
    message::write_head(wire, 200, &[("Content-Type".to_owned(), content_type.to_owned())])
}

fn pack_header() -> Vec<u8> {
    [b"PACK\0\0\0\x02".as_slice(), &OBJECTS.to_be_bytes()].concat()
}

/// A blob of less than 64 KiB in a pack: its size, and a zlib stream of stored blocks.
fn packed_blob(content: &[u8]) -> Vec<u8> {
    const BLOB: u8 = 3;
    let mut size = content.len();
    let mut entry = vec![BLOB << 4 | u8::try_from(size & 0xf).unwrap()];
    size >>= 4;
    while size > 0 {
        *entry.last_mut().unwrap() |= 0x80;
        entry.push(u8::try_from(size & 0x7f).unwrap());
        size >>= 7;
    }
    let length = u16::try_from(content.len()).unwrap();
    entry.extend_from_slice(&[0x78, 0x01, 0x01]);
    entry.extend_from_slice(&length.to_le_bytes());
    entry.extend_from_slice(&(!length).to_le_bytes());
    entry.extend_from_slice(content);
    entry.extend_from_slice(&adler32(content).to_be_bytes());
    entry
}

/// The checksum of zlib (RFC 1950).
fn adler32(content: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (low, high) = content.iter().fold((1, 0), |(low, high), &byte| {
        let low = (low + u32::from(byte)) % MODULUS;
        (low, (high + low) % MODULUS)
    });
    high << 16 | low
}

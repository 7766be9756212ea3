//! A server's answers, and how they fail.

use std::io;
use std::io::Read;

use super::packet::Packet;
use super::packet::Packets;
use super::packet::header;
use super::packet::text;
use crate::error::Cause;
use crate::pack::MOST_BOUNDARIES;
use crate::remote::advertisement::Advertisement;
use crate::remote::advertisement::ListTooLong;
use crate::spec::CommitId;

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    /// The stream fails or ends.
    #[error(transparent)]
    Stream(#[from] io::Error),
    /// The server says why, in its own words.
    #[error("it says: {0}")]
    Said(Cause),
    /// This is not git's protocol.
    #[error("{0}")]
    Nonsense(String),
}

impl From<ListTooLong> for AnswerError {
    fn from(error: ListTooLong) -> Self {
        Self::Nonsense(error.to_string())
    }
}

impl AnswerError {
    /// From the error of a [`Pack`], which may have another one inside.
    pub(super) fn from_stream(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Stream)
    }

    /// From the server's words.
    pub(super) fn said(words: &[u8]) -> Self {
        Self::Said(Cause::new(String::from_utf8_lossy(words)))
    }
}

pub(super) fn nonsense(what: &str) -> AnswerError {
    AnswerError::Nonsense(what.to_owned())
}

/// The 40 hexadecimal digits of an object's id.
pub(super) fn commit_id(digits: &[u8]) -> Result<CommitId, AnswerError> {
    let id = std::str::from_utf8(digits).ok().and_then(|digits| CommitId::parse(digits).ok());
    id.ok_or_else(|| nonsense("it sends an object id that has not 40 hexadecimal digits"))
}

/// Reads the answer to `ls-refs` (gitprotocol-v2(5)).
pub(super) fn read_refs(packets: &mut Packets<'_>) -> Result<Advertisement, AnswerError> {
    let mut refs = Advertisement::default();
    loop {
        let data = match packets.next()? {
            Packet::Data(data) => data,
            Packet::Flush | Packet::ResponseEnd => return Ok(refs),
            Packet::Delimiter => return Err(nonsense("a list of refs has no sections")),
        };
        let line = text(data);
        if let Some(words) = line.strip_prefix(b"ERR ") {
            return Err(AnswerError::said(words));
        }
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(id), Some(name)) = (words.next(), words.next()) else {
            return Err(nonsense("a ref's line has no name"));
        };
        let (mut symref, mut peeled) = (None, None);
        for attribute in words {
            if let Some(target) = attribute.strip_prefix(b"symref-target:") {
                symref = Some(target);
            } else if let Some(id) = attribute.strip_prefix(b"peeled:") {
                peeled = Some(commit_id(id)?);
            }
        }
        match id {
            b"unborn" if name == b"HEAD" => refs.set_default_branch(symref.unwrap_or_default()),
            id => refs.add(name, commit_id(id)?, peeled, symref)?,
        }
    }
}

/// What comes before the pack in the answer to a fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Boundary {
    /// Commits whose parents are not sent.
    pub(super) shallow: Vec<CommitId>,
    /// Commits whose parents are there now.
    pub(super) unshallow: Vec<CommitId>,
}

/// Reads the answer to a fetch up to the pack, of any version of the protocol. `banded` tells whether a side band was
/// asked for, as version 2 always does.
///
/// Before version 2 there are no section headers, and a flush ends what version 2 ends with a delimiter. Since each line
/// tells what it is, one loop reads both. Before version 2, more acknowledgements may follow the first: [`Pack`] skips
/// them.
pub(super) fn read_to_pack<'a>(mut packets: Packets<'a>, banded: bool) -> Result<(Boundary, Pack<'a>), AnswerError> {
    let mut boundary = Boundary::default();
    loop {
        let line = match packets.next()? {
            Packet::Data(data) => text(data),
            Packet::Flush | Packet::Delimiter => continue,
            Packet::ResponseEnd => return Err(nonsense("its answer has no pack")),
        };
        if let Some(words) = line.strip_prefix(b"ERR ") {
            return Err(AnswerError::said(words));
        } else if let Some(id) = line.strip_prefix(b"shallow ") {
            push(&mut boundary.shallow, id)?;
        } else if let Some(id) = line.strip_prefix(b"unshallow ") {
            push(&mut boundary.unshallow, id)?;
        } else if line == b"packfile" || line == b"NAK" || line.starts_with(b"ACK ") {
            return Ok((boundary, Pack::new(packets.stream(), banded)));
        } else if line != b"shallow-info" {
            return Err(nonsense("a line before the pack is of no known kind"));
        }
    }
}

fn push(ids: &mut Vec<CommitId>, digits: &[u8]) -> Result<(), AnswerError> {
    if ids.len() == MOST_BOUNDARIES {
        return Err(nonsense("its history is cut in too many places"));
    }
    ids.push(commit_id(digits)?);
    Ok(())
}

/// The bytes of a pack, out of the side bands.
pub(super) struct Pack<'a> {
    stream: &'a mut dyn Read,
    banded: bool,
    /// Whether the first bytes have come.
    begun: bool,
    /// Without side bands: what was read to find the first bytes, and how much of it is left.
    start: ([u8; 4], usize),
    /// Bytes of the current packet that were not read.
    left: usize,
    ended: bool,
}

impl<'a> Pack<'a> {
    fn new(stream: &'a mut dyn Read, banded: bool) -> Self {
        Self { stream, banded, begun: false, start: ([0; 4], 0), left: 0, ended: false }
    }

    /// Skips acknowledgements before a pack without side bands, which begins with "PACK" and not with a length.
    fn begin(&mut self) -> Result<(), AnswerError> {
        while !self.begun {
            let mut start = [0; 4];
            self.stream.read_exact(&mut start)?;
            if &start == b"PACK" {
                self.start = (start, start.len());
                self.begun = true;
            } else {
                match header(&mut start.as_slice())? {
                    length @ 4.. => drop(self.message(length - 4)?),
                    _ => return Err(nonsense("its answer has no pack")),
                }
            }
        }
        Ok(())
    }

    /// Reads up to the next packet of the pack.
    fn advance(&mut self) -> Result<(), AnswerError> {
        while self.left == 0 && !self.ended {
            match header(self.stream)? {
                0 | 2 => self.ended = true,
                length @ 5.. => {
                    let mut band = [0];
                    self.stream.read_exact(&mut band)?;
                    match band[0] {
                        1 => {
                            self.begun = true;
                            self.left = length - 5;
                        }
                        // "ACK" and "NAK".
                        b'A' | b'N' if !self.begun => drop(self.message(length - 5)?),
                        2 => drop(self.message(length - 5)?),
                        3 => return Err(AnswerError::said(&self.message(length - 5)?)),
                        _ => return Err(nonsense("a packet of the pack is in no band")),
                    }
                }
                _ => return Err(nonsense("a packet of the pack has no band")),
            }
        }
        Ok(())
    }

    /// What the server says beside the pack.
    fn message(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message)?;
        Ok(message)
    }
}

impl Read for Pack<'_> {
    /// Fails with an [`AnswerError`] inside if the server does.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = if self.banded { self.advance() } else { self.begin() };
        step.map_err(|error| match error {
            AnswerError::Stream(error) => error,
            error => io::Error::other(error),
        })?;
        if !self.banded {
            let (start, left) = self.start;
            let length = buffer.len().min(left);
            if length == 0 {
                return self.stream.read(buffer);
            }
            let from = start.len() - left;
            buffer[..length].copy_from_slice(&start[from..from + length]);
            self.start.1 -= length;
            return Ok(length);
        }
        let length = buffer.len().min(self.left);
        if length == 0 {
            return Ok(0);
        }
        match self.stream.read(&mut buffer[..length])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.left -= length;
                Ok(length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::FLUSH;
    use super::super::packet::append;
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn message(parts: &[&str]) -> Vec<u8> {
        let mut message = Vec::new();
        for part in parts {
            match *part {
                "0000" | "0001" => message.extend_from_slice(part.as_bytes()),
                part => append(&mut message, part),
            }
        }
        message
    }

    fn pack(message: &[u8], banded: bool) -> Result<(Boundary, Vec<u8>), String> {
        let mut stream = message;
        let packets = Packets::new(&mut stream);
        let (boundary, mut pack) = read_to_pack(packets, banded).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        pack.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok((boundary, bytes))
    }

    #[test]
    fn a_pack_is_read_whatever_the_version() {
        let cut = format!("shallow {ID}\n");
        let grown = format!("unshallow {ID}\n");
        let id = CommitId::parse(ID).unwrap();
        let bands = ["\u{2}counting\n", "\u{1}PACK", "\u{1}", "\u{2}", "\u{1}rest", "0000"];
        let boundary = Boundary { shallow: vec![id], unshallow: vec![id] };
        for start in [
            &["shallow-info\n", &cut, &grown, "0001", "packfile\n"][..],
            &[&cut, &grown, "0000", "NAK\n"],
            &[&cut, &grown, "0000", &format!("ACK {ID}\n")],
            &[&cut, &grown, "0000", &format!("ACK {ID}\n"), &format!("ACK {ID}\n"), "NAK\n"],
        ] {
            let parts = [start, &bands].concat();
            let read = pack(&message(&parts), true).unwrap();
            assert_eq!(read, (boundary.clone(), b"PACKrest".to_vec()));
        }
        for acknowledgements in [&["NAK\n"][..], &["NAK\n", &format!("ACK {ID}\n")]] {
            let mut plain = message(acknowledgements);
            plain.extend_from_slice(b"PACKrest");
            assert_eq!(pack(&plain, false).unwrap(), (Boundary::default(), b"PACKrest".to_vec()));
        }
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        for (parts, words) in [
            (&["ERR upload-pack: not our ref 01"][..], "it says: upload-pack: not our ref 01"),
            (&["packfile\n", "\u{1}PACK", "\u{3}disk \u{7}full\n"], "it says: disk  full"),
            (&["packfile\n", "\u{1}PACK"], "failed to fill whole buffer"),
            (&["packfile\n", "\u{4}x"], "a packet of the pack is in no band"),
            (&["packfile\n", "0001"], "a packet of the pack has no band"),
            (&["hello\n"], "a line before the pack is of no known kind"),
            (&["shallow x\n"], "it sends an object id that has not 40 hexadecimal digits"),
        ] {
            assert_eq!(pack(&message(parts), true).unwrap_err(), words);
        }
    }

    #[test]
    fn refs_are_read_with_what_they_point_to() {
        let lines = [
            &format!("{ID} HEAD symref-target:refs/heads/main\n"),
            &format!("{ID} refs/tags/v1 peeled:{}\n", ID.replace('0', "f")),
            "0000",
        ];
        let bytes = message(&lines);
        let mut stream = bytes.as_slice();
        let refs = read_refs(&mut Packets::new(&mut stream)).unwrap();
        assert_eq!(refs.len(), 2);
    }

    proptest! {
        #[test]
        fn any_answer_ends_without_a_panic(bytes in any::<Vec<u8>>(), text in "(000[0-9a-f]|[0-9a-f]{4}|ACK |shallow |\u{1}|\u{3}){0,20}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                for banded in [true, false] {
                    drop(pack(bytes, banded));
                }
                let mut stream = bytes;
                drop(read_refs(&mut Packets::new(&mut stream)));
                let mut with_flush = bytes.to_vec();
                with_flush.extend_from_slice(FLUSH);
                let mut stream = with_flush.as_slice();
                drop(super::super::hello::Hello::read(&mut Packets::new(&mut stream)));
            }
        }
    }
}

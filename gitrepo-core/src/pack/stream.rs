//! The stream of objects from the process that receives a pack to the process that keeps it.
//!
//! The receiver claims only the type and the length of an object. Whoever keeps it computes its id and chooses its place,
//! and answers with both.
//!
//! | byte | what follows | meaning |
//! |---|---|---|
//! | `p` | | A pack begins. |
//! | `b`, `c`, `t`, `g` | its length, its content | A blob, commit, tree or tag. |
//! | `?` | | Asks for the id and the place of each object since the last question. |
//! | `e` | | The pack ends. Answered by a `k` once it is kept. |
//! | `a` | a `c` or `t`, its length, its content | Between packs: a commit or tree [above](super::above) a directory. |
//! | `s` | their number, their ids | The commits whose parents the server did not send. |
//! | `.` | | The fetch ends. |
//!
//! Numbers have 8 bytes, big-endian.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::MOST_BOUNDARIES;
use super::PackError;
use super::Places;

pub(super) const PACK: u8 = b'p';
pub(super) const REPORT: u8 = b'?';
pub(super) const END: u8 = b'e';
pub(super) const ABOVE: u8 = b'a';
pub(super) const BOUNDARY: u8 = b's';
pub(super) const DONE: u8 = b'.';

/// The answer to [`END`].
pub(super) const KEPT: u8 = b'k';

/// Length of what precedes an object's content, in bytes.
pub(super) const HEAD: usize = 1 + 8;

/// Length of an id and a place, in bytes.
const ANSWER: usize = 20 + 8;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// What precedes the content of an object of this length.
pub(super) fn head(kind: ObjectType, length: u64) -> [u8; HEAD] {
    let command = match kind {
        ObjectType::Commit => b'c',
        ObjectType::Tree => b't',
        ObjectType::Tag => b'g',
        _ => b'b',
    };
    let mut head = [command; HEAD];
    head[1..].copy_from_slice(&length.to_be_bytes());
    head
}

/// The type of object that a command brings.
pub(super) fn kind(command: u8) -> Option<ObjectType> {
    match command {
        b'b' => Some(ObjectType::Blob),
        b'c' => Some(ObjectType::Commit),
        b't' => Some(ObjectType::Tree),
        b'g' => Some(ObjectType::Tag),
        _ => None,
    }
}

/// The receiver's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    to: PipeWriter,
    from: BufReader<PipeReader>,
    /// Where the objects are kept, for reading.
    pub(super) places: Places,
    /// Whether a pack was begun and not finished: what follows would be taken for the rest of it.
    is_broken: bool,
}

impl Outlet {
    /// Sends to `to` and reads answers from `from`. The objects can be read in `places`.
    pub(crate) fn new(to: PipeWriter, from: PipeReader, places: Places) -> Self {
        Self { to, from: BufReader::new(from), places, is_broken: false }
    }

    /// The repository in which the objects are kept.
    pub(crate) fn kept(&self) -> &Path {
        // The packs are in `objects/pack`.
        self.places.packs.parent().and_then(Path::parent).unwrap_or(&self.places.packs)
    }

    pub(super) fn begin_pack(&mut self) -> Result<(), PackError> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(PackError::HandOver(io::Error::other("the pack before it is not complete")));
        }
        self.send(&[PACK])
    }

    /// Waits until the pack is kept.
    pub(super) fn end_pack(&mut self) -> Result<(), PackError> {
        self.send(&[END])?;
        let mut answer = [0];
        self.from.read_exact(&mut answer).map_err(PackError::HandOver)?;
        self.is_broken = false;
        if answer == [KEPT] { Ok(()) } else { Err(PackError::HandOver(io::ErrorKind::InvalidData.into())) }
    }

    /// Hands over one object.
    pub(crate) fn hand_over(&mut self, kind: ObjectType, content: &[u8]) -> Result<(), PackError> {
        self.begin_pack()?;
        self.send(&head(kind, content.len() as u64))?;
        self.send(content)?;
        self.end_pack()
    }

    /// Hands over a commit or tree that is above what is fetched, and is not kept.
    pub(crate) fn hand_over_above(&mut self, kind: ObjectType, content: &[u8]) -> Result<(), PackError> {
        if self.is_broken {
            return Err(PackError::HandOver(io::Error::other("the pack before it is not complete")));
        }
        self.send(&[ABOVE])?;
        self.send(&head(kind, content.len() as u64))?;
        self.send(content)
    }

    /// Whether a pack broke off, so that nothing more can be handed over.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Asks for the id and the place of each of the next `count` objects, and passes them on.
    pub(super) fn ask(&mut self, count: usize, mut each: impl FnMut(usize, Oid, u64)) -> Result<(), PackError> {
        self.send(&[REPORT])?;
        for number in 0..count {
            let mut answer = [0; ANSWER];
            self.from.read_exact(&mut answer).map_err(PackError::HandOver)?;
            let id = Oid::from_bytes(&answer[..20]).unwrap_or(Oid::ZERO_SHA1);
            each(number, id, u64::from_be_bytes(std::array::from_fn(|byte| answer[20 + byte])));
        }
        Ok(())
    }

    /// Ends the fetch, with the commits whose parents the server did not send.
    pub(crate) fn finish(&mut self, boundary: &[Oid]) -> Result<(), PackError> {
        let mut message = vec![BOUNDARY];
        message.extend((boundary.len() as u64).to_be_bytes());
        boundary.iter().for_each(|id| message.extend(id.as_bytes()));
        message.push(DONE);
        self.send(&message)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.to.write_all(bytes).map_err(PackError::HandOver)
    }
}

/// The other end. Nothing that comes out of it is trusted.
#[derive(Debug)]
pub(crate) struct Inlet {
    from: BufReader<PipeReader>,
    to: PipeWriter,
}

impl Inlet {
    /// Reads from `from` and answers to `to`.
    pub(crate) fn new(from: PipeReader, to: PipeWriter) -> Self {
        Self { from: BufReader::with_capacity(BUFFER, from), to }
    }

    /// Waits until the receiver has begun to send.
    pub(crate) fn wait(&mut self) -> Result<(), PackError> {
        self.fill().map(drop)
    }

    pub(super) fn command(&mut self) -> Result<u8, PackError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, PackError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn ids(&mut self) -> Result<Vec<Oid>, PackError> {
        let count = self.number()?;
        if count > MOST_BOUNDARIES as u64 {
            return Err(PackError::HandOver(io::Error::new(io::ErrorKind::InvalidData, "the boundary is too long")));
        }
        (0..count).map(|_| Ok(Oid::from_bytes(&self.array::<20>()?).unwrap_or(Oid::ZERO_SHA1))).collect()
    }

    /// Passes the content of an object on, piece by piece.
    pub(super) fn content(
        &mut self,
        length: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let mut left = length;
        while left > 0 {
            let there = self.fill()?;
            let piece = &there[..usize::try_from(left).unwrap_or(usize::MAX).min(there.len())];
            each(piece)?;
            let length = piece.len();
            self.from.consume(length);
            left -= length as u64;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, answers: impl Iterator<Item = (Oid, u64)>) -> Result<(), PackError> {
        let mut to = io::BufWriter::new(&mut self.to);
        for (id, place) in answers {
            to.write_all(id.as_bytes())
                .and_then(|()| to.write_all(&place.to_be_bytes()))
                .map_err(PackError::HandOver)?;
        }
        to.flush().map_err(PackError::HandOver)
    }

    pub(super) fn confirm(&mut self) -> Result<(), PackError> {
        self.to.write_all(&[KEPT]).map_err(PackError::HandOver)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let mut array = [0; N];
        self.from.read_exact(&mut array).map_err(PackError::HandOver)?;
        Ok(array)
    }

    /// What was read: at least one byte.
    fn fill(&mut self) -> Result<&[u8], PackError> {
        match self.from.fill_buf() {
            Ok([]) => Err(PackError::HandOver(io::ErrorKind::UnexpectedEof.into())),
            Ok(there) => Ok(there),
            Err(error) => Err(PackError::HandOver(error)),
        }
    }
}

/// The two ends of a new stream, for objects that are kept in `places`.
pub(crate) fn pipes(places: Places) -> io::Result<(Outlet, Inlet)> {
    let ((from, to), (answers, answer)) = (io::pipe()?, io::pipe()?);
    Ok((Outlet::new(to, answers, places), Inlet::new(from, answer)))
}

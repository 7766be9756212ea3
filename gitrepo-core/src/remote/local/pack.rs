//! Writes a pack (gitformat-pack(5)) while it is read: one object at a time, and large blobs piece by piece.
//!
//! libgit2 packs too, but holds each blob whole in memory. No object becomes a delta here: the pack only crosses from one
//! directory of this machine to another.

use std::io;
use std::io::Cursor;
use std::io::Read;
use std::path::Path;
use std::slice::Iter;

use flate2::Compression;
use flate2::read::ZlibEncoder;
use git2::ErrorClass;
use git2::ObjectType;
use git2::Odb;
use git2::OdbObject;
use git2::Oid;
use sha1::Digest;
use sha1::Sha1;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::object::large;
use crate::object::large::LARGE;
use crate::pack::header;

/// How a pack begins: "PACK", and the version 2. The number of objects follows.
const START: [u8; 8] = *b"PACK\0\0\0\x02";

/// The level of compression. At its fastest, 1, zlib-ng writes a third more in about the same time; at its default, 6,
/// hardly less.
const LEVEL: u32 = 3;

/// Why a pack cannot be written. Reading a [`Pack`] fails with it inside.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The pack is no longer wanted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// libgit2 cannot read an object.
    #[error("cannot read object {id}")]
    Object {
        id: Oid,
        #[source]
        source: git2::Error,
    },
    /// The content of a large blob cannot be read, or is damaged.
    #[error("cannot read object {id}")]
    Content {
        id: Oid,
        #[source]
        source: io::Error,
    },
    /// The stream of the pack itself fails.
    #[error("cannot pack the objects")]
    Stream(#[source] io::Error),
}

impl From<io::Error> for SourceError {
    /// From the error of reading a [`Pack`].
    fn from(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Stream)
    }
}

impl SourceError {
    /// Whether an object does not fit in memory.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Object { source, .. } if source.class() == ErrorClass::NoMemory)
    }
}

/// The bytes of a pack.
pub(super) struct Pack<'a> {
    objects: &'a Odb<'a>,
    /// Where `objects` are.
    directory: &'a Path,
    cancel: &'a Cancel,
    /// The objects that have not begun.
    ids: Iter<'a, Oid>,
    /// What comes before the next content: the start of the pack, the header of an object, or the checksum at the end.
    head: Cursor<Vec<u8>>,
    /// The content of the object that began last, compressed.
    content: Option<ZlibEncoder<Box<dyn Read + 'a>>>,
    /// Of all bytes so far; `None` once it is in `head`.
    checksum: Option<Sha1>,
}

impl<'a> Pack<'a> {
    /// A pack of the objects `ids`, which are in `objects`. Large blobs are streamed from `directory`, that of `objects`.
    pub(super) fn new(objects: &'a Odb<'a>, directory: &'a Path, ids: &'a [Oid], cancel: &'a Cancel) -> Self {
        // More than fit are more than anybody takes in.
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let head = Cursor::new([&START[..], &count.to_be_bytes()].concat());
        Self { objects, directory, cancel, ids: ids.iter(), head, content: None, checksum: Some(Sha1::new()) }
    }

    /// Begins the next object or, after the last one, the checksum. Returns `false` after that.
    fn advance(&mut self) -> Result<bool, SourceError> {
        let Some(id) = self.ids.next() else {
            let checksum = self.checksum.take().map(|checksum| checksum.finalize().to_vec());
            let is_new = checksum.is_some();
            self.head = Cursor::new(checksum.unwrap_or_default());
            return Ok(is_new);
        };
        if let Some(encoder) = &mut self.content {
            // So that there are never two objects in memory.
            *encoder.get_mut() = Box::new(io::empty());
        }
        let (kind, size, content) = self.open(*id)?;
        self.head = Cursor::new(header(kind, size));
        match &mut self.content {
            // The compressor keeps its memory.
            Some(encoder) => drop(encoder.reset(content)),
            None => self.content = Some(ZlibEncoder::new(content, Compression::new(LEVEL))),
        }
        Ok(true)
    }

    /// The type, the size and the content of an object.
    fn open(&self, id: Oid) -> Result<(ObjectType, u64, Box<dyn Read + 'a>), SourceError> {
        let unreadable = |source| SourceError::Object { id, source };
        let (size, kind) = self.objects.read_header(id).map_err(unreadable)?;
        let size = size as u64;
        if kind == ObjectType::Blob && size > LARGE {
            let opened = large::open(self.directory, id);
            if let Some(content) = opened.map_err(|source| SourceError::Content { id, source })? {
                return Ok((kind, size, Box::new(Large { id, content, left: size })));
            }
        }
        let object = self.objects.read(id).map_err(unreadable)?;
        Ok((object.kind(), object.len() as u64, Box::new(Whole { object, position: 0 })))
    }
}

impl Read for Pack<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.cancel.check().map_err(|error| io::Error::other(SourceError::from(error)))?;
            let mut length = self.head.read(buffer)?;
            if length == 0
                && let Some(content) = &mut self.content
            {
                length = content.read(buffer)?;
            }
            if length > 0 {
                if let Some(checksum) = &mut self.checksum {
                    checksum.update(&buffer[..length]);
                }
                return Ok(length);
            }
            if !self.advance().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
    }
}

/// The content of an object in memory.
struct Whole<'a> {
    object: OdbObject<'a>,
    position: usize,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.object.data().get(self.position..).unwrap_or_default().read(buffer)?;
        self.position += length;
        Ok(length)
    }
}

/// The content of a large blob, which must be as long as its header says.
struct Large {
    id: Oid,
    content: large::Content,
    left: u64,
}

impl Read for Large {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let id = self.id;
        let damaged = |source| io::Error::other(SourceError::Content { id, source });
        let length = self.content.read(buffer).map_err(damaged)?;
        match self.left.checked_sub(length as u64) {
            Some(left) if length > 0 || left == 0 => self.left = left,
            _ => return Err(damaged(io::Error::new(io::ErrorKind::InvalidData, "it is not as long as it should be"))),
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests;

//! What the receiver of a pack sends on: objects, gathered in buffers.
//!
//! An object is inflated right into a buffer. The last buffers that were sent are remembered, so that a delta whose base
//! came not long before need not wait for it to be kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::content::Content;
use super::history;
use super::stream;
use super::stream::HEAD;
use super::stream::Outlet;
use crate::content;
use crate::content::ALIGNMENT;

/// Largest object that is made in one piece, in bytes.
pub(super) const WHOLE_BLOB: u64 = 1 << 20;

/// Length of a buffer, in bytes.
const BUFFER: usize = WHOLE_BLOB as usize + HEAD;

/// Buffers that are remembered.
const REMEMBERED: usize = 3;

/// Objects on their way out.
struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    /// Where the blobs that are whole in here are, and where each begins in the segment.
    blobs: Vec<(u64, Range<usize>)>,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER].into_boxed_slice(), length: 0, blobs: Vec::new() }
    }

    /// An empty blob has the same place as the next one.
    fn blob(&self, place: u64, length: u64) -> Option<&[u8]> {
        let first = self.blobs.partition_point(|(before, _)| *before < place);
        let mut there = self.blobs[first..].iter().take_while(|(found, _)| *found == place);
        let (_, bytes) = there.find(|(_, bytes)| bytes.len() as u64 == length)?;
        Some(&self.bytes[bytes.clone()])
    }
}

/// Sends the objects of one pack.
pub(super) struct Stage<'a> {
    outlet: &'a mut Outlet,
    buffer: Buffer,
    /// Buffers that were sent, the oldest first.
    sent: VecDeque<Buffer>,
    /// Length of the segment so far, in bytes.
    position: u64,
    /// The segment and the history, once something was read in them.
    files: [Option<Arc<File>>; 2],
}

impl<'a> Stage<'a> {
    pub(super) fn begin(outlet: &'a mut Outlet) -> Result<Self, PackError> {
        outlet.begin_pack()?;
        Ok(Self { outlet, buffer: Buffer::new(), sent: VecDeque::new(), position: 0, files: [None, None] })
    }

    /// Length of the segment so far, in bytes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Sends the next commit, tree or tag.
    pub(super) fn send(&mut self, kind: ObjectType, content: &Content) -> Result<(), PackError> {
        self.write_all(&stream::head(kind, content.len())).map_err(PackError::HandOver)?;
        content.for_each_piece(|piece| self.write_all(piece)).map_err(PackError::HandOver)
    }

    /// Makes room for a blob of at most [`WHOLE_BLOB`] bytes. Returns where it begins in the segment, and the room, which
    /// the caller fills.
    pub(super) fn blob(&mut self, size: u64) -> Result<(u64, &mut [u8]), PackError> {
        let length = usize::try_from(size).unwrap_or(BUFFER).min(BUFFER - HEAD);
        if self.buffer.length + HEAD + length > BUFFER {
            self.pass_on()?;
        }
        let place = self.place(size);
        let start = self.buffer.length + HEAD;
        let room = start..start + length;
        self.buffer.bytes[start - HEAD..start].copy_from_slice(&stream::head(ObjectType::Blob, size));
        self.buffer.length = room.end;
        self.buffer.blobs.push((place, room.clone()));
        Ok((place, &mut self.buffer.bytes[room]))
    }

    /// Begins a blob that is larger. Returns where it begins in the segment. Its content is written next.
    pub(super) fn begin_large(&mut self, size: u64) -> Result<u64, PackError> {
        self.write_all(&stream::head(ObjectType::Blob, size)).map_err(PackError::HandOver)?;
        Ok(self.place(size))
    }

    /// The content of a blob that was sent not long ago, by its place in the segment.
    pub(super) fn recent(&self, place: u64, length: u64) -> Option<Content> {
        let mut buffers = self.sent.iter().chain([&self.buffer]);
        buffers.find_map(|buffer| buffer.blob(place, length)).map(|bytes| bytes.to_vec().into())
    }

    /// The segment, in which a blob can be read once its place was [told](Self::ask).
    pub(super) fn segment(&mut self) -> Result<Arc<File>, PackError> {
        let path = self.outlet.places.segments.join(content::DRAFT);
        open(&mut self.files[0], &path)
    }

    /// The history, in which a commit, tree or tag can be read once its place was [told](Self::ask).
    pub(super) fn history(&mut self) -> Result<Arc<File>, PackError> {
        let path = self.outlet.places.packs.join(history::PACK);
        open(&mut self.files[1], &path)
    }

    /// Asks for the id and the place of each of the last `count` objects. All of them can be read after that.
    pub(super) fn ask(&mut self, count: usize, each: impl FnMut(usize, Oid, u64)) -> Result<(), PackError> {
        self.pass_on()?;
        self.outlet.ask(count, each)
    }

    /// Ends the pack. Returns once it is kept.
    pub(super) fn finish(mut self) -> Result<(), PackError> {
        self.pass_on()?;
        self.outlet.end_pack()
    }

    /// Takes the place of the next blob: every blob begins at a boundary.
    fn place(&mut self, size: u64) -> u64 {
        let place = self.position.next_multiple_of(ALIGNMENT);
        self.position = place.saturating_add(size);
        place
    }

    fn pass_on(&mut self) -> Result<(), PackError> {
        if self.buffer.length == 0 {
            return Ok(());
        }
        self.outlet.send(&self.buffer.bytes[..self.buffer.length])?;
        let mut next = match self.sent.len() < REMEMBERED {
            true => Buffer::new(),
            false => self.sent.pop_front().unwrap_or_else(Buffer::new),
        };
        next.length = 0;
        next.blobs.clear();
        self.sent.push_back(std::mem::replace(&mut self.buffer, next));
        Ok(())
    }
}

/// Writes the content of a large object.
impl Write for Stage<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.buffer.length == BUFFER {
            self.pass_on().map_err(|error| match error {
                PackError::HandOver(error) => error,
                error => io::Error::other(error),
            })?;
        }
        let start = self.buffer.length;
        let length = piece.len().min(BUFFER - start);
        self.buffer.bytes[start..start + length].copy_from_slice(&piece[..length]);
        self.buffer.length += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(file: &mut Option<Arc<File>>, path: &std::path::Path) -> Result<Arc<File>, PackError> {
    if let Some(file) = file {
        return Ok(Arc::clone(file));
    }
    let opened = Arc::new(File::open(path).map_err(PackError::Disk)?);
    Ok(Arc::clone(file.insert(opened)))
}

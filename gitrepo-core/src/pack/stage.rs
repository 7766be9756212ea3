//! The second thread of an ingest: it writes the blobs into their segment, and hashes all objects, while the first
//! inflates.
//!
//! Blobs are made in buffers that become parts of the segment as they are. A buffer that was passed on can be read until
//! it was written, so a base that is in one buffer is read without waiting for the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::thread::Scope;
use std::thread::ScopedJoinHandle;

use git2::ObjectType;
use git2::Oid;

use super::PackError;
use super::content::Content;
use super::hash;
use super::hash::ObjectHash;
use super::make_room;
use crate::content::ALIGNMENT;
use crate::content::SegmentWriter;

/// Largest blob that is made in one piece, and length of a buffer, in bytes.
pub(super) const WHOLE_BLOB: u64 = 1 << 20;
const BUFFER: usize = WHOLE_BLOB as usize;
const _: () = assert!(WHOLE_BLOB.is_multiple_of(ALIGNMENT));

/// Batches that wait for the thread. Another one is being filled, and another one written.
const BATCHES: usize = 1;

/// Content of commits, trees and tags that a batch holds, in bytes.
const HELD: u64 = 1 << 20;

/// Objects of a batch.
const OBJECTS: usize = 1024;

/// What the thread is given.
enum Message {
    /// The next part of the segment, and the objects to hash.
    Batch(Arc<Buffer>, Vec<Object>),
    /// It shall send the ids that it found since the last time.
    Report,
}

/// An object to hash.
enum Object {
    /// A part of a blob.
    Part {
        /// The length of the blob, if it begins here.
        begins: Option<u64>,
        /// Where it is in the buffer.
        bytes: Range<usize>,
        ends: bool,
    },
    /// A commit, tree or tag.
    Other(ObjectType, Content),
}

/// A part of the segment.
struct Buffer {
    /// Where it begins in the segment, in bytes.
    start: u64,
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { start: 0, bytes: vec![0; BUFFER].into_boxed_slice(), length: 0 }
    }

    /// Fills the last block with zeros.
    fn pad(&mut self) {
        let length = self.length.next_multiple_of(ALIGNMENT as usize);
        self.bytes[self.length..length].fill(0);
        self.length = length;
    }

    fn end(&self) -> u64 {
        self.start + self.length as u64
    }

    /// A part of the segment, if all of it is here.
    fn part(&self, place: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(place.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes[..self.length].get(start..end)
    }
}

/// The first thread's side.
pub(super) struct Stage<'scope> {
    /// What is being filled.
    buffer: Buffer,
    objects: Vec<Object>,
    held: u64,
    /// Where a blob larger than a buffer began in it, with its length if it began in this one.
    large: Option<(usize, Option<u64>)>,
    /// Buffers that were passed on. Only the thread holds them too, until it has written them.
    passed_on: VecDeque<Arc<Buffer>>,
    spare: Vec<Buffer>,
    ids: Vec<Oid>,
    reports: Receiver<Vec<Oid>>,
    file: Arc<File>,
    to: SyncSender<Message>,
    thread: ScopedJoinHandle<'scope, Result<SegmentWriter, PackError>>,
}

/// The thread has ended. [`Stage::finish`] says why.
fn ended<E>(_: E) -> PackError {
    PackError::Stopped
}

impl<'scope> Stage<'scope> {
    /// Starts the thread, for a segment with nothing in it.
    pub(super) fn start<'env>(scope: &'scope Scope<'scope, 'env>, segment: SegmentWriter) -> Result<Self, PackError> {
        let file = Arc::clone(segment.file());
        let (to, from) = mpsc::sync_channel(BATCHES);
        let (report, reports) = mpsc::channel();
        let thread = thread::Builder::new().name("segment".to_owned());
        let thread = thread.spawn_scoped(scope, || run(segment, from, report)).map_err(PackError::Disk)?;
        Ok(Self {
            buffer: Buffer::new(),
            objects: Vec::new(),
            held: 0,
            large: None,
            passed_on: VecDeque::new(),
            spare: Vec::new(),
            ids: Vec::new(),
            reports,
            file,
            to,
            thread,
        })
    }

    /// Where the next byte of the segment goes.
    pub(super) fn position(&self) -> u64 {
        self.buffer.end()
    }

    /// Takes the next commit, tree or tag.
    pub(super) fn take(&mut self, kind: ObjectType, content: Content) -> Result<(), PackError> {
        self.held += content.len();
        self.objects.push(Object::Other(kind, content));
        if self.held >= HELD { self.pass_on() } else { self.check_number() }
    }

    /// Makes room for a blob of at most [`WHOLE_BLOB`] bytes. Returns where it begins in the segment, and the room, which
    /// the caller fills.
    pub(super) fn blob(&mut self, size: u64) -> Result<(u64, &mut [u8]), PackError> {
        let place = self.begin(size)?;
        self.check_number()?;
        let start = self.buffer.length;
        self.buffer.length += usize::try_from(size).unwrap_or(BUFFER).min(BUFFER - start);
        let bytes = start..self.buffer.length;
        self.objects.push(Object::Part { begins: Some(size), bytes: bytes.clone(), ends: true });
        Ok((place, &mut self.buffer.bytes[bytes]))
    }

    /// Begins a blob that is larger. Returns where it begins in the segment. Its content is written next, and
    /// [ended](Self::end_large).
    pub(super) fn begin_large(&mut self, size: u64) -> Result<u64, PackError> {
        let place = self.begin(size)?;
        self.large = Some((self.buffer.length, Some(size)));
        Ok(place)
    }

    pub(super) fn end_large(&mut self) {
        self.cut_large(true);
        self.large = None;
    }

    /// Reads a part of the segment into memory, unless it is too large for that.
    pub(super) fn read(&mut self, place: u64, length: u64) -> Result<Content, PackError> {
        self.reclaim();
        let here = self.passed_on.iter().map(Arc::as_ref).chain([&self.buffer]);
        if let Some(bytes) = here.filter_map(|buffer| buffer.part(place, length)).next() {
            return Ok(bytes.to_vec().into());
        }
        if place + length > self.passed_on.front().map_or(self.buffer.start, |oldest| oldest.start) {
            self.wait()?;
        }
        let content = Content::Part { file: Arc::clone(&self.file), offset: place, length };
        content.gather().map_err(PackError::Disk)
    }

    /// Returns the ids of the objects that were taken since the last time, in their order.
    pub(super) fn ids(&mut self) -> Result<Vec<Oid>, PackError> {
        self.wait()?;
        Ok(std::mem::take(&mut self.ids))
    }

    /// Ends the thread, and returns the segment or the thread's failure. What was not [reported](Self::ids) may be lost.
    pub(super) fn finish(self) -> Result<SegmentWriter, PackError> {
        let Self { to, thread, .. } = self;
        drop(to);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Begins a blob at the next boundary, in a new buffer if this one has no room for all of it.
    fn begin(&mut self, size: u64) -> Result<u64, PackError> {
        self.buffer.pad();
        if size <= WHOLE_BLOB && self.buffer.length as u64 + size > WHOLE_BLOB {
            self.pass_on()?;
        }
        Ok(self.position())
    }

    /// Passes the part of a large blob that is in the buffer on to be hashed.
    fn cut_large(&mut self, ends: bool) {
        if let Some((start, begins)) = self.large {
            self.objects.push(Object::Part { begins, bytes: start..self.buffer.length, ends });
            self.large = Some((0, None));
        }
    }

    fn check_number(&mut self) -> Result<(), PackError> {
        if self.objects.len() >= OBJECTS { self.pass_on() } else { Ok(()) }
    }

    fn pass_on(&mut self) -> Result<(), PackError> {
        self.cut_large(false);
        self.buffer.pad();
        if self.buffer.length == 0 && self.objects.is_empty() {
            return Ok(());
        }
        self.held = 0;
        self.reclaim();
        let mut next = self.spare.pop().unwrap_or_else(Buffer::new);
        (next.start, next.length) = (self.buffer.end(), 0);
        let full = Arc::new(std::mem::replace(&mut self.buffer, next));
        self.passed_on.push_back(Arc::clone(&full));
        self.to.send(Message::Batch(full, std::mem::take(&mut self.objects))).map_err(ended)
    }

    /// Takes the buffers back that were written.
    fn reclaim(&mut self) {
        while let Some(oldest) = self.passed_on.pop_front() {
            match Arc::try_unwrap(oldest) {
                Ok(written) => self.spare.push(written),
                Err(oldest) => return self.passed_on.push_front(oldest),
            }
        }
    }

    /// Waits until everything was written and hashed.
    fn wait(&mut self) -> Result<(), PackError> {
        self.pass_on()?;
        self.to.send(Message::Report).map_err(ended)?;
        let mut more = self.reports.recv().map_err(ended)?;
        if self.ids.is_empty() {
            self.ids = more;
        } else {
            self.ids.try_reserve(more.len()).map_err(|_| PackError::OutOfMemory)?;
            self.ids.append(&mut more);
        }
        self.reclaim();
        Ok(())
    }
}

/// Writes the content of a large blob.
impl Write for Stage<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.buffer.length == BUFFER {
            self.pass_on().map_err(io::Error::other)?;
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

/// The thread.
fn run(
    mut segment: SegmentWriter,
    from: Receiver<Message>,
    report: Sender<Vec<Oid>>,
) -> Result<SegmentWriter, PackError> {
    let mut ids = Vec::new();
    let mut blob = None;
    for message in from {
        let (buffer, objects) = match message {
            Message::Batch(buffer, objects) => (buffer, objects),
            Message::Report => {
                // The first thread may have failed meanwhile.
                drop(report.send(std::mem::take(&mut ids)));
                continue;
            }
        };
        let written = segment.append(&buffer.bytes[..buffer.length]);
        written.map_err(PackError::Disk)?;
        for object in objects {
            let id = match object {
                Object::Other(kind, content) => Some(hash::id_of(kind, &content)?),
                Object::Part { begins, bytes, ends } => {
                    if let Some(length) = begins {
                        blob = Some(ObjectHash::new(ObjectType::Blob, length));
                    }
                    if let Some(blob) = &mut blob {
                        blob.update(&buffer.bytes[bytes]);
                    }
                    if ends { blob.take().map(ObjectHash::finish).transpose()? } else { None }
                }
            };
            if let Some(id) = id {
                make_room(&mut ids, usize::MAX)?;
                ids.push(id);
            }
        }
    }
    Ok(segment)
}

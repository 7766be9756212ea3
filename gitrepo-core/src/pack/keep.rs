//! Keeps the objects of a stream: blobs in a segment, commits, trees and tags in the history.
//!
//! Every object is hashed, with a look-out for attacks on SHA-1. Ids and places are found here and taken from nobody.

use std::collections::HashSet;
use std::io::Write;

use git2::ObjectType;
use git2::Oid;

use super::MOST_OBJECTS;
use super::MOST_PACKS;
use super::PackError;
use super::Places;
use super::above::Above;
use super::content::Content;
use super::content::Draft;
use super::hash::ObjectHash;
use super::history::History;
use super::make_room;
use super::stream;
use super::stream::Inlet;
use crate::content::SegmentWriter;
use crate::object;
use crate::object::EntryMode;
use crate::object::TreeObject;

/// What the commits and trees that came name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// The commits that came.
    pub(crate) commits: HashSet<Oid>,
    /// Each of them with each of its parents.
    pub(crate) parents: Vec<(Oid, Oid)>,
    /// The trees of the commits and trees that came.
    pub(crate) trees: HashSet<Oid>,
    /// The blobs of the trees that came.
    pub(crate) blobs: HashSet<Oid>,
    /// The commits whose parents are not here, as the server told. Nobody has checked this.
    pub(crate) boundary: Vec<Oid>,
    /// What a narrow fetch brought that is not kept.
    pub(crate) above: Above,
}

impl Named {
    /// Whether nothing came that names anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.trees.is_empty() && self.blobs.is_empty()
    }

    fn note(&mut self, id: Oid, kind: ObjectType, content: &[u8]) -> Result<(), PackError> {
        match kind {
            ObjectType::Commit => {
                insert(&mut self.commits, id)?;
                object::tree_of(content).map_or(Ok(()), |tree| insert(&mut self.trees, tree))?;
                let parents = object::parents_of(content);
                self.parents.try_reserve(parents.len()).map_err(|_| PackError::OutOfMemory)?;
                self.parents.extend(parents.into_iter().map(|parent| (id, parent)));
            }
            // The listing of a tree refuses what is malformed, and says why.
            ObjectType::Tree => {
                for entry in TreeObject(content).map_while(Result::ok) {
                    match entry.mode() {
                        None => insert(&mut self.trees, entry.id)?,
                        Some(EntryMode::Submodule) => {}
                        Some(_) => insert(&mut self.blobs, entry.id)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn insert(ids: &mut HashSet<Oid>, id: Oid) -> Result<(), PackError> {
    ids.try_reserve(1).map_err(|_| PackError::OutOfMemory)?;
    ids.insert(id);
    Ok(())
}

/// Keeps the objects of one fetch in `places`, and adds what they name to `named`. Nothing is left of a pack that does
/// not come to its end.
///
/// # Errors
///
/// [`PackError::HandOver`] if the stream ends before the fetch, or does not make sense; [`PackError::Collision`]; and
/// those of our own disk and limits.
pub(crate) fn keep(inlet: &mut Inlet, places: &Places, named: &mut Named) -> Result<(), PackError> {
    let (mut written, mut packs) = (0, 0);
    loop {
        match inlet.command()? {
            // Each becomes a pair of files, which every later fetch has to open.
            stream::PACK if packs == MOST_PACKS => return Err(nonsense("too many packs")),
            stream::PACK => {
                written = Keeping::begin(places, written)?.take_in(inlet, named)?;
                packs += 1;
            }
            stream::ABOVE => named.above.take_in(inlet)?,
            stream::BOUNDARY => named.boundary = inlet.ids()?,
            stream::DONE => return Ok(()),
            _ => return Err(nonsense("an unknown command")),
        }
    }
}

fn nonsense(what: &'static str) -> PackError {
    PackError::HandOver(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
}

/// A pack that is being kept.
struct Keeping<'a> {
    places: &'a Places,
    /// Bytes of the packs before it.
    before: u64,
    segment: SegmentWriter,
    history: History,
    /// Each with its place and its length, in bytes.
    blobs: Vec<(Oid, u64, u64)>,
    /// The commits, trees and tags, each with its place.
    others: Vec<(Oid, u64)>,
    /// Which of the objects since the last answer are blobs.
    unanswered: Vec<bool>,
}

impl<'a> Keeping<'a> {
    fn begin(places: &'a Places, before: u64) -> Result<Self, PackError> {
        let segment = SegmentWriter::create(&places.segments).map_err(PackError::Disk)?;
        let history = History::create(&places.packs)?;
        let (blobs, others, unanswered) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { places, before, segment, history, blobs, others, unanswered })
    }

    /// Returns the bytes that were written so far.
    fn take_in(mut self, inlet: &mut Inlet, named: &mut Named) -> Result<u64, PackError> {
        loop {
            match inlet.command()? {
                stream::REPORT => self.answer(inlet)?,
                stream::END => {
                    let written = self.written();
                    self.finish()?;
                    inlet.confirm()?;
                    return Ok(written);
                }
                command => {
                    let kind = stream::kind(command).ok_or_else(|| nonsense("an unknown type of object"))?;
                    let length = inlet.number()?;
                    self.check_room(length)?;
                    match kind {
                        ObjectType::Blob => self.keep_blob(inlet, length)?,
                        kind => self.keep_other(inlet, kind, length, named)?,
                    }
                }
            }
        }
    }

    fn written(&self) -> u64 {
        self.before.saturating_add(self.segment.position()).saturating_add(self.history.length())
    }

    fn check_room(&mut self, length: u64) -> Result<(), PackError> {
        if self.written().saturating_add(length) > self.places.limit {
            return Err(PackError::TooLarge(self.places.limit));
        }
        if self.blobs.len() + self.others.len() >= MOST_OBJECTS as usize {
            return Err(PackError::TooMany(MOST_OBJECTS));
        }
        make_room(&mut self.unanswered, MOST_OBJECTS as usize)
    }

    fn keep_blob(&mut self, inlet: &mut Inlet, length: u64) -> Result<(), PackError> {
        make_room(&mut self.blobs, MOST_OBJECTS as usize)?;
        let place = self.segment.begin().map_err(PackError::Disk)?;
        let mut hash = ObjectHash::new(ObjectType::Blob, length);
        inlet.content(length, |piece| {
            hash.update(piece);
            self.segment.write_all(piece).map_err(PackError::Disk)
        })?;
        self.blobs.push((hash.finish()?, place, length));
        self.unanswered.push(true);
        Ok(())
    }

    fn keep_other(
        &mut self,
        inlet: &mut Inlet,
        kind: ObjectType,
        length: u64,
        named: &mut Named,
    ) -> Result<(), PackError> {
        make_room(&mut self.others, MOST_OBJECTS as usize)?;
        let mut hash = ObjectHash::new(kind, length);
        let mut draft = Draft::new(length, &self.places.packs).map_err(PackError::Disk)?;
        inlet.content(length, |piece| {
            hash.update(piece);
            draft.write_all(piece).map_err(PackError::Disk)
        })?;
        let (id, content) = (hash.finish()?, draft.finish());
        let number = u32::try_from(self.others.len()).map_err(|_| PackError::OutOfMemory)?;
        self.others.push((id, self.history.add(number, kind, &content)?));
        self.unanswered.push(false);
        match content {
            Content::Whole(bytes) => named.note(id, kind, &bytes),
            content => named.note(id, kind, &content.whole()?),
        }
    }

    /// Tells the id and the place of each object since the last time, once they can be read.
    fn answer(&mut self, inlet: &mut Inlet) -> Result<(), PackError> {
        self.segment.put().map_err(PackError::Disk)?;
        self.history.flush().map_err(PackError::Disk)?;
        let blobs = self.unanswered.iter().filter(|is_blob| **is_blob).count();
        let mut others = self.others[self.others.len() - (self.unanswered.len() - blobs)..].iter();
        let mut blobs = self.blobs[self.blobs.len() - blobs..].iter();
        let next = |is_blob: bool| match is_blob {
            true => blobs.next().map(|(id, place, _)| (*id, *place)),
            false => others.next().copied(),
        };
        let answers = std::mem::take(&mut self.unanswered);
        inlet.answer(answers.into_iter().filter_map(next))
    }

    fn finish(self) -> Result<(), PackError> {
        let Self { segment, history, blobs, others, .. } = self;
        segment.finish(blobs.into_iter()).map_err(PackError::Disk)?;
        let line = |number: u32| others.get(number as usize).copied().unwrap_or((Oid::ZERO_SHA1, 0));
        history.finish(line).map(drop).map_err(PackError::Disk)
    }
}

//! Takes a pack in, in one pass, and hands its objects over to be kept.
//!
//! A delta is resolved as soon as it comes, against what was handed over before. One whose base is not there yet, or is
//! named by its id, waits in a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use git2::ObjectType;
use git2::Oid;

use super::MOST_OBJECTS;
use super::PackError;
use super::cache::Cache;
use super::content::Content;
use super::content::Draft;
use super::content::unnamed;
use super::delta::Delta;
use super::delta::DeltaError;
use super::entry::Entry;
use super::entry::Form;
use super::history;
use super::inflate::Inflater;
use super::input::Input;
use super::make_room;
use super::stage::Stage;
use super::stage::WHOLE_BLOB;
use super::stream::Outlet;

/// Objects that are here already, and that the deltas of a thin pack build on.
pub(crate) trait Outside {
    /// Finds those of these objects that are blobs here, in their order.
    fn blobs(&self, ids: &[Oid]) -> Result<Vec<Option<Content>>, PackError>;

    /// Reads a commit, tree or tag, if it is here.
    fn history(&self, id: Oid) -> Result<Option<(ObjectType, Content)>, PackError>;
}

/// How much of a pack was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Objects that were read.
    pub(crate) objects: u64,
    /// Objects that the pack announces.
    pub(crate) total: u64,
}

/// Reads `source` to its end, and hands its objects over to `outlet`. No more than `limit` bytes of content are read.
/// `scratch` is a directory for temporary files. `go_on` is told how far it is, and ends it by `false`.
pub(crate) fn ingest(
    source: &mut dyn Read,
    outlet: &mut Outlet,
    (scratch, limit): (&Path, u64),
    outside: &dyn Outside,
    go_on: &mut dyn FnMut(Seen) -> bool,
) -> Result<(), PackError> {
    let mut input = Input::new(source);
    let total = total(&mut input)?;
    let mut ingest = Ingest {
        scratch,
        limit,
        outside,
        stage: Stage::begin(outlet)?,
        others: 0,
        records: Vec::new(),
        total: usize::try_from(total).unwrap_or(usize::MAX),
        unnamed: Vec::new(),
        named: Vec::new(),
        waiting: BTreeMap::new(),
        spool: None,
        cache: Cache::new(),
        inflater: Inflater::new()?,
    };
    ingest.take_in(input, total, go_on)?;
    ingest.stage.finish()
}

/// Reads the beginning of a pack, and returns the number of its objects.
pub(super) fn total<R: Read>(input: &mut Input<R>) -> Result<u64, PackError> {
    if input.array()? != *b"PACK" {
        return Err(PackError::Damaged("it does not begin as one"));
    }
    match u32::from_be_bytes(input.array()?) {
        2 | 3 => {}
        _ => return Err(PackError::Damaged("it has an unknown version")),
    }
    match u32::from_be_bytes(input.array()?) {
        total if total > MOST_OBJECTS => Err(PackError::TooMany(total)),
        total => Ok(total.into()),
    }
}

/// An object of the pack.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// Where it begins in the pack.
    offset: u64,
    /// `None` for a delta that waits.
    kind: Option<ObjectType>,
    /// Zero as long as it is not known.
    id: Oid,
    /// Where it begins in the segment, in the history or, for a delta that waits, in the file of those. In the history
    /// this is known together with the id.
    place: u64,
    /// Its length there, inflated.
    length: u64,
}

/// What a waiting delta builds on: the object with this number, or with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Base {
    Number(usize),
    Id(Oid),
}

impl Base {
    fn id(&self) -> Option<Oid> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Number(_) => None,
        }
    }
}

/// Deltas that wait for bases that were resolved.
type Ready = Vec<(usize, Vec<usize>)>;

/// A pack that is being taken in.
struct Ingest<'a> {
    scratch: &'a Path,
    limit: u64,
    outside: &'a dyn Outside,
    stage: Stage<'a>,
    /// Bytes of commits, trees and tags.
    others: u64,
    /// The objects, in the order of the pack, and how many there will be.
    records: Vec<Record>,
    total: usize,
    /// The objects that were handed over, and whose ids are not known yet.
    unnamed: Vec<u32>,
    /// Those whose ids are known, and for which nobody has asked whether deltas wait for them.
    named: Vec<u32>,
    waiting: BTreeMap<Base, Vec<usize>>,
    /// Deltas that wait, one after the other.
    spool: Option<(Arc<File>, u64)>,
    cache: Cache<usize>,
    inflater: Inflater,
}

impl Ingest<'_> {
    /// Reads the objects of the pack, and resolves all deltas.
    fn take_in<R: Read>(
        &mut self,
        mut input: Input<R>,
        total: u64,
        go_on: &mut dyn FnMut(Seen) -> bool,
    ) -> Result<(), PackError> {
        for objects in 0..=total {
            let mut is_wanted = || go_on(Seen { objects, total });
            if !is_wanted() {
                return Err(PackError::Stopped);
            }
            if objects < total {
                self.read(&mut input, &mut is_wanted)?;
            }
        }
        input.finish()?;
        self.settle(&mut || go_on(Seen { objects: total, total }))
    }

    /// Reads the next object of the pack.
    fn read<R: Read>(&mut self, input: &mut Input<R>, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), PackError> {
        let entry = Entry::read(input, input.position())?;
        make_room(&mut self.records, self.total)?;
        let number = self.records.len();
        let resolved = match entry.form {
            Form::Plain(ObjectType::Blob) => self.read_blob(input, &entry)?,
            Form::Plain(kind) => {
                let content = self.inflate(input, &entry)?;
                self.hand_over(number, kind, content)?
            }
            Form::DeltaAt(offset) => {
                let base = self.number_at(offset)?;
                match self.records[base].kind {
                    Some(kind) => {
                        let delta = self.inflate(input, &entry)?;
                        let base = self.content(base, kind)?;
                        self.resolve(number, entry.offset, kind, (&base, &delta), is_wanted)?
                    }
                    None => return self.wait(input, &entry, Base::Number(base)),
                }
            }
            Form::DeltaOf(id) => return self.wait(input, &entry, Base::Id(id)),
        };
        let Resolved { kind, place, length } = resolved;
        self.records.push(Record { offset: entry.offset, kind: Some(kind), id: Oid::ZERO_SHA1, place, length });
        self.expect_name(number)
    }

    /// Remembers that the id of an object that was handed over is not known.
    fn expect_name(&mut self, number: usize) -> Result<(), PackError> {
        make_room(&mut self.unnamed, self.total)?;
        self.unnamed.push(u32::try_from(number).map_err(|_| PackError::OutOfMemory)?);
        Ok(())
    }

    /// Asks for the ids that are not known.
    fn learn_names(&mut self) -> Result<(), PackError> {
        let Self { stage, records, unnamed, named, .. } = self;
        if unnamed.is_empty() {
            return Ok(());
        }
        stage.ask(unnamed.len(), |at, id, place| {
            let record = &mut records[unnamed[at] as usize];
            (record.id, record.place) = (id, place);
        })?;
        named.try_reserve(unnamed.len()).map_err(|_| PackError::OutOfMemory)?;
        named.append(unnamed);
        Ok(())
    }

    fn read_blob<R: Read>(&mut self, input: &mut Input<R>, entry: &Entry) -> Result<Resolved, PackError> {
        let Entry { offset, size, .. } = *entry;
        self.check_size(size)?;
        let Self { inflater, stage, .. } = self;
        let place = if size <= WHOLE_BLOB {
            let (place, room) = stage.blob(size)?;
            inflater.fill(input, offset, room)?;
            place
        } else {
            let place = stage.begin_large(size)?;
            inflater.inflate(input, (offset, size), |piece| stage.write_all(piece).map_err(PackError::HandOver))?;
            place
        };
        Ok(Resolved { kind: ObjectType::Blob, place, length: size })
    }

    /// Refuses what would make the content larger than the limit.
    fn check_size(&self, more: u64) -> Result<(), PackError> {
        let spooled = self.spool.as_ref().map_or(0, |(_, end)| *end);
        let written = self.stage.position().saturating_add(self.others).saturating_add(spooled);
        match written.saturating_add(more) > self.limit {
            true => Err(PackError::TooLarge(self.limit)),
            false => Ok(()),
        }
    }

    fn inflate<R: Read>(&mut self, input: &mut Input<R>, entry: &Entry) -> Result<Content, PackError> {
        let Entry { offset, size, .. } = *entry;
        self.check_size(size)?;
        if size <= WHOLE_BLOB {
            let mut content = vec![0; usize::try_from(size).map_err(|_| PackError::OutOfMemory)?];
            self.inflater.fill(input, offset, &mut content)?;
            return Ok(content.into());
        }
        let mut draft = Draft::new(size, self.scratch).map_err(PackError::Disk)?;
        self.inflater.inflate(input, (offset, size), |piece| draft.write_all(piece).map_err(PackError::Disk))?;
        Ok(draft.finish())
    }

    /// Spools a delta until its base is known.
    fn wait<R: Read>(&mut self, input: &mut Input<R>, entry: &Entry, base: Base) -> Result<(), PackError> {
        self.check_size(entry.size)?;
        let (file, place) = match &self.spool {
            Some((file, end)) => (Arc::clone(file), *end),
            None => (Arc::new(unnamed(self.scratch).map_err(PackError::Disk)?), 0),
        };
        self.inflater
            .inflate(input, (entry.offset, entry.size), |piece| (&*file).write_all(piece).map_err(PackError::Disk))?;
        self.spool = Some((file, place + entry.size));
        self.waiting.entry(base).or_default().push(self.records.len());
        let (offset, length) = (entry.offset, entry.size);
        self.records.push(Record { offset, kind: None, id: Oid::ZERO_SHA1, place, length });
        Ok(())
    }

    /// The number of the object that begins at this byte.
    fn number_at(&self, offset: u64) -> Result<usize, PackError> {
        let found = self.records.binary_search_by_key(&offset, |record| record.offset);
        found.map_err(|_| PackError::Object { offset, what: "is none, and a delta builds on it" })
    }

    /// Reads an object that was handed over.
    fn content(&mut self, number: usize, kind: ObjectType) -> Result<Content, PackError> {
        if let Some(content) = self.cache.get(number) {
            return Ok(content);
        }
        let recent = match kind {
            ObjectType::Blob => self.stage.recent(self.records[number].place, self.records[number].length),
            _ => None,
        };
        let content = match recent {
            Some(content) => content,
            None => self.read_back(number, kind)?,
        };
        if let Content::Whole(_) = content {
            self.cache.insert(number, content.clone());
        }
        Ok(content)
    }

    /// Reads an object where it is kept.
    fn read_back(&mut self, number: usize, kind: ObjectType) -> Result<Content, PackError> {
        if self.records[number].id == Oid::ZERO_SHA1 {
            self.learn_names()?;
        }
        let Record { place, length, .. } = self.records[number];
        match kind {
            ObjectType::Blob => {
                let content = Content::Part { file: self.stage.segment()?, offset: place, length };
                content.gather().map_err(PackError::Disk)
            }
            _ => history::read(&*self.stage.history()?, place, &mut self.inflater, self.scratch),
        }
    }

    /// Hands over the result of a delta of the object with this number, which begins at `offset` in the pack.
    fn resolve(
        &mut self,
        number: usize,
        offset: u64,
        kind: ObjectType,
        (base, delta): (&Content, &Content),
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Resolved, PackError> {
        let failed = |error| match error {
            DeltaError::Damaged(what) => PackError::Object { offset, what },
            // A blob is handed over while it is made.
            DeltaError::Disk(error) if error.kind() == io::ErrorKind::BrokenPipe => PackError::HandOver(error),
            DeltaError::Disk(error) => PackError::Disk(error),
            DeltaError::Stopped => PackError::Stopped,
        };
        let delta = Delta::new(base, delta).map_err(failed)?;
        let size = delta.size;
        self.check_size(size)?;
        if kind == ObjectType::Blob {
            let place = if size <= WHOLE_BLOB {
                let (place, mut room) = self.stage.blob(size)?;
                delta.apply(&mut room, is_wanted).map_err(failed)?;
                place
            } else {
                let place = self.stage.begin_large(size)?;
                delta.apply(&mut self.stage, is_wanted).map_err(failed)?;
                place
            };
            return Ok(Resolved { kind, place, length: size });
        }
        let mut draft = Draft::new(size, self.scratch).map_err(PackError::Disk)?;
        delta.apply(&mut draft, is_wanted).map_err(failed)?;
        self.hand_over(number, kind, draft.finish())
    }

    /// Hands over a commit, tree or tag.
    fn hand_over(&mut self, number: usize, kind: ObjectType, content: Content) -> Result<Resolved, PackError> {
        self.stage.send(kind, &content)?;
        let length = content.len();
        self.others = self.others.saturating_add(length);
        if let Content::Whole(_) = content {
            self.cache.insert(number, content);
        }
        Ok(Resolved { kind, place: 0, length })
    }

    /// Resolves the deltas that wait: of objects that came later, and of those outside.
    fn settle(&mut self, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), PackError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.learn_names()?;
        self.resolve_named(is_wanted)?;
        self.settle_outside(is_wanted)?;
        match self.waiting.keys().find_map(Base::id) {
            Some(id) => Err(PackError::MissingBase(id)),
            None if self.records.iter().all(|record| record.kind.is_some()) => Ok(()),
            None => Err(PackError::Damaged("a delta builds on nothing")),
        }
    }

    /// Resolves the deltas that wait for ids that are known now, and then those that wait for the ids of the results.
    fn resolve_named(&mut self, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), PackError> {
        while !self.named.is_empty() {
            let mut ready = Ready::new();
            for number in std::mem::take(&mut self.named).into_iter().map(|number| number as usize) {
                let id = self.records[number].id;
                // Zeros are nobody's id.
                if id != Oid::ZERO_SHA1
                    && let Some(deltas) = self.waiting.remove(&Base::Id(id))
                {
                    ready.push((number, deltas));
                }
            }
            self.resolve_all(ready, is_wanted)?;
            self.learn_names()?;
        }
        Ok(())
    }

    /// Resolves the deltas that build on objects outside, and those that wait for them.
    fn settle_outside(&mut self, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), PackError> {
        let ids: Vec<Oid> = self.waiting.keys().filter_map(Base::id).collect();
        let blobs = self.outside.blobs(&ids)?;
        for (id, blob) in ids.into_iter().zip(blobs) {
            if !is_wanted() {
                return Err(PackError::Stopped);
            }
            // The object may have come meanwhile, as a delta of another one outside.
            let Some(deltas) = self.waiting.remove(&Base::Id(id)) else { continue };
            let found = match blob {
                Some(blob) => Some((ObjectType::Blob, blob.gather().map_err(PackError::Disk)?)),
                None => self.outside.history(id)?,
            };
            let Some((kind, base)) = found else {
                self.waiting.insert(Base::Id(id), deltas);
                continue;
            };
            for number in deltas {
                let ready = self.resolve_waiting(number, kind, &base, is_wanted)?;
                self.resolve_all(ready, is_wanted)?;
            }
        }
        self.learn_names()?;
        self.resolve_named(is_wanted)
    }

    /// Resolves deltas of objects that are there, and those that wait for them.
    fn resolve_all(&mut self, mut ready: Ready, is_wanted: &mut dyn FnMut() -> bool) -> Result<(), PackError> {
        while let Some((base, deltas)) = ready.pop() {
            let Some(kind) = self.records[base].kind else { continue };
            let base = self.content(base, kind)?;
            for number in deltas {
                if !is_wanted() {
                    return Err(PackError::Stopped);
                }
                ready.extend(self.resolve_waiting(number, kind, &base, is_wanted)?);
            }
        }
        Ok(())
    }

    /// Resolves one delta that waited. Returns the ones that waited for it.
    fn resolve_waiting(
        &mut self,
        number: usize,
        kind: ObjectType,
        base: &Content,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Ready, PackError> {
        let Record { offset, place, length, .. } = self.records[number];
        let Some((file, _)) = &self.spool else { return Ok(Vec::new()) };
        let delta = Content::Part { file: Arc::clone(file), offset: place, length };
        let delta = delta.gather().map_err(PackError::Disk)?;
        let Resolved { place, length, .. } = self.resolve(number, offset, kind, (base, &delta), is_wanted)?;
        self.records[number] = Record { offset, kind: Some(kind), id: Oid::ZERO_SHA1, place, length };
        self.expect_name(number)?;
        Ok(self.waiting.remove(&Base::Number(number)).map(|deltas| (number, deltas)).into_iter().collect())
    }
}

/// An object that was handed over.
struct Resolved {
    kind: ObjectType,
    /// Where it begins in the segment; 0 for what is not a blob.
    place: u64,
    /// Its length in bytes.
    length: u64,
}

#[cfg(test)]
mod tests;

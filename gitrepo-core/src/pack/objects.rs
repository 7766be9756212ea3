//! The objects of a pack that is being kept: what is known of each, and its content, read back from the pack.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::Outside;
use super::PackError;
use super::cache::Cache;
use super::content::Content;
use super::content::Draft;
use super::delta;
use super::delta::DeltaError;
use super::entry::Entry;
use super::entry::Form;
use super::hash::Hasher;
use super::index::Line;
use super::inflate::Inflater;
use super::input::Input;

/// Bytes read back from the pack at once. Most objects are smaller.
const BACK: usize = 4096;

/// An object of the pack.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// Its id is zero as long as it is a delta without its base.
    line: Line,
    kind: Option<ObjectType>,
}

/// What a delta builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Base {
    /// The object with this number.
    Here(usize),
    /// An object that is not in the pack.
    Outside(Oid),
}

impl Base {
    fn outside(&self) -> Option<Oid> {
        match self {
            Self::Outside(id) => Some(*id),
            Self::Here(_) => None,
        }
    }
}

/// The deltas that wait for each base.
type Waiting = BTreeMap<Base, Vec<usize>>;

/// Where a chain of deltas begins.
enum Start {
    Remembered(ObjectType, Content),
    /// The object with this number.
    Plain(ObjectType, usize),
    Outside(Oid),
}

/// The objects of a pack, in its order.
pub(super) struct Objects<'a> {
    /// The pack as far as it was written.
    pack: &'a File,
    /// A directory for temporary files.
    place: &'a Path,
    outside: &'a dyn Outside,
    records: Vec<Record>,
    /// The numbers of the objects with a known id, once a delta names its base by id.
    numbers: Option<HashMap<Oid, usize>>,
    /// Deltas whose base was not there when they came.
    waiting: Vec<usize>,
    /// The objects outside that deltas build on.
    borrowed: BTreeSet<Oid>,
    cache: Cache<Base>,
    inflater: Inflater,
}

impl<'a> Objects<'a> {
    pub(super) fn new(pack: &'a File, place: &'a Path, outside: &'a dyn Outside) -> Self {
        Self {
            pack,
            place,
            outside,
            records: Vec::new(),
            numbers: None,
            waiting: Vec::new(),
            borrowed: BTreeSet::new(),
            cache: Cache::new(),
            inflater: Inflater::new(),
        }
    }

    /// Reads the next object of the pack.
    pub(super) fn read<R: Read>(&mut self, input: &mut Input<R, &File>) -> Result<(), PackError> {
        input.take_crc();
        let entry = Entry::read(input, input.position())?;
        let number = self.records.len();
        self.records.try_reserve(1).map_err(|_| PackError::OutOfMemory)?;
        let known = match entry.form {
            Form::Plain(kind) => Some((self.read_plain(input, &entry, kind, number)?, kind)),
            Form::DeltaAt(_) | Form::DeltaOf(_) => match self.base_of(&entry)? {
                Some(base) => {
                    let delta = self.inflate(input, &entry)?;
                    input.flush()?;
                    Some(self.resolve(number, &entry, base, &delta)?)
                }
                None => {
                    self.inflater.inflate(input, (entry.offset, entry.size), |_| Ok(()))?;
                    self.waiting.push(number);
                    None
                }
            },
        };
        let (id, kind) = known.map_or((Oid::ZERO_SHA1, None), |(id, kind)| (id, Some(kind)));
        self.records.push(Record { line: Line { id, crc: input.take_crc(), offset: entry.offset }, kind });
        self.announce(number, id)
    }

    /// Resolves the deltas that came before their bases, then those of a thin pack, whose bases are outside.
    pub(super) fn settle(&mut self, mut is_wanted: impl FnMut() -> bool) -> Result<(), PackError> {
        let mut after = Waiting::new();
        let mut ready = Vec::new();
        for number in std::mem::take(&mut self.waiting) {
            let entry = self.entry(number)?;
            match (self.base_of(&entry)?, entry.form) {
                (Some(_), _) => ready.push(number),
                (None, Form::DeltaAt(offset)) => {
                    after.entry(Base::Here(self.number_at(offset, number)?)).or_default().push(number);
                }
                (None, Form::DeltaOf(id)) => after.entry(Base::Outside(id)).or_default().push(number),
                (None, Form::Plain(_)) => {}
            }
        }
        self.resolve_all(ready, &mut after, &mut is_wanted)?;
        let outside = after.keys().filter_map(Base::outside).filter(|id| self.outside.has(*id));
        self.borrowed = outside.collect();
        let ready = self.borrowed.iter().filter_map(|id| after.remove(&Base::Outside(*id))).flatten().collect();
        self.resolve_all(ready, &mut after, &mut is_wanted)?;
        // Each chain of deltas leads back to the beginning of the pack, or to an object named by its id.
        match after.keys().find_map(Base::outside) {
            Some(id) => Err(PackError::MissingBase(id)),
            None => self.check_circles(),
        }
    }

    /// Resolves deltas whose bases are known, and those that wait for them.
    fn resolve_all(
        &mut self,
        mut ready: Vec<usize>,
        after: &mut Waiting,
        is_wanted: &mut impl FnMut() -> bool,
    ) -> Result<(), PackError> {
        while let Some(number) = ready.pop() {
            if !is_wanted() {
                return Err(PackError::Stopped);
            }
            let entry = self.entry(number)?;
            let Some(base) = self.base_of(&entry)? else { continue };
            let delta = self.body(number)?;
            let (id, kind) = self.resolve(number, &entry, base, &delta)?;
            self.records[number].line.id = id;
            self.records[number].kind = Some(kind);
            self.announce(number, id)?;
            for base in [Base::Here(number), Base::Outside(id)] {
                ready.extend(after.remove(&base).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Refuses a pack that would have no end for those who read it: an object was resolved from one outside, and now the
    /// pack has that one too, as a delta of the first.
    fn check_circles(&mut self) -> Result<(), PackError> {
        let numbers = self.numbers.as_ref();
        let doubtful: Vec<_> = self.borrowed.iter().filter_map(|id| numbers?.get(id).copied()).collect();
        for number in doubtful {
            self.chain(Base::Here(number), |_, _| None)?;
        }
        Ok(())
    }

    /// The objects that deltas build on and that are not in the pack.
    pub(super) fn borrowed(&self) -> BTreeSet<Oid> {
        let mut borrowed = self.borrowed.clone();
        for record in &self.records {
            borrowed.remove(&record.line.id);
        }
        borrowed
    }

    /// An object that is not in the pack.
    pub(super) fn borrow(&self, id: Oid) -> Result<(ObjectType, Content), PackError> {
        self.outside.read(id, self.place)?.ok_or(PackError::MissingBase(id))
    }

    /// The lines of an index, sorted, with those of the pack's additions. An object that is there twice has two, as from
    /// git: readers compare the numbers of objects.
    pub(super) fn into_lines(self, additions: Vec<Line>) -> Vec<Line> {
        let mut lines: Vec<_> = self.records.into_iter().map(|record| record.line).chain(additions).collect();
        lines.sort_unstable_by_key(|line| (line.id, line.offset));
        lines
    }

    fn read_plain<R: Read, W: Write>(
        &mut self,
        input: &mut Input<R, W>,
        entry: &Entry,
        kind: ObjectType,
        number: usize,
    ) -> Result<Oid, PackError> {
        let mut hasher = Hasher::new(kind, entry.size);
        let remembered = Cache::<Base>::takes(entry.size);
        let mut draft = remembered.then(|| Draft::new(entry.size, self.place)).transpose().map_err(PackError::Disk)?;
        self.inflater.inflate(input, (entry.offset, entry.size), |piece| {
            hasher.update(piece);
            draft.as_mut().map_or(Ok(()), |draft| draft.write_all(piece)).map_err(PackError::Disk)
        })?;
        if let Some(draft) = draft {
            self.cache.insert(Base::Here(number), draft.finish());
        }
        hasher.finish()
    }

    /// Makes all ids known, for deltas that name their bases by id.
    fn number_all(&mut self) -> Result<(), PackError> {
        if self.numbers.is_none() {
            self.numbers = Some(HashMap::new());
            for number in 0..self.records.len() {
                self.announce(number, self.records[number].line.id)?;
            }
        }
        Ok(())
    }

    /// Makes the id of an object known. Among deltas that name their bases by id, an object must not be there twice: who
    /// reads the pack could go round in circles between the two.
    fn announce(&mut self, number: usize, id: Oid) -> Result<(), PackError> {
        let Some(numbers) = self.numbers.as_mut().filter(|_| !id.is_zero()) else { return Ok(()) };
        numbers.try_reserve(1).map_err(|_| PackError::OutOfMemory)?;
        match numbers.insert(id, number) {
            None => Ok(()),
            Some(_) => Err(PackError::Object { offset: self.records[number].line.offset, what: "is there twice" }),
        }
    }

    /// What an entry builds on, if that is known and can be read.
    fn base_of(&mut self, entry: &Entry) -> Result<Option<Base>, PackError> {
        match entry.form {
            Form::Plain(_) => Ok(None),
            Form::DeltaAt(offset) => {
                let number = self.number_at(offset, self.records.len())?;
                Ok(self.records[number].kind.map(|_| Base::Here(number)))
            }
            Form::DeltaOf(id) => {
                self.number_all()?;
                if let Some(number) = self.numbers.as_ref().and_then(|numbers| numbers.get(&id)) {
                    return Ok(Some(Base::Here(*number)));
                }
                Ok(self.borrowed.contains(&id).then_some(Base::Outside(id)))
            }
        }
    }

    /// The number of the object that begins at this byte, before the object with the number `before`.
    fn number_at(&self, offset: u64, before: usize) -> Result<usize, PackError> {
        let found = self.records[..before].binary_search_by_key(&offset, |record| record.line.offset);
        found.map_err(|_| PackError::Object { offset, what: "is none, and a delta builds on it" })
    }

    /// The id and type of a delta's result.
    fn resolve(
        &mut self,
        number: usize,
        entry: &Entry,
        base: Base,
        delta: &Content,
    ) -> Result<(Oid, ObjectType), PackError> {
        let (kind, base) = self.content(base)?;
        let content = self.apply(entry.offset, &base, delta)?;
        let mut hasher = Hasher::new(kind, content.len());
        let hashed = content.for_each_piece(|piece| io::Result::Ok(hasher.update(piece)));
        hashed.map_err(PackError::Disk)?;
        self.cache.insert(Base::Here(number), content);
        Ok((hasher.finish()?, kind))
    }

    /// The content of an object whose base and whose bases' bases are known.
    fn content(&mut self, base: Base) -> Result<(ObjectType, Content), PackError> {
        let (mut deltas, start) = self.chain(base, |objects, base| objects.remembered(base))?;
        let (kind, mut content) = match start {
            Start::Remembered(kind, content) => (kind, content),
            Start::Plain(kind, number) => (kind, self.body(number)?),
            Start::Outside(id) => self.borrow(id)?,
        };
        while let Some(number) = deltas.pop() {
            let delta = self.body(number)?;
            content = self.apply(self.records[number].line.offset, &content, &delta)?;
            self.cache.insert(Base::Here(number), content.clone());
        }
        Ok((kind, content))
    }

    /// The deltas from `base` back to an object that is none, or that is remembered.
    fn chain(
        &mut self,
        base: Base,
        remembered: impl Fn(&mut Self, Base) -> Option<Start>,
    ) -> Result<(Vec<usize>, Start), PackError> {
        let mut deltas = Vec::new();
        let mut at = base;
        loop {
            if let Some(start) = remembered(self, at) {
                return Ok((deltas, start));
            }
            let number = match at {
                Base::Outside(id) => return Ok((deltas, Start::Outside(id))),
                Base::Here(number) => number,
            };
            let entry = self.entry(number)?;
            match (entry.form, self.base_of(&entry)?) {
                (Form::Plain(kind), _) => return Ok((deltas, Start::Plain(kind, number))),
                (_, Some(base)) if deltas.len() < self.records.len() => {
                    deltas.push(number);
                    at = base;
                }
                _ => return Err(PackError::Object { offset: entry.offset, what: "builds on itself" }),
            }
        }
    }

    fn remembered(&mut self, base: Base) -> Option<Start> {
        let kind = match base {
            Base::Here(number) => self.records[number].kind?,
            Base::Outside(_) => return None,
        };
        self.cache.get(base).map(|content| Start::Remembered(kind, content))
    }

    fn apply(&self, offset: u64, base: &Content, delta: &Content) -> Result<Content, PackError> {
        delta::apply(base, delta, self.place).map_err(|error| match error {
            DeltaError::Damaged(what) => PackError::Object { offset, what },
            DeltaError::Disk(error) => PackError::Disk(error),
        })
    }

    /// Reads the header of an object again.
    fn entry(&self, number: usize) -> Result<Entry, PackError> {
        let offset = self.records[number].line.offset;
        Entry::read(&mut Input::with_capacity(32, Back { pack: self.pack, offset }, io::sink()), offset)
    }

    /// Inflates an object, or its delta, again.
    fn body(&mut self, number: usize) -> Result<Content, PackError> {
        let offset = self.records[number].line.offset;
        let mut input = Input::with_capacity(BACK, Back { pack: self.pack, offset }, io::sink());
        let entry = Entry::read(&mut input, offset)?;
        self.inflate(&mut input, &entry)
    }

    fn inflate<R: Read, W: Write>(&mut self, input: &mut Input<R, W>, entry: &Entry) -> Result<Content, PackError> {
        let mut draft = Draft::new(entry.size, self.place).map_err(PackError::Disk)?;
        self.inflater
            .inflate(input, (entry.offset, entry.size), |piece| draft.write_all(piece).map_err(PackError::Disk))?;
        Ok(draft.finish())
    }
}

/// Reads what was written.
struct Back<'a> {
    pack: &'a File,
    offset: u64,
}

impl Read for Back<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.pack.read_at(into, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

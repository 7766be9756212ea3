//! `checkout: git`: files as `git checkout` on Linux writes them (gitattributes(5)): `eol`, `ident` and
//! `working-tree-encoding`. Nothing outside the tree counts: no configuration, no system attributes, and never a filter.
//!
//! Converted content is kept as any blob: in a segment of the repository, under the id of what it is now. So images,
//! directories, views, eviction and the scrub know nothing of it. The id says nothing about the conversion: that is the
//! verifier's word alone.

use std::collections::HashMap;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use git2::ObjectType;
use git2::Oid;

use super::SnapshotError;
use super::TreeRequest;
use super::Watch;
use super::blob;
use super::listing::Entry;
use super::listing::Listing;
use super::object;
use super::widen;
use crate::content;
use crate::content::Extent;
use crate::content::SegmentWriter;
use crate::content::Segments;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::spec::CommitId;

mod attributes;
mod convert;
mod effort;
mod encoding;
mod pattern;

use attributes::Attributes;
use attributes::Macros;
use attributes::Rules;
use attributes::State;
use convert::Conversion;
use effort::Effort;
use effort::MOST_STEPS;
use effort::Stop;

/// The name of the files with attributes.
const NAME: &[u8] = b".gitattributes";

/// Most bytes of all files with attributes of a tree, with the paths of their directories. In memory they may take 60 times
/// as many.
const MOST_RULES: u64 = 2 << 20;

/// Largest file that is converted, before and after, in bytes: both are held in memory.
const LARGEST: u32 = 64 << 20;

/// Bytes of converted files that are held in memory before they are looked for in the repository.
const BATCH: usize = 32 << 20;

/// Gives a repository that can be written to, once there is something to write.
pub(crate) type Writable<'a> = &'a mut dyn FnMut() -> Result<PathBuf, SnapshotError>;

/// The new id of each file that changes, by its number in the listing, and the repository that has what is new.
type Written = (Vec<(usize, Oid)>, Option<PathBuf>);

/// What the limits here are limits of.
const SETTING: &str = "checkout: git";

/// Converts the files of a listed tree whose attributes say so, and makes the listing name what came of them. What is new
/// becomes a segment of the repository that `writable` gives, which must build on `repository` or be it. Returns that, or
/// `repository` if nothing is new. Those that a filter has written are as they should be: git converts what a filter
/// reads, and not what it writes.
pub(super) fn convert(
    repository: &Path,
    writable: Writable<'_>,
    request: &TreeRequest,
    listing: &mut Listing,
    filtered: &HashSet<usize>,
    watch: &Watch,
) -> Result<PathBuf, SnapshotError> {
    let segments = Segments::open(repository).map_err(|error| failed("open the segments of", error))?;
    let source = Source::new(repository, request, &segments);
    let rules = TreeRules::read(&source, listing)?;
    if rules.is_empty() {
        return Ok(repository.to_owned());
    }
    let wanted = wanted(&source, &rules, listing, filtered, watch)?;
    let (converted, written) = Conversions::new(&source, wanted, listing)?.write(writable, watch)?;
    for (number, id) in converted {
        listing.entries[number].id = id;
    }
    Ok(written.unwrap_or_else(|| repository.to_owned()))
}

/// The files that may change, by their number in the listing, and how.
fn wanted(
    source: &Source<'_>,
    rules: &TreeRules,
    listing: &Listing,
    filtered: &HashSet<usize>,
    watch: &Watch,
) -> Result<Vec<(usize, Conversion)>, SnapshotError> {
    let mut wanted = Vec::new();
    let mut effort = Effort::new(MOST_STEPS, &watch.cancel);
    for (number, entry) in listing.entries.iter().enumerate() {
        if !is_file(entry.mode) || filtered.contains(&number) {
            continue;
        }
        source.check_wanted(watch)?;
        let attributes = rules.of_entry(listing, entry, &mut effort).map_err(|stop| source.stopped(stop))?;
        let conversion = Conversion::of(&attributes);
        wanted.extend(conversion.map(|conversion| (number, conversion)));
    }
    Ok(wanted)
}

fn is_file(mode: EntryMode) -> bool {
    matches!(mode, EntryMode::File | EntryMode::Executable)
}

/// Where the tree comes from.
pub(super) struct Source<'a> {
    repository: &'a Path,
    request: &'a TreeRequest,
    segments: &'a Segments,
}

impl<'a> Source<'a> {
    /// The tree of a request in a bare repository with these segments.
    pub(super) fn new(repository: &'a Path, request: &'a TreeRequest, segments: &'a Segments) -> Self {
        Self { repository, request, segments }
    }

    /// The commit.
    pub(super) fn commit(&self) -> CommitId {
        self.request.commit
    }

    pub(super) fn incomplete(&self, what: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Incomplete { commit: self.request.commit, source: Cause::new(what) }
    }

    fn too_large(&self, what: &str, limit: u64) -> SnapshotError {
        SnapshotError::addition_too_large(self.request.commit, what, limit, SETTING)
    }

    fn stopped(&self, stop: Stop) -> SnapshotError {
        match stop {
            Stop::TooMuch => self.too_large("steps to match files with attributes", MOST_STEPS),
            Stop::Interrupted(source) => SnapshotError::Interrupted { commit: self.request.commit, source },
        }
    }

    /// The content of a file with this conversion; `None` if it stays as it is.
    fn convert(&self, id: Oid, extent: Extent, conversion: &Conversion) -> Result<Option<Vec<u8>>, SnapshotError> {
        let too_large = || self.too_large("bytes of a file that is converted", LARGEST.into());
        if extent.length > LARGEST.into() {
            return Err(too_large());
        }
        let most = usize::try_from(LARGEST).unwrap_or(usize::MAX);
        conversion.apply(&self.read(id, extent)?, id, most).map_err(|_| too_large())
    }

    pub(super) fn check_wanted(&self, watch: &Watch) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })
    }

    pub(super) fn locate(&self, ids: &[Oid]) -> Result<Vec<Option<Extent>>, SnapshotError> {
        blob::locate(self.segments, ids, self.request.commit)
    }

    pub(super) fn read(&self, id: Oid, extent: Extent) -> Result<Vec<u8>, SnapshotError> {
        blob::read(self.segments, id, extent, self.request.commit)
    }
}

/// The attributes of a tree.
pub(super) struct TreeRules {
    /// The path of the listed tree in the repository, with a slash at its end.
    above: Vec<u8>,
    /// Of the directories above it, the repository's root first.
    outer: Vec<Rules>,
    /// Of the directories in it, by their number in the listing.
    inner: HashMap<usize, Rules>,
    macros: Macros,
}

impl TreeRules {
    pub(super) fn read(source: &Source<'_>, listing: &Listing) -> Result<Self, SnapshotError> {
        let mut above = Vec::new();
        let mut left = MOST_RULES;
        let mut spend = |length: u64| {
            left = left
                .checked_sub(length)
                .ok_or_else(|| source.too_large("bytes of files with attributes", MOST_RULES))?;
            Ok::<_, SnapshotError>(())
        };
        // The directory of each file with attributes, and its number in the listing, if it is there.
        let mut files = Vec::new();
        for (base, id) in outer_files(source)? {
            spend(widen(base.len()))?;
            files.extend(id.map(|id| (base.clone(), id, None)));
            above = base;
        }
        for entry in &listing.entries {
            if is_file(entry.mode) && listing.entry_name(entry).to_bytes() == NAME {
                let mut base = [above.as_slice(), &listing.directory_path_in_tree(entry.directory)].concat();
                if !base.is_empty() && !base.ends_with(b"/") {
                    base.push(b'/');
                }
                // Even if nothing is in it.
                spend(1 + widen(base.len()))?;
                files.push((base, entry.id, Some(entry.directory)));
            }
        }
        let ids: Vec<Oid> = files.iter().map(|(_, id, _)| *id).collect();
        let (mut macros, mut outer, mut inner) = (Macros::default(), Vec::new(), HashMap::new());
        for ((base, id, directory), extent) in files.into_iter().zip(source.locate(&ids)?) {
            let extent = extent.ok_or_else(|| blob::missing(source.request.commit, id))?;
            spend(extent.length)?;
            let rules = Rules::parse(&source.read(id, extent)?, &base);
            if base.is_empty() {
                macros.define(&rules);
            }
            match directory {
                Some(directory) => drop(inner.insert(directory, rules)),
                None => outer.push(rules),
            }
        }
        Ok(Self { above, outer, inner, macros })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outer.is_empty() && self.inner.is_empty()
    }

    /// The numbers of the files that a filter of this name writes.
    pub(super) fn filtered_by(
        &self,
        filter: &[u8],
        source: &Source<'_>,
        listing: &Listing,
        watch: &Watch,
    ) -> Result<Vec<usize>, SnapshotError> {
        let mut found = Vec::new();
        let mut effort = Effort::new(MOST_STEPS, &watch.cancel);
        for (number, entry) in listing.entries.iter().enumerate().filter(|(_, entry)| is_file(entry.mode)) {
            source.check_wanted(watch)?;
            let attributes = self.of_entry(listing, entry, &mut effort).map_err(|stop| source.stopped(stop))?;
            if matches!(attributes.get("filter"), Some(State::Value(name)) if name == filter) {
                found.push(number);
            }
        }
        Ok(found)
    }

    fn of_entry(&self, listing: &Listing, entry: &Entry, effort: &mut Effort<'_>) -> Result<Attributes, Stop> {
        let path = [self.above.as_slice(), &listing.path_in_tree(entry)].concat();
        self.of(listing, entry.directory, &path, effort)
    }

    /// The attributes of a file: those of its own directory come first, and what they leave open those above decide.
    fn of(
        &self,
        listing: &Listing,
        mut directory: usize,
        path: &[u8],
        effort: &mut Effort<'_>,
    ) -> Result<Attributes, Stop> {
        let mut found = Attributes::default();
        loop {
            effort.spend(1)?;
            if let Some(rules) = self.inner.get(&directory) {
                rules.apply(path, &self.macros, effort, &mut found)?;
            }
            if directory <= listing.tree_root {
                break;
            }
            directory = listing.directories[directory].parent;
        }
        for rules in self.outer.iter().rev() {
            rules.apply(path, &self.macros, effort, &mut found)?;
        }
        Ok(found)
    }
}

/// The path of a directory, with a slash at its end, and the id of the file with attributes in it.
type OuterFile = (Vec<u8>, Option<Oid>);

/// The directories above the listed tree, the repository's root first. The last one is the tree itself, whose attributes
/// are in the listing.
fn outer_files(source: &Source<'_>) -> Result<Vec<OuterFile>, SnapshotError> {
    let commit = source.request.commit;
    let mut found = Vec::new();
    if source.request.tree.subdirectory.is_root() {
        return Ok(found);
    }
    let unreadable = |error: git2::Error| SnapshotError::unreadable(commit, &error);
    let opened = git2::Repository::open_bare(source.repository).map_err(unreadable)?;
    let odb = opened.odb().map_err(unreadable)?;
    let id = Oid::from_bytes(commit.as_bytes()).map_err(unreadable)?;
    let root = object::read(&odb, commit, id, ObjectType::Commit)?;
    let mut tree = crate::object::tree_of(root.data()).ok_or_else(|| source.incomplete("the commit names no tree"))?;
    let mut base = Vec::new();
    for component in source.request.tree.subdirectory.components() {
        let object = object::read(&odb, commit, tree, ObjectType::Tree)?;
        let entries = || TreeObject(object.data()).map_while(Result::ok);
        let is_file = |mode: Option<EntryMode>| mode.is_some_and(is_file);
        let file = entries().find(|entry| entry.name == NAME && is_file(entry.mode())).map(|entry| entry.id);
        found.push((base.clone(), file));
        let next = entries().find(|entry| entry.name == component.as_bytes() && entry.is_tree());
        tree = next.map(|entry| entry.id).ok_or_else(|| source.incomplete("the subdirectory is gone"))?;
        base.extend_from_slice(component.as_bytes());
        base.push(b'/');
    }
    found.push((base, None));
    Ok(found)
}

/// The files that may change.
struct Conversions<'a> {
    source: &'a Source<'a>,
    /// The number, the id, the place and the conversion of each.
    files: Vec<(usize, Oid, Extent, Conversion)>,
}

impl<'a> Conversions<'a> {
    fn new(source: &'a Source<'a>, wanted: Vec<(usize, Conversion)>, listing: &Listing) -> Result<Self, SnapshotError> {
        let ids: Vec<Oid> = wanted.iter().map(|(number, _)| listing.entries[*number].id).collect();
        let located = source.locate(&ids)?;
        let mut files = Vec::new();
        for (((number, conversion), id), extent) in wanted.into_iter().zip(ids).zip(located) {
            // What is missing is named when the whole tree is located.
            let Some(extent) = extent else { continue };
            files.push((number, id, extent, conversion));
        }
        Ok(Self { source, files })
    }

    /// Writes what is not in the repository yet.
    fn write(self, writable: Writable<'_>, watch: &Watch) -> Result<Written, SnapshotError> {
        let Self { source, files } = self;
        let mut changed = Vec::new();
        let mut seen = HashSet::new();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut segment = NewSegment { source, writable, written: None, blobs: Vec::new(), bytes: 0 };
        for (number, id, extent, conversion) in files {
            source.check_wanted(watch)?;
            let Some(content) = source.convert(id, extent, &conversion)? else { continue };
            let new = Oid::hash_object(ObjectType::Blob, &content);
            let new = new.map_err(|error| SnapshotError::unreadable(source.request.commit, &error))?;
            changed.push((number, new));
            if !seen.insert(new) {
                continue;
            }
            bytes += content.len();
            batch.push((new, content));
            if bytes >= BATCH {
                segment.add_missing(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        segment.add_missing(batch)?;
        Ok((changed, segment.finish()?))
    }
}

/// A segment of converted files.
struct NewSegment<'a> {
    source: &'a Source<'a>,
    writable: Writable<'a>,
    /// Where it is, once there is one.
    written: Option<(PathBuf, SegmentWriter)>,
    blobs: Vec<(Oid, u64, u64)>,
    bytes: u64,
}

impl NewSegment<'_> {
    /// Adds those that the repository does not have.
    fn add_missing(&mut self, batch: Vec<(Oid, Vec<u8>)>) -> Result<(), SnapshotError> {
        let ids: Vec<Oid> = batch.iter().map(|(id, _)| *id).collect();
        let missing = batch.into_iter().zip(self.source.locate(&ids)?).filter(|(_, there)| there.is_none());
        missing.map(|(blob, _)| blob).try_for_each(|(id, content)| self.add(id, &content))
    }

    fn add(&mut self, id: Oid, content: &[u8]) -> Result<(), SnapshotError> {
        self.bytes = self.bytes.saturating_add(widen(content.len()));
        let limit = self.source.request.limits.tree_bytes;
        if self.bytes > limit {
            return Err(SnapshotError::addition_too_large(
                self.source.request.commit,
                "bytes",
                limit,
                "limits.treeBytes",
            ));
        }
        let (repository, mut writer) = match self.written.take() {
            Some(written) => written,
            None => {
                let repository = (self.writable)()?;
                let writer = SegmentWriter::create(&repository.join(content::DIRECTORY));
                (repository, writer.map_err(|error| failed("make a segment in", error))?)
            }
        };
        let put = writer.begin().and_then(|place| writer.write_all(content).map(|()| place));
        let place = put.map_err(|error| failed("write a segment in", error))?;
        self.written = Some((repository, writer));
        self.blobs.push((id, place, widen(content.len())));
        Ok(())
    }

    /// Returns the repository that has it, if there is one.
    fn finish(self) -> Result<Option<PathBuf>, SnapshotError> {
        let Some((repository, writer)) = self.written else { return Ok(None) };
        writer.finish(self.blobs.into_iter()).map_err(|error| failed("finish a segment in", error))?;
        Ok(Some(repository))
    }
}

fn failed(action: &str, error: std::io::Error) -> SnapshotError {
    SnapshotError::io(action, b"the repository", error)
}

#[cfg(test)]
mod tests;

//! `checkout: git`: files as `git checkout` on Linux writes them (gitattributes(5)): `eol`, `ident` and
//! `working-tree-encoding`. Nothing outside the tree counts: no configuration, no system attributes, and never a filter.
//!
//! Converted content is kept as any blob: in a segment of the repository, under the id of what it is now. So images,
//! directories, views, eviction and the scrub know nothing of it. The id says nothing about the conversion: that is the
//! verifier's word alone.

use std::collections::HashSet;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::SnapshotError;
use super::TreeRequest;
use super::Watch;
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
mod encoding;
mod pattern;

use attributes::Attributes;
use attributes::Macros;
use attributes::Rules;
use attributes::State;
use convert::Conversion;

/// The name of the files with attributes.
const NAME: &[u8] = b".gitattributes";

/// Most bytes of all files with attributes of a tree.
const MOST_RULES: u64 = 16 << 20;

/// Largest file that is converted, in bytes: it is held in memory, before and after.
const LARGEST: u64 = 64 << 20;

/// What the limits here are limits of.
const SETTING: &str = "checkout: git";

/// Converts the files of a listed tree whose attributes say so, into a segment of `repository`, a bare one that can be
/// written to, and makes the listing name what came of them. Those that a filter has written are as they should be: git
/// converts what a filter reads, and not what it writes.
pub(super) fn convert(
    repository: &Path,
    request: &TreeRequest,
    listing: &mut Listing,
    filtered: &HashSet<usize>,
    watch: &Watch,
) -> Result<(), SnapshotError> {
    let segments = Segments::open(repository).map_err(|error| failed("open the segments of", error))?;
    let source = Source::new(repository, request, &segments);
    let rules = TreeRules::read(&source, listing)?;
    if rules.is_empty() {
        return Ok(());
    }
    let wanted = wanted(&source, &rules, listing, filtered, watch)?;
    let converted = Conversions::new(&source, wanted, listing)?.write(watch)?;
    for (number, id) in converted {
        listing.entries[number].id = id;
    }
    Ok(())
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
    for (number, entry) in listing.entries.iter().enumerate() {
        if !is_file(entry.mode) || filtered.contains(&number) {
            continue;
        }
        source.check_wanted(watch)?;
        let conversion = Conversion::of(&rules.of_entry(listing, entry));
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
        SnapshotError::too_large(self.request.commit, what, limit, SETTING)
    }

    pub(super) fn check_wanted(&self, watch: &Watch) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })
    }

    pub(super) fn locate(&self, ids: &[Oid]) -> Result<Vec<Option<Extent>>, SnapshotError> {
        self.segments.locate(ids).map_err(|error| self.incomplete(format_args!("a segment is damaged: {error}")))
    }

    pub(super) fn read(&self, id: Oid, extent: Extent) -> Result<Vec<u8>, SnapshotError> {
        let mut content = Vec::new();
        let read = self.segments.read(extent).read_to_end(&mut content);
        read.map_err(|error| self.incomplete(format_args!("object {id}: {error}")))?;
        Ok(content)
    }
}

/// The attributes of a tree.
pub(super) struct TreeRules {
    /// The path of the listed tree in the repository, with a slash at its end.
    above: Vec<u8>,
    /// Of the directories above it, the repository's root first.
    outer: Vec<Rules>,
    /// Of the directories in it, by their number in the listing.
    inner: Vec<Option<Rules>>,
    macros: Macros,
}

impl TreeRules {
    pub(super) fn read(source: &Source<'_>, listing: &Listing) -> Result<Self, SnapshotError> {
        let mut above = Vec::new();
        // The directory of each file with attributes, and its number in the listing, if it is there.
        let mut files = Vec::new();
        for (base, id) in outer_files(source)? {
            files.extend(id.map(|id| (base.clone(), id, None)));
            above = base;
        }
        for entry in &listing.entries {
            if is_file(entry.mode) && listing.entry_name(entry).to_bytes() == NAME {
                let mut base = [above.as_slice(), &listing.directory_path_in_tree(entry.directory)].concat();
                if !base.is_empty() && !base.ends_with(b"/") {
                    base.push(b'/');
                }
                files.push((base, entry.id, Some(entry.directory)));
            }
        }
        let ids: Vec<Oid> = files.iter().map(|(_, id, _)| *id).collect();
        let (mut left, mut macros, mut outer) = (MOST_RULES, Macros::default(), Vec::new());
        let mut inner: Vec<Option<Rules>> = Vec::new();
        inner.resize_with(listing.directories.len(), || None);
        for ((base, id, directory), extent) in files.into_iter().zip(source.locate(&ids)?) {
            let extent = extent.ok_or_else(|| source.incomplete(format_args!("object {id} is missing")))?;
            let too_large = || source.too_large("bytes of files with attributes", MOST_RULES);
            left = left.checked_sub(extent.length).ok_or_else(too_large)?;
            let rules = Rules::parse(&source.read(id, extent)?, &base);
            if base.is_empty() {
                macros.define(&rules);
            }
            match directory {
                Some(directory) => inner[directory] = Some(rules),
                None => outer.push(rules),
            }
        }
        Ok(Self { above, outer, inner, macros })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outer.is_empty() && self.inner.iter().all(Option::is_none)
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
        for (number, entry) in listing.entries.iter().enumerate().filter(|(_, entry)| is_file(entry.mode)) {
            source.check_wanted(watch)?;
            if matches!(self.of_entry(listing, entry).get("filter"), Some(State::Value(name)) if name == filter) {
                found.push(number);
            }
        }
        Ok(found)
    }

    fn of_entry(&self, listing: &Listing, entry: &Entry) -> Attributes {
        let path = [self.above.as_slice(), &listing.path_in_tree(entry)].concat();
        self.of(listing, entry.directory, &path)
    }

    /// The attributes of a file: those of its own directory come first, and what they leave open those above decide.
    fn of(&self, listing: &Listing, mut directory: usize, path: &[u8]) -> Attributes {
        let mut found = Attributes::default();
        loop {
            if let Some(rules) = &self.inner[directory] {
                rules.apply(path, &self.macros, &mut found);
            }
            if directory <= listing.tree_root {
                break;
            }
            directory = listing.directories[directory].parent;
        }
        self.outer.iter().rev().for_each(|rules| rules.apply(path, &self.macros, &mut found));
        found
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
            if extent.length > LARGEST {
                return Err(source.too_large("bytes of a file that is converted", LARGEST));
            }
            files.push((number, id, extent, conversion));
        }
        Ok(Self { source, files })
    }

    /// Writes what is not in the repository yet, and returns the new id of each file that changes, by its number. What is
    /// converted is not kept in memory: what has to be written is converted once more.
    fn write(self, watch: &Watch) -> Result<Vec<(usize, Oid)>, SnapshotError> {
        let Self { source, files } = self;
        let mut changed = Vec::new();
        for (at, (number, id, extent, conversion)) in files.iter().enumerate() {
            source.check_wanted(watch)?;
            if let Some(content) = conversion.apply(&source.read(*id, *extent)?, *id) {
                let new = Oid::hash_object(ObjectType::Blob, &content);
                let new = new.map_err(|error| SnapshotError::unreadable(source.request.commit, &error))?;
                changed.push((at, *number, new));
            }
        }
        let ids: Vec<Oid> = changed.iter().map(|(.., new)| *new).collect();
        let mut segment = NewSegment { source, writer: None, blobs: Vec::new(), ids: HashSet::new(), bytes: 0 };
        for ((at, _, new), there) in changed.iter().zip(source.locate(&ids)?) {
            if there.is_some() || !segment.ids.insert(*new) {
                continue;
            }
            source.check_wanted(watch)?;
            let (_, id, extent, conversion) = &files[*at];
            let content = conversion.apply(&source.read(*id, *extent)?, *id).unwrap_or_default();
            segment.add(*new, &content)?;
        }
        segment.finish()?;
        Ok(changed.into_iter().map(|(_, number, new)| (number, new)).collect())
    }
}

/// A segment of converted files.
struct NewSegment<'a> {
    source: &'a Source<'a>,
    writer: Option<SegmentWriter>,
    blobs: Vec<(Oid, u64, u64)>,
    ids: HashSet<Oid>,
    bytes: u64,
}

impl NewSegment<'_> {
    fn add(&mut self, id: Oid, content: &[u8]) -> Result<(), SnapshotError> {
        self.bytes = self.bytes.saturating_add(widen(content.len()));
        let limit = self.source.request.limits.tree_bytes;
        if self.bytes > limit {
            return Err(SnapshotError::too_large(self.source.request.commit, "bytes", limit, "limits.treeBytes"));
        }
        let directory = self.source.repository.join(content::DIRECTORY);
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => SegmentWriter::create(&directory).map_err(|error| failed("make a segment in", error))?,
        };
        let put = writer.begin().and_then(|place| writer.write_all(content).map(|()| place));
        let place = put.map_err(|error| failed("write a segment in", error))?;
        self.writer = Some(writer);
        self.blobs.push((id, place, widen(content.len())));
        Ok(())
    }

    fn finish(self) -> Result<(), SnapshotError> {
        let Some(writer) = self.writer else { return Ok(()) };
        writer.finish(self.blobs.into_iter()).map_err(|error| failed("finish a segment in", error))
    }
}

fn failed(action: &str, error: std::io::Error) -> SnapshotError {
    SnapshotError::io(action, b"the repository", error)
}

#[cfg(test)]
mod tests;

//! `checkout: git`: files as `git checkout` on Linux writes them (gitattributes(5)): `eol`, `ident` and
//! `working-tree-encoding`. Nothing outside the tree counts: no configuration, no system attributes, and never a filter.
//!
//! Converted content is kept as any blob: in a segment of the repository, under the id of what it is now. So images,
//! directories, views, eviction and the scrub know nothing of it; only the index of `.git` names what the commit has. The id says nothing about the conversion: that is the
//! verifier's word alone.

use std::collections::HashMap;
use std::collections::HashSet;
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
use super::located::Located;
use super::object;
use super::widen;
use crate::content::Extent;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::object::TreeObject;
use crate::spec::CommitId;

mod attributes;
mod convert;
mod effort;
mod encoding;
mod pattern;
mod segment;
mod wanted;

use attributes::Attributes;
use attributes::Macros;
use attributes::Rules;
use attributes::State;
use convert::Conversion;
use effort::Effort;
use effort::MOST_STEPS;
use effort::Stop;
use pattern::Subject;
use segment::NewSegment;
use wanted::Task;
use wanted::Wanted;

/// The name of the files with attributes.
const NAME: &[u8] = b".gitattributes";

/// Most bytes of all files with attributes of a tree, with the paths of their directories. In memory they may take 60 times
/// as many.
const MOST_RULES: u64 = 2 << 20;

/// Largest file that is converted, before and after, in bytes: both are held in memory.
const LARGEST: u32 = 64 << 20;

/// Gives a repository that can be written to, once there is something to write.
pub(crate) type Writable<'a> = &'a mut dyn FnMut() -> Result<PathBuf, SnapshotError>;

/// What the limits here are limits of.
const SETTING: &str = "checkout: git";

/// What the conversion of a tree changes.
pub(super) struct Converted {
    /// The repository that has what is new.
    pub(super) repository: PathBuf,
    /// The new id of each file that changes, by its number in the listing.
    files: Vec<(usize, Oid)>,
}

impl Converted {
    /// Makes the listing name what came of its files.
    pub(super) fn apply(&self, listing: &mut Listing) {
        for (number, id) in &self.files {
            listing.replace(*number, *id);
        }
    }
}

/// Converts the files of a tree whose attributes say so; `None` if none changes. What is new becomes a segment of the
/// repository that `writable` gives, which must build on `repository` or be it.
///
/// The tree is within its limits. So no more is read than they allow, and no more is made. Those files that a filter has
/// written are as they should be: git converts what a filter reads, and not what it writes.
pub(super) fn convert(
    repository: &Path,
    writable: Writable<'_>,
    located: &Located<'_>,
    filtered: &HashSet<usize>,
    watch: &Watch,
) -> Result<Option<Converted>, SnapshotError> {
    let source = Source::new(repository, located, SETTING);
    let rules = TreeRules::read(&source)?;
    if rules.is_empty() {
        return Ok(None);
    }
    write(&source, wanted(&source, &rules, filtered, watch)?, writable, watch)
}

/// The files that may change, and how.
fn wanted(
    source: &Source<'_>,
    rules: &TreeRules,
    filtered: &HashSet<usize>,
    watch: &Watch,
) -> Result<Wanted, SnapshotError> {
    let listing = source.located.listing;
    let mut wanted = Wanted::default();
    let mut effort = Effort::new(MOST_STEPS, &watch.cancel);
    for (number, (entry, extent)) in listing.entries.iter().zip(&source.located.extents).enumerate() {
        let may_change = is_file(entry.mode) && !filtered.contains(&number);
        let (true, Some(extent)) = (may_change, extent) else { continue };
        source.check_wanted(watch)?;
        let attributes = rules.of_entry(listing, entry, &mut effort).map_err(|stop| source.stopped(stop))?;
        if let Some(conversion) = Conversion::of(&attributes) {
            wanted.add(number, entry.id, *extent, conversion);
        }
    }
    Ok(wanted)
}

/// Converts, and writes what is not in the repository yet.
fn write(
    source: &Source<'_>,
    mut wanted: Wanted,
    writable: Writable<'_>,
    watch: &Watch,
) -> Result<Option<Converted>, SnapshotError> {
    let TreeRequest { commit, limits, .. } = source.located.request;
    let (mut files, mut bytes) = (Vec::new(), 0_u64);
    let mut segment = NewSegment::new(source, writable);
    for task in wanted.tasks() {
        source.check_wanted(watch)?;
        let Some(content) = source.convert(&task)? else { continue };
        // That much is in the tree, whatever becomes of the rest.
        bytes = bytes.saturating_add(widen(content.len()).saturating_mul(widen(task.files.len())));
        if bytes > limits.tree_bytes {
            return Err(SnapshotError::addition_too_large(*commit, "bytes", limits.tree_bytes, "limits.treeBytes"));
        }
        let new = Oid::hash_object(ObjectType::Blob, &content);
        let new = new.map_err(|error| SnapshotError::unreadable(*commit, &error))?;
        files.extend(task.files.iter().map(|file| (file.number, new)));
        segment.add(new, content)?;
    }
    let written = segment.finish()?;
    let repository = written.unwrap_or_else(|| source.repository.to_owned());
    Ok((!files.is_empty()).then_some(Converted { repository, files }))
}

fn is_file(mode: EntryMode) -> bool {
    matches!(mode, EntryMode::File | EntryMode::Executable)
}

/// Where the tree comes from.
pub(super) struct Source<'a> {
    repository: &'a Path,
    located: &'a Located<'a>,
    /// The option that reads attributes, for messages.
    setting: &'static str,
}

impl<'a> Source<'a> {
    /// A tree in a bare repository.
    pub(super) fn new(repository: &'a Path, located: &'a Located<'a>, setting: &'static str) -> Self {
        Self { repository, located, setting }
    }

    pub(super) fn commit(&self) -> CommitId {
        self.located.request.commit
    }

    pub(super) fn incomplete(&self, what: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Incomplete { commit: self.commit(), source: Cause::new(what) }
    }

    fn too_large(&self, what: &str, limit: u64) -> SnapshotError {
        SnapshotError::addition_too_large(self.commit(), what, limit, self.setting)
    }

    fn stopped(&self, stop: Stop) -> SnapshotError {
        match stop {
            Stop::TooMuch => self.too_large("steps to match files with attributes", MOST_STEPS),
            Stop::Interrupted(source) => SnapshotError::Interrupted { commit: self.commit(), source },
        }
    }

    /// What a blob becomes; `None` if it stays as it is.
    fn convert(&self, task: &Task<'_>) -> Result<Option<Vec<u8>>, SnapshotError> {
        let too_large = || self.too_large("bytes of a file that is converted", LARGEST.into());
        if task.extent.length > LARGEST.into() {
            return Err(too_large());
        }
        let most = usize::try_from(LARGEST).unwrap_or(usize::MAX);
        task.conversion.apply(&self.read(task.id, task.extent)?, task.id, most).map_err(|_| too_large())
    }

    pub(super) fn check_wanted(&self, watch: &Watch) -> Result<(), SnapshotError> {
        let commit = self.commit();
        watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })
    }

    pub(super) fn locate(&self, ids: &[Oid]) -> Result<Vec<Option<Extent>>, SnapshotError> {
        blob::locate(&self.located.segments, ids, self.commit())
    }

    pub(super) fn read(&self, id: Oid, extent: Extent) -> Result<Vec<u8>, SnapshotError> {
        blob::read(&self.located.segments, id, extent, self.commit())
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
    pub(super) fn read(source: &Source<'_>) -> Result<Self, SnapshotError> {
        let listing = source.located.listing;
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
            let extent = extent.ok_or_else(|| blob::missing(source.commit(), id))?;
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
        watch: &Watch,
    ) -> Result<Vec<usize>, SnapshotError> {
        let listing = source.located.listing;
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
        self.of(listing, entry.directory, Subject::new(&path), effort)
    }

    /// The attributes of a file: those of its own directory come first, and what they leave open those above decide.
    fn of(
        &self,
        listing: &Listing,
        mut directory: usize,
        path: Subject<'_>,
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
    let commit = source.commit();
    let mut found = Vec::new();
    if source.located.request.tree.subdirectory.is_root() {
        return Ok(found);
    }
    let unreadable = |error: git2::Error| SnapshotError::unreadable(commit, &error);
    let opened = git2::Repository::open_bare(source.repository).map_err(unreadable)?;
    let odb = opened.odb().map_err(unreadable)?;
    let id = Oid::from_bytes(commit.as_bytes()).map_err(unreadable)?;
    let root = object::read(&odb, commit, id, ObjectType::Commit)?;
    let mut tree = crate::object::tree_of(root.data()).ok_or_else(|| source.incomplete("the commit names no tree"))?;
    let mut base = Vec::new();
    for component in source.located.request.tree.subdirectory.components() {
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

#[cfg(test)]
mod tests;

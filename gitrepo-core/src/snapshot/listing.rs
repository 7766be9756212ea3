//! The content of a commit's tree, read from the object database and checked before anything is written.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::path::Path;

use git2::ObjectType;
use git2::Odb;
use git2::OdbObject;
use git2::Oid;
use git2::Repository;

use super::SnapshotError;
use super::TreeRequest;
use super::Watch;
use super::lfs;
use super::object;
use super::submodules;
use crate::error::Cause;
use crate::object::EntryMode;
use crate::object::TreeEntry;
use crate::object::TreeObject;
use crate::object::time_of;
use crate::object::tree_of;
use crate::spec::RelativePath;
use crate::spec::names;

/// The whole tree, in the order of `git ls-tree -r`. An entry takes some 50 bytes plus its name.
pub(crate) struct Listing {
    /// The volume's root, the directories above the tree, the tree's root, then those below: parents come first.
    pub(crate) directories: Vec<Directory>,
    /// Everything that is not a directory in git.
    pub(crate) entries: Vec<Entry>,
    /// The ids in the commit of those files that have other content, by their numbers in the entries; if `.git` needs them.
    pub(crate) committed: Option<BTreeMap<usize, Oid>>,
    /// The time of the commit, in seconds since 1970.
    pub(crate) time: i64,
    /// Index of the tree's root in the directories.
    pub(crate) tree_root: usize,
    /// The blob of the commit's `.gitmodules`, if submodules are wanted.
    pub(crate) gitmodules: Option<Oid>,
    /// The blob of the commit's `.lfsconfig`, if the content of LFS pointers is wanted.
    pub(crate) lfs_config: Option<Oid>,
    /// The tree's path in the commit, with a slash at its end; empty for all of it.
    above: Vec<u8>,
    /// All names, each followed by a NUL.
    names: Vec<u8>,
}

/// A directory to be created.
pub(crate) struct Directory {
    /// Its index in [`Listing::directories`]; the volume's root is its own parent.
    pub(crate) parent: usize,
    name: Name,
    /// Components and bytes of its path in the volume.
    depth: u32,
    length: u32,
}

/// A file, a link, or a submodule's directory.
pub(crate) struct Entry {
    /// The index of its directory in [`Listing::directories`].
    pub(crate) directory: usize,
    name: Name,
    pub(crate) mode: EntryMode,
    /// The id of the blob with its content, or of the submodule's commit.
    pub(crate) id: Oid,
}

/// The offset of a name in [`Listing::names`].
#[derive(Clone, Copy)]
struct Name(usize);

/// An entry whose place is known, but not yet its content.
struct Pending {
    parent: usize,
    name: Name,
    /// `None` for a tree.
    mode: Option<EntryMode>,
    id: Oid,
}

impl Listing {
    /// Opens a bare repository, and lists the tree of `request`.
    pub(crate) fn of(repository: &Path, request: &TreeRequest, watch: &Watch) -> Result<Self, SnapshotError> {
        let opened = crate::sys::git::isolate()
            .and_then(|()| Repository::open_bare(repository))
            .map_err(|error| SnapshotError::unreadable(request.commit, &error))?;
        Self::read(&opened, request, watch)
    }

    /// Lists the tree of `request`, or rejects it.
    pub(crate) fn read(repository: &Repository, request: &TreeRequest, watch: &Watch) -> Result<Self, SnapshotError> {
        let commit = request.commit;
        let unreadable = |error: git2::Error| SnapshotError::unreadable(commit, &error);
        let odb = repository.odb().map_err(unreadable)?;
        let id = Oid::from_bytes(commit.as_bytes()).map_err(unreadable)?;
        let found = object::read(&odb, commit, id, ObjectType::Commit)?;
        let tree = tree_of(found.data())
            .ok_or_else(|| SnapshotError::Malformed { commit, source: Cause::new("the commit names no tree") })?;
        let listing = Self {
            directories: vec![Directory { parent: 0, name: Name(0), depth: 0, length: 0 }],
            entries: Vec::new(),
            committed: request.repository.as_ref().map(|_| BTreeMap::new()),
            time: time_of(found.data()),
            tree_root: 0,
            gitmodules: None,
            lfs_config: None,
            above: request.tree.subdirectory.components().flat_map(|name| [name, "/"]).collect::<String>().into_bytes(),
            names: vec![0],
        };
        let mut lister = Lister { odb: &odb, request, watch, listing, pending: Vec::new(), seen: 0 };
        lister.run(tree)?;
        if !request.tree.submodules.is_none() {
            lister.listing.gitmodules = lister.file_of_root(tree, submodules::FILE)?;
        }
        if request.tree.lfs {
            lister.listing.lfs_config = lister.file_of_root(tree, lfs::CONFIG)?;
        }
        Ok(lister.listing)
    }

    /// Gives the file of this number the content with this id.
    pub(crate) fn replace(&mut self, number: usize, id: Oid) {
        let before = std::mem::replace(&mut self.entries[number].id, id);
        if let Some(committed) = &mut self.committed {
            committed.entry(number).or_insert(before);
        }
    }

    pub(crate) fn directory_name(&self, directory: &Directory) -> &CStr {
        self.name(directory.name)
    }

    pub(crate) fn entry_name(&self, entry: &Entry) -> &CStr {
        self.name(entry.name)
    }

    /// Components of a directory's path in the volume.
    pub(crate) fn directory_depth(&self, directory: usize) -> usize {
        usize::try_from(self.directories[directory].depth).unwrap_or(usize::MAX)
    }

    /// The path of a directory in the volume; empty for the volume's root.
    pub(crate) fn directory_path(&self, directory: usize) -> CString {
        // Neither names nor slashes contain a NUL.
        CString::new(self.path_below(0, directory)).unwrap_or_default()
    }

    /// The path of an entry in the volume.
    pub(crate) fn path(&self, entry: &Entry) -> Vec<u8> {
        self.entry_path_below(0, entry)
    }

    /// The path of an entry in the tree, as git prints it.
    pub(crate) fn path_in_tree(&self, entry: &Entry) -> Vec<u8> {
        self.entry_path_below(self.tree_root, entry)
    }

    /// The path of an entry in the commit.
    pub(crate) fn path_in_commit(&self, entry: &Entry) -> Vec<u8> {
        [&self.above[..], &self.path_in_tree(entry)].concat()
    }

    /// The path of a directory in the tree.
    pub(crate) fn directory_path_in_tree(&self, directory: usize) -> Vec<u8> {
        self.path_below(self.tree_root, directory)
    }

    fn entry_path_below(&self, top: usize, entry: &Entry) -> Vec<u8> {
        let mut path = self.path_below(top, entry.directory);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(self.entry_name(entry).to_bytes());
        path
    }

    fn path_below(&self, top: usize, mut directory: usize) -> Vec<u8> {
        let mut components = Vec::new();
        while directory > top {
            components.push(self.directory_name(&self.directories[directory]).to_bytes());
            directory = self.directories[directory].parent;
        }
        components.reverse();
        components.join(&b'/')
    }

    fn name(&self, name: Name) -> &CStr {
        CStr::from_bytes_until_nul(&self.names[name.0..]).unwrap_or_default()
    }

    fn add_name(&mut self, name: &[u8]) -> Name {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.names.push(0);
        Name(start)
    }
}

/// A walk in progress: `pending` is a stack, so that depth uses none of the call stack.
struct Lister<'a> {
    odb: &'a Odb<'a>,
    request: &'a TreeRequest,
    watch: &'a Watch,
    listing: Listing,
    pending: Vec<Pending>,
    /// Entries found so far, whether read or not.
    seen: u64,
}

impl<'a> Lister<'a> {
    fn run(&mut self, root: Oid) -> Result<(), SnapshotError> {
        let tree = self.select(root)?;
        let mut top = 0;
        for component in self.request.tree.directory.components() {
            self.count_entry()?;
            let name = self.listing.add_name(component.as_bytes());
            top = self.add_directory(top, name);
        }
        self.listing.tree_root = top;
        self.look_into(tree, top)?;
        while let Some(Pending { parent, name, mode, id }) = self.pending.pop() {
            if matches!(mode, None | Some(EntryMode::Submodule)) {
                let place = self.add_directory(parent, name);
                if mode.is_none() {
                    self.look_into(id, place)?;
                }
            }
            if let Some(mode) = mode {
                self.listing.entries.push(Entry { directory: parent, name, mode, id });
            }
        }
        Ok(())
    }

    /// Finds the tree of the subdirectory in the object database, so no link is followed.
    fn select(&self, root: Oid) -> Result<Oid, SnapshotError> {
        let commit = self.request.commit;
        let subdirectory = &self.request.tree.subdirectory;
        let mut tree = root;
        let mut existing = RelativePath::root();
        for component in subdirectory.components() {
            let object = self.read_tree(tree)?;
            let mut entries = TreeObject(object.data());
            let Some(entry) =
                entries.find(|entry| entry.as_ref().map_or(true, |entry| entry.name == component.as_bytes()))
            else {
                return Err(SnapshotError::SubdirectoryNotFound {
                    commit,
                    subdirectory: subdirectory.clone(),
                    existing,
                });
            };
            let entry = entry.map_err(|reason| self.malformed(tree, reason))?;
            let path = existing.child(component);
            if entry.is_tree() {
                (tree, existing) = (entry.id, path);
                continue;
            }
            let found = match entry.mode() {
                Some(EntryMode::Symlink) => "symbolic link",
                Some(EntryMode::Submodule) => "submodule",
                _ => "file",
            };
            let (subdirectory, found) = (subdirectory.clone(), found.to_owned());
            return Err(SnapshotError::NotADirectory { commit, subdirectory, path, found });
        }
        Ok(tree)
    }

    /// Finds a file in the commit's root, whatever part of it is wanted.
    fn file_of_root(&self, root: Oid, name: &[u8]) -> Result<Option<Oid>, SnapshotError> {
        let object = self.read_tree(root)?;
        for entry in TreeObject(object.data()) {
            let entry = entry.map_err(|reason| self.malformed(root, reason))?;
            if entry.name == name {
                let is_file = matches!(entry.mode(), Some(EntryMode::File | EntryMode::Executable));
                return Ok(is_file.then_some(entry.id));
            }
        }
        Ok(None)
    }

    fn read_tree(&self, tree: Oid) -> Result<OdbObject<'a>, SnapshotError> {
        object::read(self.odb, self.request.commit, tree, ObjectType::Tree)
    }

    fn add_directory(&mut self, parent: usize, name: Name) -> usize {
        let Directory { depth, length, .. } = self.listing.directories[parent];
        let added = u32::try_from(self.listing.name(name).count_bytes()).unwrap_or(u32::MAX);
        let length = length.saturating_add(added).saturating_add(u32::from(depth > 0));
        self.listing.directories.push(Directory { parent, name, depth: depth + 1, length });
        self.listing.directories.len() - 1
    }

    /// Reads one tree object and pushes its entries on the stack, the first on top.
    fn look_into(&mut self, tree: Oid, place: usize) -> Result<(), SnapshotError> {
        let commit = self.request.commit;
        self.watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })?;
        let object = self.read_tree(tree)?;
        let mut children = Vec::new();
        for child in TreeObject(object.data()) {
            let child = child.map_err(|reason| self.malformed(tree, reason))?;
            self.count_entry()?;
            self.check_name(&child, place)?;
            children.push(child);
        }
        self.check_depth(place, &children)?;
        // git writes this order, but a server need not.
        children.sort_by(|one, other| one.sort_key().cmp(other.sort_key()));
        self.check_unique(&children, place)?;
        for child in children.iter().rev() {
            let name = self.listing.add_name(child.name);
            self.pending.push(Pending { parent: place, name, mode: child.mode(), id: child.id });
        }
        Ok(())
    }

    /// Counts each entry as soon as it is found, so that trees that repeat the same subtrees are rejected while still
    /// small.
    fn count_entry(&mut self) -> Result<(), SnapshotError> {
        let limit = self.request.limits.entries;
        self.seen += 1;
        if self.seen > limit { Err(self.too_large("entries", limit, "limits.entries")) } else { Ok(()) }
    }

    fn check_depth(&self, place: usize, children: &[TreeEntry<'_>]) -> Result<(), SnapshotError> {
        let limits = &self.request.limits;
        let Directory { depth, length, .. } = self.listing.directories[place];
        if depth >= limits.path_depth
            && children.iter().any(|child| child.is_tree() || child.mode() == Some(EntryMode::Submodule))
        {
            return Err(self.too_large("nested directories", limits.path_depth.into(), "limits.pathDepth"));
        }
        let longest = children.iter().map(|child| child.name.len()).max().unwrap_or_default();
        let length = u64::from(length) + u64::from(depth > 0) + u64::try_from(longest).unwrap_or(u64::MAX);
        if length > limits.path_length.into() {
            return Err(self.too_large("bytes in a path", limits.path_length.into(), "limits.pathLength"));
        }
        Ok(())
    }

    fn check_name(&self, child: &TreeEntry<'_>, place: usize) -> Result<(), SnapshotError> {
        names::check(child.name, child.mode() == Some(EntryMode::Symlink))
            .map_err(|error| self.unsafe_name(place, child.name, error.to_string()))
    }

    /// Rejects duplicate names (as in CVE-2026-44471: a link `a` and a tree `a`). `children` are sorted.
    fn check_unique(&self, children: &[TreeEntry<'_>], place: usize) -> Result<(), SnapshotError> {
        let twin = children.windows(2).find(|pair| pair[0].name == pair[1].name).map(|pair| &pair[0]);
        let shadowed = || {
            // A tree is sorted as if its name ended in a slash, so a file of that name may be far away.
            let has_file =
                |name: &[u8]| children.binary_search_by(|child| child.sort_key().cmp(name.iter().copied())).is_ok();
            children.iter().filter(|child| child.is_tree()).find(|tree| has_file(tree.name))
        };
        match twin.or_else(shadowed) {
            Some(child) => Err(self.unsafe_name(place, child.name, "two entries have this name".to_owned())),
            None => Ok(()),
        }
    }

    fn unsafe_name(&self, place: usize, name: &[u8], reason: String) -> SnapshotError {
        let directory = self.listing.directory_path(place);
        let path = [directory.to_bytes(), name].join(&b'/');
        let path = String::from_utf8_lossy(path.strip_prefix(b"/").unwrap_or(&path)).into_owned();
        SnapshotError::UnsafeName { commit: self.request.commit, path, reason }
    }

    fn too_large(&self, what: &str, limit: u64, setting: &str) -> SnapshotError {
        SnapshotError::too_large(self.request.commit, what, limit, setting)
    }

    fn malformed(&self, tree: Oid, reason: &str) -> SnapshotError {
        SnapshotError::Malformed {
            commit: self.request.commit,
            source: Cause::new(format_args!("tree {tree}: {reason}")),
        }
    }
}

#[cfg(test)]
mod tests;

//! The `.git` of a tree: a working repository for the volume's reader.
//!
//! The worker makes its pack ([`pack`](mod@pack)), and lists where its history ends. The parent checks the form of what is
//! listed, and that the pack is inside its file, but reads no object. It writes everything else itself: names, refs,
//! settings, and the index. What a remote chose, such as the name of a branch, was checked and is quoted. Nothing here can
//! make git run anything: there are no hooks, and the settings are ours.
//!
//! `git status` reads no file if the index says of each what lstat(2) says. In an image, both are our words.

use std::io;
use std::path::Path;

use git2::Oid;

use super::Owner;
use super::SnapshotError;
use super::TreeRequest;
use super::listing::Listing;
use super::mountable::listed::Extent;
use super::mountable::listed::Kind;
use super::mountable::listed::Listed;
use super::mountable::listed::Node;
use crate::spec::CommitId;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;

mod cache_tree;
mod config;
pub(crate) mod device;
mod history;
pub(crate) mod index;
pub(crate) mod pack;
pub(crate) mod shared;

pub(crate) use pack::pack;

use pack::Packed;

/// The directory's name.
const NAME: &str = ".git";

/// The path of the index in a tree.
pub(crate) const INDEX: &str = ".git/index";

/// The directories that make one a repository for git, parents first.
const DIRECTORIES: [&str; 7] = ["info", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"];

/// What `git init` writes there.
const DESCRIPTION: &str = "Unnamed repository; edit this file 'description' to name the repository.\n";
const EXCLUDE: &str = "# Patterns of files that git ignores here, as in .gitignore, but not part of any commit.\n";

/// How long after all other files the index was written, in seconds, by its time: what is not older than the index
/// git reads again.
const INDEX_IS_LATER: i64 = 1;

/// Adds `.git` to a list, in its directory `top`. The index is the last of the files that we write; its entries have this
/// many bytes.
pub(crate) fn add(
    listed: &mut Listed,
    entries: u64,
    top: Option<usize>,
    shown: &WorkingRepository,
    commit: CommitId,
    packed: &Packed,
) {
    let git_dir = listed.push(top, NAME.as_bytes(), Kind::Directory);
    let mut directories = vec![("", git_dir)];
    let directory_of = |directories: &[(&str, usize)], path: &str| {
        let (parent, _) = path.rsplit_once('/').unwrap_or_default();
        directories.iter().find(|(path, _)| *path == parent).map(|(_, node)| *node)
    };
    let name_of = |path: &str| path.rsplit('/').next().unwrap_or_default().as_bytes().to_owned();
    for path in DIRECTORIES {
        let node = listed.push(directory_of(&directories, path), &name_of(path), Kind::Directory);
        directories.push((path, node));
    }
    let (pack, index) = extents(listed.segments.len(), packed);
    for (end, content) in [("idx", index), ("pack", pack)] {
        let path = format!("objects/pack/{}.{end}", packed.name);
        let kind = Kind::File { executable: false, content };
        listed.push(directory_of(&directories, &path), &name_of(&path), kind);
        listed.summary.bytes = listed.summary.bytes.saturating_add(content.size);
    }
    let trees = cache_tree::extension(listed, top, packed.tree);
    let template = index::template(listed, entries, &trees);
    let mut files = vec![
        ("HEAD", head(shown, commit)),
        ("config", config::of(shown)),
        ("description", DESCRIPTION.to_owned()),
        ("info/exclude", EXCLUDE.to_owned()),
        ("packed-refs", refs(shown, commit)),
    ];
    if !packed.boundary.is_empty() {
        files.push(("shallow", shallow(&packed.boundary)));
    }
    let files = files.into_iter().map(|(path, content)| (path, content.into_bytes()));
    for (path, content) in files.chain([("index", template)]) {
        let (number, size) = (listed.written.len(), super::widen(content.len()));
        listed.push(directory_of(&directories, path), &name_of(path), Kind::Written { number, size });
        listed.written.push(content);
        listed.summary.bytes = listed.summary.bytes.saturating_add(size);
    }
    listed.summary.directories += 1 + super::widen(DIRECTORIES.len());
    listed.summary.files += 2 + super::widen(listed.written.len());
}

/// Refuses a tree with an index that is too large, in the worker, before its pack is made.
pub(crate) fn check_index(request: &TreeRequest, listing: &Listing) -> Result<(), SnapshotError> {
    if request.repository.is_none() {
        return Ok(());
    }
    let lengths = listing.entries.iter().map(|entry| index::entry_length(listing.path_in_tree(entry).len()));
    index::check_length(request, lengths.sum())
}

/// Fills in the index of files on a disk what lstat(2) says of them, if they show a repository.
pub(crate) fn refresh_index(root: &Path, options: &TreeOptions, shown: Option<&WorkingRepository>) -> io::Result<()> {
    if shown.is_none() {
        return Ok(());
    }
    index::refresh(&root.join(options.directory.to_string()))
}

/// Makes the `.git` of a writable copy one for the copy's group, if it shows a repository.
pub(crate) fn share_copy(
    root: &Path,
    options: &TreeOptions,
    shown: Option<&WorkingRepository>,
    owner: Owner,
) -> io::Result<()> {
    if shown.is_none() {
        return Ok(());
    }
    shared::add_to_files(&root.join(options.directory.to_string()).join(NAME), owner)
}

/// The time of a node, if it has one of its own, in seconds since 1970.
pub(crate) fn time_of(listed: &Listed, node: &Node) -> Option<i64> {
    match node.kind {
        Kind::Written { number, .. } if listed.is_index(number) => Some(index_time(listed)),
        _ => None,
    }
}

/// The time of the index, in seconds since 1970.
pub(crate) fn index_time(listed: &Listed) -> i64 {
    listed.time.saturating_add(INDEX_IS_LATER)
}

/// Where the pack and its index are, in a segment of this number.
fn extents(segment: usize, packed: &Packed) -> (Extent, Extent) {
    let ((pack, size), (index, index_size)) = (packed.pack, packed.index);
    let offset = pack::index_offset(size);
    (Extent { id: pack, segment, offset: 0, size }, Extent { id: index, segment, offset, size: index_size })
}

fn head(shown: &WorkingRepository, commit: CommitId) -> String {
    match &shown.branch {
        Some(branch) => format!("ref: refs/heads/{branch}\n"),
        None => format!("{commit}\n"),
    }
}

/// The branch, here and as the remote had it. In this file a branch may have any name, however long or nested.
fn refs(shown: &WorkingRepository, commit: CommitId) -> String {
    let branch = shown.branch.iter();
    let lines = branch.map(|name| format!("{commit} refs/heads/{name}\n{commit} refs/remotes/origin/{name}\n"));
    ["# pack-refs with: peeled fully-peeled sorted \n".to_owned()].into_iter().chain(lines).collect()
}

/// In any order.
fn shallow(boundary: &[Oid]) -> String {
    boundary.iter().map(|commit| format!("{commit}\n")).collect()
}

#[cfg(test)]
mod tests;

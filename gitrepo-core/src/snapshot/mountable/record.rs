//! The manifest of an image: where the content of each file is.
//!
//! The first record is the time of the commit: `time <seconds>\0`. The others are those of the
//! [other manifest](crate::snapshot::manifest), with the place of each blob:
//! `<mode> blob <id> <size> <segment> <offset>\t<path>\0`, and one for each directory with nothing in it:
//! `040000 tree <id> -\t<path>/\0`. They are sorted by path.

use std::io;
use std::io::Write;

use git2::Oid;

use crate::content::ALIGNMENT;
use crate::content::PREFIX;
use crate::object::EntryMode;
use crate::snapshot::listing::Entry;
use crate::snapshot::located::Located;
use crate::snapshot::manifest::is_id;

/// The id of a tree with nothing in it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Bytes of a record besides its path: mode, kind, id, two numbers, the segment, separators.
pub(super) const OVERHEAD: u64 = 6 + 1 + 6 + 1 + 40 + 1 + 20 + 1 + 48 + 1 + 20 + 1 + 1 + 1;

/// Writes all records.
pub(super) fn write(to: &mut impl Write, located: &Located<'_>) -> io::Result<()> {
    let listing = located.listing;
    write!(to, "time {}\0", listing.time)?;
    let mut empty = empty_directories(located).into_iter().peekable();
    for (entry, extent) in listing.entries.iter().zip(&located.extents) {
        let path = listing.path_in_tree(entry);
        while let Some(directory) = empty.next_if(|directory| *directory < path) {
            write_empty(to, &directory)?;
        }
        let Entry { mode, id, .. } = entry;
        match extent {
            Some(extent) => {
                let mode = match mode {
                    EntryMode::Executable => "100755",
                    EntryMode::Symlink => "120000",
                    EntryMode::File | EntryMode::Submodule => "100644",
                };
                let segment = located.segments.stem(*extent);
                write!(to, "{mode} blob {id} {} {segment} {}\t", extent.length, extent.offset)?;
            }
            None => write!(to, "160000 commit {id} -\t")?,
        }
        to.write_all(&path)?;
        to.write_all(b"\0")?;
    }
    empty.try_for_each(|directory| write_empty(to, &directory))
}

fn write_empty(to: &mut impl Write, path: &[u8]) -> io::Result<()> {
    write!(to, "040000 tree {EMPTY_TREE} -\t")?;
    to.write_all(path)?;
    to.write_all(b"\0")
}

/// The paths of the directories with nothing in them, each with a slash at its end, sorted. Submodules are not among
/// them, nor is the root.
fn empty_directories(located: &Located<'_>) -> Vec<Vec<u8>> {
    let listing = located.listing;
    let mut is_empty = vec![true; listing.directories.len()];
    is_empty[..=listing.tree_root].fill(false);
    for directory in &listing.directories[1..] {
        is_empty[directory.parent] = false;
    }
    for entry in &listing.entries {
        is_empty[entry.directory] = false;
    }
    let submodules = listing.entries.iter().filter(|entry| entry.mode == EntryMode::Submodule);
    let submodules: std::collections::HashSet<_> = submodules.map(|entry| listing.path_in_tree(entry)).collect();
    let paths = (0..is_empty.len()).filter(|at| is_empty[*at]).map(|at| listing.directory_path_in_tree(at));
    let mut paths: Vec<_> = paths.filter(|path| !submodules.contains(path)).collect();
    paths.iter_mut().for_each(|path| path.push(b'/'));
    paths.sort_unstable();
    paths
}

/// One record but the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// In the tree, without a slash at its end.
    pub(super) path: &'a [u8],
    pub(super) kind: Kind<'a>,
}

/// The type of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Directory,
    File { executable: bool, content: Place<'a> },
    Symlink { target: Place<'a> },
}

/// The part of a segment that is a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) id: Oid,
    pub(super) segment: &'a str,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Reads the first record.
pub(super) fn parse_time(bytes: &[u8]) -> Option<i64> {
    let seconds = bytes.strip_prefix(b"time ")?.strip_suffix(b"\0")?;
    std::str::from_utf8(seconds).ok()?.parse().ok()
}

/// Reads any other record.
pub(super) fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let record = bytes.strip_suffix(b"\0")?;
    let tab = record.iter().position(|&byte| byte == b'\t')?;
    let path = &record[tab + 1..];
    let mut fields = std::str::from_utf8(&record[..tab]).ok()?.split(' ');
    let (mode, kind, id, size) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if !is_id(id) {
        return None;
    }
    let (path, kind) = match (mode, kind, size) {
        ("040000", "tree", "-") => (path.strip_suffix(b"/")?, Kind::Directory),
        ("160000", "commit", "-") => (path, Kind::Directory),
        (mode, "blob", size) => {
            let place = Place {
                id: Oid::from_str(id).ok()?,
                segment: segment(fields.next()?)?,
                offset: offset(fields.next()?)?,
                size: size.parse().ok()?,
            };
            let kind = match mode {
                "100644" => Kind::File { executable: false, content: place },
                "100755" => Kind::File { executable: true, content: place },
                "120000" => Kind::Symlink { target: place },
                _ => return None,
            };
            (path, kind)
        }
        _ => return None,
    };
    (fields.next().is_none() && !path.is_empty()).then_some(Record { path, kind })
}

/// A segment is a name in a directory, and nothing else.
fn segment(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX).is_some_and(is_id).then_some(name)
}

fn offset(number: &str) -> Option<u64> {
    number.parse().ok().filter(|offset: &u64| offset.is_multiple_of(ALIGNMENT))
}

//! The manifest of a tree: its names, and where the content of each file is.
//!
//! The first record is the time of the commit: `time <seconds>\0`. Then come the segments, each once:
//! `segment <name>\0`. If the tree shows a repository, its pack follows, `pack <name> <tree> <id> <size> <id> <size>\0` with
//! the id of the commit's tree, and the ids and sizes of the pack and its index as blobs, and `shallow <id>\0` for each
//! commit whose parents are left out. The others are like those of `git ls-tree -r -l -z`, in its order, with the place of
//! each blob:
//! `<mode> blob <id> <size> <number of the segment> <offset>\t<path>\0`, and `160000 commit <id> -\t<path>\0` for a
//! submodule's directory, in a [part](crate::snapshot::Part) with its URL in place of `-`. If the tree shows a repository, a
//! file with other content than its blob in the commit has the id of that, too: `<offset> <id>\t<path>\0`. There is one more
//! for each directory with nothing in it: `040000 tree <id> -\t<path>/\0`. They are sorted by path.

use std::io;
use std::io::Write;

use git2::Oid;

use crate::content::ALIGNMENT;
use crate::content::Extent;
use crate::content::PREFIX;
use crate::object::EntryMode;
use crate::snapshot::git_dir::pack::Packed;
use crate::snapshot::listing::Entry;
use crate::snapshot::located::Located;
use crate::snapshot::manifest::is_id;

/// The id of a tree with nothing in it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Beginning of the name of a pack, before a hash of 40 digits.
const PACK: &str = "pack-";

/// Bytes of a record besides its path: mode, kind, id, three numbers, separators.
pub(crate) const OVERHEAD: u64 = 6 + 1 + 6 + 1 + 40 + 1 + 20 + 1 + 20 + 1 + 20 + 1 + 1 + 1;

/// Bytes that the second id of a file adds to its record.
pub(crate) const COMMITTED: u64 = 1 + 40;

/// Bytes of the record of a pack: three ids, two numbers, and the names.
pub(crate) const LONGEST_PACK: u64 = 5 + 45 + (1 + 40) + 2 * (1 + 40 + 1 + 20) + 1;

/// Writes all records.
pub(super) fn write(to: &mut impl Write, located: &Located<'_>, packed: Option<&Packed>) -> io::Result<()> {
    let listing = located.listing;
    write!(to, "time {}\0", listing.time)?;
    let numbers = write_segments(to, located)?;
    packed.map_or(Ok(()), |packed| write_packed(to, packed))?;
    let mut empty = empty_directories(located).into_iter().peekable();
    let mut record = Vec::new();
    let (mut directory, mut path) = (None, Vec::new());
    for (at, (entry, extent)) in listing.entries.iter().zip(&located.extents).enumerate() {
        // Entries of one directory follow each other.
        if directory.replace(entry.directory) != Some(entry.directory) {
            path = listing.directory_path_in_tree(entry.directory);
            if !path.is_empty() {
                path.push(b'/');
            }
        }
        let start = path.len();
        path.extend_from_slice(listing.entry_name(entry).to_bytes());
        while let Some(directory) = empty.next_if(|directory| *directory < path) {
            write_empty(to, &directory)?;
        }
        record.clear();
        match extent {
            Some(extent) => {
                push_blob(&mut record, entry, *extent, numbers[extent.segment]);
                if let Some(committed) = listing.committed.as_ref().and_then(|committed| committed.get(&at)) {
                    record.push(b' ');
                    push_id(&mut record, *committed);
                }
            }
            None => push_submodule(&mut record, entry.id, located.submodules.get(&at).map_or("-", String::as_str)),
        }
        push_path(&mut record, &path);
        to.write_all(&record)?;
        path.truncate(start);
    }
    empty.try_for_each(|directory| write_empty(to, &directory))
}

/// Writes the segments in the order of their first use. Returns the number of each.
fn write_segments(to: &mut impl Write, located: &Located<'_>) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut next = 0;
    for extent in located.extents.iter().flatten() {
        if numbers.len() <= extent.segment {
            numbers.resize(extent.segment + 1, None);
        }
        if numbers[extent.segment].is_none() {
            numbers[extent.segment] = Some(next);
            next += 1;
            write!(to, "segment {}\0", located.segments.stem(*extent))?;
        }
    }
    Ok(numbers.into_iter().map(Option::unwrap_or_default).collect())
}

fn write_packed(to: &mut impl Write, packed: &Packed) -> io::Result<()> {
    let Packed { name, tree, pack, index, boundary } = packed;
    write!(to, "pack {name} {tree} {} {} {} {}\0", pack.0, pack.1, index.0, index.1)?;
    boundary.iter().try_for_each(|commit| write!(to, "shallow {commit}\0"))
}

fn push_submodule(record: &mut Vec<u8>, commit: Oid, url: &str) {
    record.extend_from_slice(b"160000 commit ");
    push_id(record, commit);
    record.push(b' ');
    record.extend_from_slice(url.as_bytes());
}

fn push_blob(record: &mut Vec<u8>, Entry { mode, id, .. }: &Entry, extent: Extent, segment: u64) {
    record.extend_from_slice(match mode {
        EntryMode::Executable => b"100755 blob ",
        EntryMode::Symlink => b"120000 blob ",
        EntryMode::File | EntryMode::Submodule => b"100644 blob ",
    });
    push_place(record, *id, [extent.length, segment, extent.offset]);
}

fn push_place(record: &mut Vec<u8>, id: Oid, numbers: [u64; 3]) {
    push_id(record, id);
    for number in numbers {
        record.push(b' ');
        push_number(record, number);
    }
}

fn push_path(record: &mut Vec<u8>, path: &[u8]) {
    record.push(b'\t');
    record.extend_from_slice(path);
    record.push(0);
}

/// Writes a record that was read, at this path, with its content in another segment.
pub(super) fn write_again(to: &mut impl Write, kind: &Kind<'_>, path: &[u8], segment: u64) -> io::Result<()> {
    let (mode, place) = match kind {
        Kind::Directory => return write_empty(to, &[path, b"/"].concat()),
        Kind::Submodule { commit, url } => {
            let mut record = Vec::new();
            push_submodule(&mut record, *commit, url.unwrap_or("-"));
            push_path(&mut record, path);
            return to.write_all(&record);
        }
        Kind::File { executable: true, content, .. } => (b"100755 blob ", content),
        Kind::File { executable: false, content, .. } => (b"100644 blob ", content),
        Kind::Symlink { target } => (b"120000 blob ", target),
    };
    let mut record = mode.to_vec();
    push_place(&mut record, place.id, [place.size, segment, place.offset]);
    push_path(&mut record, path);
    to.write_all(&record)
}

/// Writes the record of a directory with nothing in it. Its path has a slash at its end.
pub(super) fn write_empty(to: &mut impl Write, path: &[u8]) -> io::Result<()> {
    write!(to, "040000 tree {EMPTY_TREE} -\t")?;
    to.write_all(path)?;
    to.write_all(b"\0")
}

fn push_id(record: &mut Vec<u8>, id: Oid) {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
    record.extend(id.as_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
}

fn push_number(record: &mut Vec<u8>, number: u64) {
    let start = record.len();
    let mut rest = number;
    loop {
        record.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    record[start..].reverse();
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

/// A record of the tree.
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
    Submodule {
        commit: Oid,
        /// `None` unless it is a part's.
        url: Option<&'a str>,
    },
    File {
        executable: bool,
        content: Place,
        /// The id of its blob in the commit, if that is another.
        committed: Option<Oid>,
    },
    Symlink {
        target: Place,
    },
}

/// The part of a segment that is a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: Oid,
    /// The number of the segment.
    pub(super) segment: usize,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Reads the first record.
pub(super) fn parse_time(bytes: &[u8]) -> Option<i64> {
    let seconds = bytes.strip_prefix(b"time ")?.strip_suffix(b"\0")?;
    std::str::from_utf8(seconds).ok()?.parse().ok()
}

/// Reads the record of a segment, which is a name in a directory and nothing else. `Some(None)` if it is one, and
/// malformed.
pub(super) fn parse_segment(bytes: &[u8]) -> Option<Option<&str>> {
    let name = bytes.strip_prefix(b"segment ")?.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok());
    Some(name.filter(|name| name.strip_prefix(PREFIX).is_some_and(is_id)))
}

/// Reads the record of a pack. `Some(None)` if it is one, and malformed.
pub(super) fn parse_pack(bytes: &[u8]) -> Option<Option<Packed>> {
    let read = |rest: &[u8]| {
        let (name, rest) = rest.split_at_checked(PACK.len() + 40)?;
        let name = std::str::from_utf8(name).ok().filter(|name| name.strip_prefix(PACK).is_some_and(is_id))?;
        let (tree, rest) = id(rest.strip_prefix(b" ")?)?;
        let mut rest = rest.strip_prefix(b" ")?;
        let (pack, index) = (blob(&mut rest, b' ')?, blob(&mut rest, b'\0')?);
        rest.is_empty().then(|| Packed { name: name.to_owned(), tree, pack, index, boundary: Vec::new() })
    };
    Some(read(bytes.strip_prefix(b"pack ")?))
}

/// Reads the id and the size of a blob, and the byte at their end.
fn blob(bytes: &mut &[u8], end: u8) -> Option<(Oid, u64)> {
    let (id, rest) = id(bytes)?;
    *bytes = rest.strip_prefix(b" ")?;
    Some((id, number(bytes, end)?))
}

/// Reads the record of a commit whose parents are left out. `Some(None)` if it is one, and malformed.
pub(super) fn parse_shallow(bytes: &[u8]) -> Option<Option<Oid>> {
    let rest = bytes.strip_prefix(b"shallow ")?;
    Some(id(rest).filter(|(_, rest)| *rest == b"\0").map(|(id, _)| id))
}

/// Reads any other record.
pub(super) fn parse(bytes: &[u8]) -> Option<Record<'_>> {
    let record = bytes.strip_suffix(b"\0")?;
    let (path, kind) = if let Some(rest) = record.strip_prefix(b"040000 tree ") {
        (without_content(rest)?.strip_suffix(b"/")?, Kind::Directory)
    } else if let Some(rest) = record.strip_prefix(b"160000 commit ") {
        let (commit, rest) = id(rest)?;
        let (url, path) =
            rest.strip_prefix(b" ")?.split_at(rest.iter().position(|&byte| byte == b'\t')?.checked_sub(1)?);
        let url = std::str::from_utf8(url).ok().filter(|url| is_url(url))?;
        (path.strip_prefix(b"\t")?, Kind::Submodule { commit, url: (url != "-").then_some(url) })
    } else {
        let (mode, rest) = record.split_at_checked(6)?;
        let (id, mut rest) = id(rest.strip_prefix(b" blob ")?)?;
        rest = rest.strip_prefix(b" ")?;
        let size = number(&mut rest, b' ')?;
        let segment = usize::try_from(number(&mut rest, b' ')?).ok()?;
        let end = *rest.iter().find(|byte| matches!(byte, b' ' | b'\t'))?;
        let offset = number(&mut rest, end).filter(|offset| offset.is_multiple_of(ALIGNMENT))?;
        let committed = match end {
            b' ' => Some(id_before_path(&mut rest)?),
            _ => None,
        };
        let place = Place { id, segment, offset, size };
        let kind = match (mode, committed) {
            (b"100644", committed) => Kind::File { executable: false, content: place, committed },
            (b"100755", committed) => Kind::File { executable: true, content: place, committed },
            (b"120000", None) => Kind::Symlink { target: place },
            _ => return None,
        };
        (rest, kind)
    };
    (!path.is_empty()).then_some(Record { path, kind })
}

/// Whether this may be the URL of a submodule, or stands for none.
fn is_url(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control) && (text == "-" || !text.starts_with('-'))
}

/// The path of a record without content.
fn without_content(rest: &[u8]) -> Option<&[u8]> {
    id(rest)?.1.strip_prefix(b" -\t")
}

/// Reads an id and the tab at its end.
fn id_before_path(bytes: &mut &[u8]) -> Option<Oid> {
    let (id, rest) = id(bytes)?;
    *bytes = rest.strip_prefix(b"\t")?;
    Some(id)
}

/// Reads an id as git prints it. Returns also what follows.
fn id(bytes: &[u8]) -> Option<(Oid, &[u8])> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (digits, rest) = bytes.split_at_checked(40)?;
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some((Oid::from_bytes(&bytes).ok()?, rest))
}

/// Reads a number and the byte at its end.
fn number(bytes: &mut &[u8], end: u8) -> Option<u64> {
    let mut number: u64 = 0;
    for (length, &byte) in bytes.iter().enumerate() {
        if byte == end && length > 0 {
            *bytes = &bytes[length + 1..];
            return Some(number);
        }
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    None
}

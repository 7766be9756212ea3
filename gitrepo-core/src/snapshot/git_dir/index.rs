//! The index of a `.git`, version 2 (gitformat-index(5)).
//!
//! It says of each file what lstat(2) says of it, so that git need not read any to know that none has changed. It is made
//! without that at first, and filled in once it is known: in an image we decide, and files on a disk are asked.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

use git2::Oid;
use nix::fcntl::AtFlags;
use nix::sys::stat::FileStat;
use nix::sys::stat::fstatat;
use sha1::Digest;
use sha1::Sha1;

use super::super::SnapshotError;
use super::super::TreeRequest;
use super::super::beneath::Beneath;
use super::super::mountable::listed::Kind;
use super::super::mountable::listed::Listed;
use super::super::widen;
use super::cache_tree;

const MAGIC: [u8; 8] = *b"DIRC\0\0\0\x02";

/// Length in bytes of the header, of what precedes the id of an entry, of an entry without its path, and of the checksum.
const HEADER: usize = 12;
const STAT: usize = 40;
const ENTRY: usize = STAT + 20 + 2;
const CHECKSUM: usize = 20;

/// Where the mode is in an entry.
const MODE: Range<usize> = 24..28;

/// The largest length of a path that an entry tells.
const LONGEST: usize = 0xfff;

/// Most bytes of all entries: 256 MiB. Each has its whole path, so it cannot be told from the size of a list how much that
/// is. The parent, once its worker has ended, holds it in memory twice to make an image, and a third time to verify one.
/// That of the Linux kernel has 10 MiB; 1,860,000 files with paths of 80 bytes fill it.
const MOST: u64 = 256 << 20;

/// What git writes for a size whose last 32 bits are zeros, from version 2.43 on. Earlier ones read such a file.
const NO_SIZE: u32 = 1 << 31;

/// What git remembers of a file. Of longer numbers it remembers the last 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// In seconds and nanoseconds since 1970.
    pub(crate) changed: (i64, i64),
    /// In seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, i64),
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// In bytes.
    pub(crate) size: u64,
}

impl From<&FileStat> for Stat {
    #[allow(clippy::useless_conversion, reason = "on some architectures they are narrower")]
    fn from(found: &FileStat) -> Self {
        Self {
            changed: (found.st_ctime.into(), found.st_ctime_nsec.into()),
            modified: (found.st_mtime.into(), found.st_mtime_nsec.into()),
            inode: found.st_ino.into(),
            uid: found.st_uid,
            gid: found.st_gid,
            size: u64::try_from(found.st_size).unwrap_or_default(),
        }
    }
}

impl Stat {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "git truncates them, too")]
    fn write(&self, into: &mut [u8]) {
        let Self { changed, modified, inode, uid, gid, size } = *self;
        let seconds = |time: (i64, i64)| [time.0 as u32, time.1 as u32];
        let numbers = seconds(changed).into_iter().chain(seconds(modified)).chain([0, inode as u32]);
        for (at, number) in numbers.enumerate() {
            into[4 * at..4 * at + 4].copy_from_slice(&number.to_be_bytes());
        }
        // That of a whole number of 4 GiB would say that the file is empty.
        let size = if size > 0 && size as u32 == 0 { NO_SIZE } else { size as u32 };
        for (at, number) in [uid, gid, size].into_iter().enumerate() {
            let start = MODE.end + 4 * at;
            into[start..start + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// Length of the entry of a path of this many bytes.
pub(crate) fn entry_length(path: usize) -> u64 {
    widen(padded(path))
}

/// Checks the bytes of all entries so far, before any is made.
pub(crate) fn check_length(request: &TreeRequest, entries: u64) -> Result<(), SnapshotError> {
    if entries <= MOST {
        return Ok(());
    }
    Err(SnapshotError::addition_too_large(request.commit, "bytes of the index in .git", MOST, "gitDir: keep"))
}

/// The index of a listed tree, without what lstat(2) says, and with this extension. Its length stays. The entries have this
/// many bytes.
pub(super) fn template(listed: &Listed, entries: u64, extension: &[u8]) -> Vec<u8> {
    let length = HEADER + usize::try_from(entries).unwrap_or_default() + extension.len() + CHECKSUM;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    bytes.extend([0; 4]);
    let mut count: u32 = 0;
    let mut directory = (None, Vec::new());
    for (node, mode, id) in listed.tracked() {
        let parent = listed.nodes[node].parent;
        if directory.0 != Some(parent) {
            directory = (Some(parent), listed.path_in_tree(parent));
        }
        push_entry(&mut bytes, mode, id, &[&directory.1, listed.name(&listed.nodes[node])]);
        count += 1;
    }
    bytes[8..HEADER].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(extension);
    bytes.extend([0; CHECKSUM]);
    sign(&mut bytes);
    bytes
}

fn push_entry(bytes: &mut Vec<u8>, mode: u32, id: Oid, path: &[&[u8]]) {
    let start = bytes.len();
    bytes.extend([0; STAT]);
    bytes[start..][MODE].copy_from_slice(&mode.to_be_bytes());
    bytes.extend(id.as_bytes());
    let length: usize = path.iter().map(|part| part.len()).sum();
    bytes.extend(u16::try_from(length.min(LONGEST)).unwrap_or_default().to_be_bytes());
    path.iter().for_each(|part| bytes.extend_from_slice(part));
    // At least one zero, up to a multiple of eight.
    bytes.resize(start + padded(length), 0);
}

/// Length of an entry with a path of this length, in bytes.
fn padded(path: usize) -> usize {
    (ENTRY + path + 1).next_multiple_of(8)
}

pub(super) fn sign(bytes: &mut [u8]) {
    let end = bytes.len() - CHECKSUM;
    let (content, checksum) = bytes.split_at_mut(end);
    checksum.copy_from_slice(&Sha1::digest(content));
}

/// Fills in what lstat(2) says of each entry, by its number and its path. Where nothing is known, git looks itself.
/// Returns `None` if the bytes are not an index as we write it.
pub(crate) fn fill(bytes: &mut [u8], mut stat: impl FnMut(usize, &[u8]) -> Option<Stat>) -> Option<()> {
    let (count, end) = extent(bytes)?;
    let mut start = HEADER;
    for number in 0..count {
        let path = path_of(&bytes[..end], start)?;
        let found = stat(number, &bytes[path.clone()]);
        match found {
            Some(found) => found.write(&mut bytes[start..start + STAT]),
            None => {
                let mode: [u8; 4] = bytes[start..][MODE].try_into().ok()?;
                bytes[start..start + STAT].fill(0);
                bytes[start..][MODE].copy_from_slice(&mode);
            }
        }
        start += padded(path.len());
    }
    is_extension(bytes.get(start..end)?).then(|| sign(bytes))
}

/// Whether these bytes, which follow the entries, are nothing or the extension that we write.
fn is_extension(bytes: &[u8]) -> bool {
    let Some((header, trees)) = bytes.split_at_checked(cache_tree::HEADER) else { return bytes.is_empty() };
    let length = u32::try_from(trees.len()).map(u32::to_be_bytes);
    length.is_ok_and(|length| *header == *[cache_tree::NAME, length].concat())
}

/// How many entries there are, and where they and what follows them end.
fn extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.len().checked_sub(CHECKSUM)?;
    if bytes.get(..MAGIC.len())? != MAGIC {
        return None;
    }
    let count = u32::from_be_bytes(bytes[..end].get(MAGIC.len()..HEADER)?.try_into().ok()?);
    Some((usize::try_from(count).ok()?, end))
}

/// Where the path of the entry is that begins at `start`.
fn path_of(entries: &[u8], start: usize) -> Option<Range<usize>> {
    let path = entries.get(start + ENTRY..)?;
    let length = path.iter().position(|byte| *byte == 0)?;
    Some(start + ENTRY..start + ENTRY + length)
}

/// Fills in what lstat(2) says of the files of a tree on a disk. `tree` has `.git`. Nobody else changes the tree.
///
/// # Errors
///
/// If the index cannot be read or written, or is not one as we write it.
pub(crate) fn refresh(tree: &Path) -> io::Result<()> {
    let path = tree.join(super::INDEX);
    let before = path.symlink_metadata()?;
    let mut bytes = std::fs::read(&path)?;
    let root = Beneath::new(tree)?;
    let stat = |_, path: &[u8]| {
        // What is too deep for one call, git looks at itself.
        fstatat(root.as_fd(), path, AtFlags::AT_SYMLINK_NOFOLLOW).ok().map(|found| Stat::from(&found))
    };
    fill(&mut bytes, stat).ok_or(io::ErrorKind::InvalidData)?;
    let file = std::fs::File::options().write(true).open(&path)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)?;
    file.set_modified(before.modified()?)
}

/// Whether this is an index that differs from ours only in what lstat(2) said, and is not damaged there.
pub(crate) fn is_like(found: &[u8], ours: &[u8]) -> bool {
    let is_like = || {
        let (count, end) = extent(ours)?;
        let same = |part: Range<usize>| (found.get(part.clone())? == ours.get(part)?).then_some(());
        same(0..HEADER)?;
        let mut start = HEADER;
        for _ in 0..count {
            let next = start + padded(path_of(&ours[..end], start)?.len());
            same(start + MODE.start..start + MODE.end)?;
            same(start + STAT..next)?;
            start = next;
        }
        same(start..end)?;
        (Sha1::digest(&found[..end]).as_slice() == &found[end..]).then_some(())
    };
    found.len() == ours.len() && is_like().is_some()
}

impl Listed {
    /// Whatever git tracks, in the order of its index: the node, its mode there, and its id.
    pub(super) fn tracked(&self) -> impl Iterator<Item = (usize, u32, Oid)> + '_ {
        let mut gitlinks = self.gitlinks.iter().peekable();
        let mut committed = self.committed.iter().peekable();
        let end = self.tree_end;
        self.nodes[..end].iter().enumerate().filter_map(move |(at, node)| match node.kind {
            Kind::File { executable, content } => {
                let id = committed.next_if(|(file, _)| *file == at).map_or(content.id, |(_, id)| *id);
                Some((at, if executable { 0o100755 } else { 0o100644 }, id))
            }
            Kind::Symlink { target } => Some((at, 0o120000, target.id)),
            Kind::Directory => {
                gitlinks.next_if(|(gitlink, _)| *gitlink == at).map(|(_, commit)| (at, 0o160000, *commit))
            }
            Kind::Written { .. } => None,
        })
    }

    /// The path of a directory in the tree, with a slash at its end; empty for that of the tree itself.
    fn path_in_tree(&self, directory: Option<usize>) -> Vec<u8> {
        let mut path = directory.map_or(Vec::new(), |at| self.path(&self.nodes[at]));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.drain(..self.above_bytes.min(path.len()));
        path
    }
}

#[cfg(test)]
mod tests;

//! The index of a `.git`, version 2 (gitformat-index(5)).
//!
//! It says of each file what lstat(2) says of it, so that git need not read any to know that none has changed. It is made
//! without that at first, and filled in once it is known: in an image we decide, and files on a disk are asked.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use git2::Oid;
use nix::fcntl::AtFlags;
use nix::sys::stat::FileStat;
use nix::sys::stat::fstatat;
use sha1::Digest;
use sha1::Sha1;

use super::super::beneath::Beneath;
use super::super::mountable::listed::Kind;
use super::super::mountable::listed::Listed;

const MAGIC: [u8; 8] = *b"DIRC\0\0\0\x02";

/// Length in bytes of the header, of what precedes the id of an entry, of an entry without its path, and of the checksum.
const HEADER: usize = 12;
const STAT: usize = 40;
const ENTRY: usize = STAT + 20 + 2;
const CHECKSUM: usize = 20;

/// Where the mode is in an entry.
const MODE: std::ops::Range<usize> = 24..28;

/// The largest length of a path that an entry tells.
const LONGEST: usize = 0xfff;

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
        for (at, number) in [uid, gid, size as u32].into_iter().enumerate() {
            let start = MODE.end + 4 * at;
            into[start..start + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// The index of a listed tree, without what lstat(2) says. Its length stays.
pub(super) fn template(listed: &Listed) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
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

fn sign(bytes: &mut [u8]) {
    let end = bytes.len() - CHECKSUM;
    let (content, checksum) = bytes.split_at_mut(end);
    checksum.copy_from_slice(&Sha1::digest(content));
}

/// Fills in what lstat(2) says of each entry, by its number and its path. Where nothing is known, git looks itself.
/// Returns `None` if the bytes are not an index as we write it.
pub(crate) fn fill(bytes: &mut [u8], mut stat: impl FnMut(usize, &[u8]) -> Option<Stat>) -> Option<()> {
    for (number, start, path) in entries(bytes)? {
        let found = stat(number, &bytes[path]);
        match found {
            Some(found) => found.write(&mut bytes[start..start + STAT]),
            None => {
                let mode: [u8; 4] = bytes[start..][MODE].try_into().ok()?;
                bytes[start..start + STAT].fill(0);
                bytes[start..][MODE].copy_from_slice(&mode);
            }
        }
    }
    sign(bytes);
    Some(())
}

/// The number of each entry, its first byte, and where its path is.
fn entries(bytes: &[u8]) -> Option<Vec<(usize, usize, std::ops::Range<usize>)>> {
    let end = bytes.len().checked_sub(CHECKSUM)?;
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let count = u32::from_be_bytes(bytes.get(8..HEADER)?.try_into().ok()?);
    let mut start = HEADER;
    let mut found = Vec::new();
    for number in 0..usize::try_from(count).ok()? {
        let path = bytes.get(start + ENTRY..end)?;
        let length = path.iter().position(|byte| *byte == 0)?;
        found.push((number, start, start + ENTRY..start + ENTRY + length));
        start += padded(length);
    }
    (start == end).then_some(found)
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

/// Whether both are the same but for what lstat(2) said.
pub(crate) fn are_alike(one: &[u8], other: &[u8]) -> bool {
    let without = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        fill(&mut bytes, |_, _| None).map(|()| bytes)
    };
    without(one).is_some_and(|one| without(other) == Some(one))
}

impl Listed {
    /// Whatever git tracks, in the order of its index: the node, its mode there, and its id.
    pub(super) fn tracked(&self) -> impl Iterator<Item = (usize, u32, Oid)> + '_ {
        let mut gitlinks = self.gitlinks.iter().peekable();
        let end = self.tree_end;
        self.nodes[..end].iter().enumerate().filter_map(move |(at, node)| match node.kind {
            Kind::File { executable: false, content } => Some((at, 0o100644, content.id)),
            Kind::File { executable: true, content } => Some((at, 0o100755, content.id)),
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

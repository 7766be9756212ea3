//! Walking a directory tree by descriptors: no link is followed, and neither depth nor width costs a descriptor.

use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::stat;
use nix::sys::stat::FileStat;

use super::TreeSummary;
use super::beneath::Beneath;
use super::beneath::join;

/// What is done on the way. Paths are relative to the walk's root, whose own path is empty.
pub(crate) trait Visitor {
    /// Ends the walk.
    type Error;

    /// Every directory, before anything in it.
    fn enter(&mut self, _path: &CStr) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Everything in a directory, directories too, before any of those is entered.
    fn visit(&mut self, found: &Found<'_>) -> Result<(), Self::Error>;

    /// Every directory, once all in it was visited but before what lies deeper.
    fn leave(&mut self, _path: &CStr, _directory: BorrowedFd<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The error for what the walk itself could not do.
    fn failed(&self, action: &'static str, path: &CStr, error: Errno) -> Self::Error;
}

/// One entry of a directory.
pub(crate) struct Found<'a> {
    /// The directory it is in.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    pub(crate) path: &'a CStr,
    /// Components of the path.
    pub(crate) depth: usize,
    /// Of the entry itself, also if it is a link.
    pub(crate) stat: FileStat,
}

/// A file type, as far as trees of ours have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileType {
    Directory,
    Regular,
    Symlink,
    Other,
}

impl Found<'_> {
    pub(crate) fn file_type(&self) -> FileType {
        match self.stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => FileType::Directory,
            libc::S_IFREG => FileType::Regular,
            libc::S_IFLNK => FileType::Symlink,
            _ => FileType::Other,
        }
    }

    /// Permissions, with the bits for set-uid, set-gid and sticky.
    pub(crate) fn permissions(&self) -> libc::mode_t {
        self.stat.st_mode & 0o7777
    }

    /// Bytes of a file, or of a link's target.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or_default()
    }

    /// Adds this entry to what was found so far.
    pub(crate) fn count_into(&self, summary: &mut TreeSummary) {
        match self.file_type() {
            FileType::Directory => {
                summary.directories += 1;
                return;
            }
            FileType::Symlink => summary.symlinks += 1,
            FileType::Regular | FileType::Other => summary.files += 1,
        }
        summary.bytes = summary.bytes.saturating_add(self.size());
    }
}

/// Walks everything below `root`.
pub(crate) fn walk<V: Visitor>(root: &Beneath, visitor: &mut V) -> Result<(), V::Error> {
    // Only names wait: whole paths of a wide directory far down would take gigabytes.
    let mut waiting = vec![(0, CString::default())];
    let mut here: Vec<CString> = Vec::new();
    while let Some((depth, name)) = waiting.pop() {
        here.truncate(depth);
        here.push(name);
        let path = here.iter().fold(CString::default(), |path, name| join(&path, name));
        scan(root, &path, depth, visitor, &mut waiting)?;
    }
    Ok(())
}

fn scan<V: Visitor>(
    root: &Beneath,
    path: &CStr,
    depth: usize,
    visitor: &mut V,
    waiting: &mut Vec<(usize, CString)>,
) -> Result<(), V::Error> {
    visitor.enter(path)?;
    // Two descriptors, since a stream lends neither itself nor its own while it is read.
    let open = || root.open(path);
    let opened = open().map_err(|error| visitor.failed("open", path, error))?;
    let mut stream = open().and_then(Dir::from_fd).map_err(|error| visitor.failed("read", path, error))?;
    for entry in stream.iter() {
        let entry = entry.map_err(|error| visitor.failed("read", path, error))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let path = join(path, name);
        let stat = stat::fstatat(&opened, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|error| visitor.failed("examine", &path, error))?;
        let found = Found { directory: opened.as_fd(), name, path: &path, depth: depth + 1, stat };
        visitor.visit(&found)?;
        if found.file_type() == FileType::Directory {
            waiting.push((depth + 1, name.to_owned()));
        }
    }
    visitor.leave(path, opened.as_fd())
}

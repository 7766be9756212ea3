//! Walks a directory tree by descriptors: follows no link, and needs no more descriptors for a deep or wide tree.

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

/// Called during a walk. Paths are relative to the walk's root, whose own path is empty.
pub(crate) trait Visitor {
    /// An error ends the walk.
    type Error;

    /// Called for every directory, before anything in it.
    fn enter(&mut self, _path: &CStr) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called for everything in a directory, including directories, before any of those is entered.
    fn visit(&mut self, found: &Found<'_>) -> Result<(), Self::Error>;

    /// Called for every directory, after its entries were visited but before deeper ones.
    fn leave(&mut self, _path: &CStr, _directory: BorrowedFd<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Returns the error for a failure of the walk itself.
    fn failed(&self, action: &'static str, path: &CStr, error: Errno) -> Self::Error;
}

/// One entry of a directory.
pub(crate) struct Found<'a> {
    /// The directory that contains the entry.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a CStr,
    pub(crate) path: &'a CStr,
    /// The `stat` of the entry itself, even if it is a link.
    pub(crate) stat: FileStat,
}

/// A file type that our trees may contain.
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

    /// Bytes of a file, or of a link's target.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or_default()
    }

    /// Adds this entry to the summary.
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
    // Only names are kept: full paths of a wide directory far down would take gigabytes.
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
    // Two descriptors, since a stream cannot share its own while it is read.
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
        let found = Found { directory: opened.as_fd(), name, path: &path, stat };
        visitor.visit(&found)?;
        if found.file_type() == FileType::Directory {
            waiting.push((depth + 1, name.to_owned()));
        }
    }
    visitor.leave(path, opened.as_fd())
}

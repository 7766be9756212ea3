//! Opens directories below a directory without ever following a link (compare CVE-2021-25741).

use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::OFlag;
use nix::fcntl::OpenHow;
use nix::fcntl::ResolveFlag;
use nix::sys::stat::Mode;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory, from which others beneath it are opened.
pub(crate) struct Beneath {
    root: OwnedFd,
}

impl Beneath {
    /// Opens the directory `path`, owned by the caller: only links before its last component are followed.
    pub(crate) fn new(path: &Path) -> Result<Self, Errno> {
        Ok(Self { root: fcntl::open(path, DIRECTORY, Mode::empty())? })
    }

    /// Like [`Beneath::new`], for the directory at `path`, relative to this one.
    pub(crate) fn beneath(&self, path: &CStr) -> Result<Self, Errno> {
        Ok(Self { root: self.open(path)? })
    }

    /// Opens the directory at `path`, relative to this one and without `..`; the empty path is this one itself.
    pub(crate) fn open(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { c"." } else { path };
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match fcntl::openat2(&self.root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve)) {
            // Before Linux 5.6, under a filter that does not know the call, or for paths beyond PATH_MAX.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::ENAMETOOLONG) => self.open_by_steps(path),
            opened => opened,
        }
    }

    fn open_by_steps(&self, path: &CStr) -> Result<OwnedFd, Errno> {
        let mut opened = fcntl::openat(&self.root, c".", DIRECTORY, Mode::empty())?;
        for component in path.to_bytes().split(|&byte| byte == b'/') {
            opened = fcntl::openat(&opened, component, DIRECTORY, Mode::empty())?;
        }
        Ok(opened)
    }
}

impl AsFd for Beneath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Returns `parent/name`, for [`Beneath::open`].
pub(crate) fn join(parent: &CStr, name: &CStr) -> CString {
    if parent.is_empty() {
        return name.to_owned();
    }
    let mut path = Vec::with_capacity(parent.count_bytes() + 1 + name.count_bytes() + 1);
    path.extend_from_slice(parent.to_bytes());
    path.push(b'/');
    path.extend_from_slice(name.to_bytes());
    // Neither part contains a NUL, so neither does the result.
    CString::new(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_followed_neither_in_the_middle_nor_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        symlink("a", directory.path().join("link")).unwrap();
        let beneath = Beneath::new(directory.path()).unwrap();
        for open in [Beneath::open, Beneath::open_by_steps] {
            assert!(open(&beneath, c"a/b").is_ok());
            assert!(open(&beneath, c"link").is_err());
            assert!(open(&beneath, c"link/b").is_err());
            assert_eq!(open(&beneath, c"missing").unwrap_err(), Errno::ENOENT);
        }
    }

    #[test]
    fn directories_beyond_the_longest_path_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let beneath = Beneath::new(directory.path()).unwrap();
        let name = CString::new("d".repeat(255)).unwrap();
        let mut path = CString::default();
        for _ in 0..20 {
            let parent = beneath.open(&path).unwrap();
            nix::sys::stat::mkdirat(&parent, name.as_c_str(), Mode::from_bits_truncate(0o755)).unwrap();
            path = join(&path, &name);
        }
        assert!(path.count_bytes() > 4096);
        assert!(beneath.open(&path).is_ok());
    }
}

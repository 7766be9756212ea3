//! Opens directories, and files, without following a symlink anywhere in their path.
//!
//! A mount made through such a descriptor lands where the path led when it was checked, even if the path changes later.
//! The descent goes one component at a time. `openat2` would not say which component is the link, and is missing in
//! container filters and in kernels before 5.6.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::fcntl::openat;
use nix::sys::stat::FileStat;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::fstat;
use nix::sys::stat::fstatat;

use super::MountError;
use super::Role;

/// Opens the directory `path` for reference only (`O_PATH`), which needs no read permission.
pub(crate) fn open(path: &Path, role: Role) -> Result<OwnedFd, MountError> {
    let descent = Descent { path, role };
    descent.down(&descent.names()?)
}

/// Opens the parent of `path` and returns it with the last component, which may be missing but must not be a symlink.
/// For operations on a name, not on what it points to.
pub(crate) fn open_parent(path: &Path, role: Role) -> Result<(OwnedFd, CString), MountError> {
    let descent = Descent { path, role };
    let names = descent.names()?;
    let (name, parents) = names.split_last().ok_or_else(|| descent.unusable())?;
    let parent = descent.down(parents)?;
    let name = CString::new(name.as_bytes()).map_err(|_| descent.unusable())?;
    match fstatat(&parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) if kind(&found) == SFlag::S_IFLNK => Err(descent.symlink(path.into())),
        Ok(_) | Err(Errno::ENOENT) => Ok((parent, name)),
        Err(error) => Err(descent.failed(error)),
    }
}

/// Opens the regular file `path` for reading.
pub(crate) fn open_file(path: &Path, role: Role) -> Result<File, MountError> {
    let (parent, name) = open_parent(path, role)?;
    open_file_in(parent.as_fd(), &name).map_err(|source| MountError::Directory { path: path.into(), role, source })
}

/// Opens the regular file `name` in a directory for reading.
pub(crate) fn open_file_in(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    // A named pipe would wait for a writer without O_NONBLOCK.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    match kind(&fstat(&file)?) {
        SFlag::S_IFREG => Ok(file.into()),
        _ => Err(not_a_regular_file()),
    }
}

/// The error for anything but a regular file.
pub(super) fn not_a_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not a regular file")
}

/// Whether the error means that the directory or file does not exist, rather than that it is unusable.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the type of a file.
pub(super) fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

struct Descent<'a> {
    path: &'a Path,
    role: Role,
}

impl<'a> Descent<'a> {
    fn names(&self) -> Result<Vec<&'a OsStr>, MountError> {
        let mut components = self.path.components();
        if components.next() != Some(Component::RootDir) {
            return Err(self.unusable());
        }
        components
            .map(|component| match component {
                Component::Normal(name) => Ok(name),
                _ => Err(self.unusable()),
            })
            .collect()
    }

    fn down(&self, names: &[&OsStr]) -> Result<OwnedFd, MountError> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |error| self.failed(error);
        let mut directory = openat(AT_FDCWD, "/", flags, Mode::empty()).map_err(failed)?;
        let mut walked = PathBuf::from("/");
        for name in names {
            walked.push(name);
            let next = openat(directory.as_fd(), *name, flags, Mode::empty()).map_err(failed)?;
            match kind(&fstat(&next).map_err(failed)?) {
                SFlag::S_IFDIR => directory = next,
                SFlag::S_IFLNK => return Err(self.symlink(walked)),
                _ => return Err(self.failed(io::Error::from_raw_os_error(libc::ENOTDIR))),
            }
        }
        Ok(directory)
    }

    fn unusable(&self) -> MountError {
        MountError::Path { path: self.path.into(), role: self.role }
    }

    fn symlink(&self, link: PathBuf) -> MountError {
        MountError::Symlink { path: self.path.into(), role: self.role, link }
    }

    fn failed(&self, error: impl Into<io::Error>) -> MountError {
        MountError::Directory { path: self.path.into(), role: self.role, source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_relative_path_or_one_with_dots_is_refused() {
        for path in ["", "a", "./a", "/a/../b", ".."] {
            assert!(matches!(open(Path::new(path), Role::Target), Err(MountError::Path { .. })), "{path:?}");
        }
        assert!(matches!(open_parent(Path::new("/"), Role::Target), Err(MountError::Path { .. })));
    }

    #[test]
    fn a_symlink_anywhere_is_refused_and_named() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("real/inner")).unwrap();
        symlink("real", home.join("link")).unwrap();

        for path in [home.join("link"), home.join("link/inner")] {
            for opened in [open(&path, Role::Source).map(drop), open_parent(&path, Role::Source).map(drop)] {
                match opened {
                    Err(MountError::Symlink { link, .. }) => assert_eq!(link, home.join("link")),
                    other => panic!("{path:?}: {other:?}"),
                }
            }
        }
        assert!(open(&home.join("real//inner/."), Role::Source).is_ok());
    }

    #[test]
    fn only_a_regular_file_is_opened_as_one() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::write(home.join("file"), "content").unwrap();
        symlink("file", home.join("link")).unwrap();
        nix::unistd::mkfifo(&home.join("pipe"), Mode::S_IRWXU).unwrap();

        assert!(open_file(&home.join("file"), Role::Source).is_ok());
        assert!(matches!(open_file(&home.join("link"), Role::Source), Err(MountError::Symlink { .. })));
        for (name, kind) in [
            ("pipe", io::ErrorKind::Unsupported),
            (".", io::ErrorKind::Unsupported),
            ("absent", io::ErrorKind::NotFound),
            ("file/below", io::ErrorKind::NotADirectory),
        ] {
            match open_file(&home.join(name), Role::Source) {
                Err(MountError::Directory { source, .. }) => assert_eq!(source.kind(), kind, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

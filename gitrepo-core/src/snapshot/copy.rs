//! Makes a writable copy of an adopted snapshot's tree.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::sys::stat::FileStat;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::UtimensatFlags;
use nix::sys::time::TimeSpec;
use nix::unistd;
use nix::unistd::Gid;
use nix::unistd::Uid;

use super::Owner;
use super::TreeSummary;
use super::beneath::Beneath;
use super::walk;
use super::walk::FileType;
use super::walk::Found;
use super::walk::Visitor;
use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::error::Kind;
use crate::error::io_kind;
use crate::reserve::BelowReserve;
use crate::reserve::Reserve;

/// A failure to copy a snapshot's tree. The partial copy stays, for the caller to remove.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// Reading the snapshot or writing the copy failed.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path relative to the tree, escaped.
        path: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The snapshot contains an entry of a type that no adopted tree contains.
    #[error("the snapshot holds {path:?}, which is neither file nor directory nor link")]
    Damaged {
        /// The path relative to the tree, escaped.
        path: String,
    },
    /// The filesystem of the copy is nearly full.
    #[error(transparent)]
    OutOfSpace(#[from] BelowReserve),
    /// Copying was interrupted.
    #[error("copying the snapshot was given up")]
    Interrupted {
        /// The cause.
        #[source]
        source: Interrupted,
    },
}

impl CopyError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Damaged { .. } => Kind::Corrupt,
            Self::OutOfSpace(_) => Kind::ResourceExhausted,
            Self::Interrupted { source } => source.kind(),
        }
    }

    fn io(action: &'static str, path: &CStr, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_string_lossy().into_owned(), source: source.into() }
    }
}

/// Who may write to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// The copy's owner.
    Owner,
    /// Also the copy's group, which new files inherit: the modes that the kubelet sets for a pod's `fsGroup` (kubelet
    /// pkg/volume/volume_linux.go).
    Group,
}

/// Copies the tree below `source` into `target`, an empty directory, with times and links unchanged. `owner`, or also
/// its group, may write to the copy. The `reserve` stays free. The kernel shares blocks if the filesystem can
/// (`copy_file_range` clones on XFS and Btrfs).
pub fn copy(
    source: &Path,
    target: &Path,
    owner: Owner,
    writers: Writers,
    reserve: Reserve,
    cancel: &Cancel,
) -> Result<TreeSummary, CopyError> {
    let open = |path| Beneath::new(path).map_err(|error| CopyError::io("open", c"", error));
    let (source, target) = (open(source)?, open(target)?);
    let place = target.open(c"").map_err(|error| CopyError::io("open", c"", error))?;
    let mut copying = Copying { target, place, owner, writers, reserve, cancel, summary: TreeSummary::default() };
    walk::walk(&source, &mut copying)?;
    Ok(copying.summary)
}

struct Copying<'a> {
    target: Beneath,
    /// The copy of the current directory.
    place: OwnedFd,
    owner: Owner,
    writers: Writers,
    reserve: Reserve,
    cancel: &'a Cancel,
    summary: TreeSummary,
}

impl Visitor for Copying<'_> {
    type Error = CopyError;

    fn enter(&mut self, path: &CStr) -> Result<(), CopyError> {
        self.place = self.target.open(path).map_err(|error| CopyError::io("open", path, error))?;
        Ok(())
    }

    fn visit(&mut self, found: &Found<'_>) -> Result<(), CopyError> {
        self.cancel.check().map_err(|source| CopyError::Interrupted { source })?;
        self.reserve.check()?;
        let copied = match found.file_type() {
            FileType::Directory => stat::mkdirat(&self.place, found.name, Mode::S_IRWXU).map_err(io::Error::from),
            FileType::Regular => self.copy_file(found),
            FileType::Symlink => self.copy_symlink(found),
            FileType::Other => return Err(CopyError::Damaged { path: found.path.to_string_lossy().into_owned() }),
        };
        copied.map_err(|error| CopyError::io("copy", found.path, error))?;
        found.count_into(&mut self.summary);
        Ok(())
    }

    /// Finishes a directory's copy: nothing more is created in it, so its time stays.
    fn leave(&mut self, path: &CStr, directory: BorrowedFd<'_>) -> Result<(), CopyError> {
        stat::fstat(directory)
            .map_err(io::Error::from)
            .and_then(|stat| self.finish(self.place.as_fd(), &stat))
            .map_err(|error| CopyError::io("copy", path, error))
    }

    fn failed(&self, action: &'static str, path: &CStr, error: Errno) -> CopyError {
        CopyError::io(action, path, error)
    }
}

impl Copying<'_> {
    fn copy_file(&self, found: &Found<'_>) -> io::Result<()> {
        let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut from = File::from(fcntl::openat(found.directory, found.name, read, Mode::empty())?);
        let mut to = File::from(fcntl::openat(&self.place, found.name, new, Mode::S_IRUSR | Mode::S_IWUSR)?);
        io::copy(&mut from, &mut to)?;
        self.finish(to.as_fd(), &found.stat)
    }

    fn copy_symlink(&self, found: &Found<'_>) -> io::Result<()> {
        let target = fcntl::readlinkat(found.directory, found.name)?;
        unistd::symlinkat(target.as_os_str(), &self.place, found.name)?;
        let (uid, gid) = self.ids();
        unistd::fchownat(&self.place, found.name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let time = modified(&found.stat);
        Ok(stat::utimensat(&self.place, found.name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets the owner first, since changing it may clear mode bits, and the time last.
    fn finish(&self, copied: BorrowedFd<'_>, original: &FileStat) -> io::Result<()> {
        let (uid, gid) = self.ids();
        unistd::fchown(copied, uid, gid)?;
        stat::fchmod(copied, self.mode(original))?;
        Ok(stat::futimens(copied, &TimeSpec::UTIME_OMIT, &modified(original))?)
    }

    fn mode(&self, original: &FileStat) -> Mode {
        let is_directory = SFlag::from_bits_truncate(original.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
        let added = match (self.writers, is_directory) {
            (Writers::Owner, _) => 0o200,
            (Writers::Group, false) => 0o660,
            (Writers::Group, true) => 0o2770,
        };
        Mode::from_bits_truncate(original.st_mode & 0o777 | added)
    }

    fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.owner.uid)), Some(Gid::from_raw(self.owner.gid)))
    }
}

fn modified(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::fixture::Fixture;
    use super::super::fixture::contents;
    use super::super::fixture::request;
    use super::*;

    fn no_reserve() -> Reserve {
        Reserve::new(std::path::PathBuf::from("/"), 0)
    }

    #[test]
    fn a_copy_has_the_same_content_and_is_independent() {
        let fixture = Fixture::new();
        let (staging, summary) = fixture.write(&request(fixture.varied())).unwrap();
        let target = tempfile::tempdir().unwrap();
        let copied =
            copy(&staging.root(), target.path(), Owner::ourselves(), Writers::Owner, no_reserve(), &Cancel::new());
        assert_eq!(copied.unwrap(), summary);
        assert_eq!(contents(target.path()), contents(&staging.root()));
        let mtime = |path: &Path| path.metadata().unwrap().mtime();
        assert_eq!(mtime(target.path()), mtime(&staging.root()));
        fs::write(target.path().join("a"), "changed").unwrap();
        assert_ne!(fs::read(staging.root().join("a")).unwrap(), b"changed");
    }

    #[test]
    fn existing_entries_of_the_target_are_neither_overwritten_nor_followed() {
        let fixture = Fixture::new();
        let (staging, _) = fixture.write(&request(fixture.varied())).unwrap();
        let (target, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), target.path().join("a-dir")).unwrap();
        let error =
            copy(&staging.root(), target.path(), Owner::ourselves(), Writers::Owner, no_reserve(), &Cancel::new())
                .unwrap_err();
        assert!(matches!(error, CopyError::Io { .. }), "{error}");
        assert!(contents(elsewhere.path()).is_empty());
    }

    #[test]
    fn a_cancelled_copy_ends() {
        let fixture = Fixture::new();
        let (staging, _) = fixture.write(&request(fixture.varied())).unwrap();
        let cancel = Cancel::new();
        cancel.cancel();
        let target = tempfile::tempdir().unwrap();
        let error = copy(&staging.root(), target.path(), Owner::ourselves(), Writers::Owner, no_reserve(), &cancel)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled);
    }
}

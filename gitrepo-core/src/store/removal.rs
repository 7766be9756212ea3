//! Deletes a file or a tree, in linear time.
//!
//! The walk goes from descriptor to descriptor, follows no link and enters no mount: one of our volumes may be mounted
//! where we least expect it, and its content is not ours.
//!
//! A directory is read once, from beginning to end, while its entries are deleted: to begin again after each batch would
//! read the places of all deleted entries each time. A batch is deleted in the order of its inodes, which is that of
//! the disk: names come in the order of a hash, and each would touch another block of inodes.

use std::ffi::CString;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::dir::Dir;
use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::OFlag;
use nix::fcntl::OpenHow;
use nix::fcntl::ResolveFlag;
use nix::fcntl::openat;
use nix::fcntl::openat2;
use nix::fcntl::renameat;
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use nix::unistd::unlinkat;

use super::durable;
use super::error::StoreError;
use super::error::optional;

/// Names read at once: bounds memory in a directory of any size.
const BATCH: usize = 4096;

/// Directories nested deeper are moved up first: bounds descriptors in a tree of any depth.
const DEPTH: usize = 64;

/// How fast to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as the disk can: somebody waits for the space.
    Full,
    /// Half of the time: nobody waits, and others use the disk.
    Gentle,
}

impl Pace {
    /// With this much time, a sweep or an eviction runs in the background.
    const BACKGROUND: Duration = Duration::from_secs(10);

    /// How long to work before a pause of the same length.
    const SLICE: Duration = Duration::from_millis(50);

    /// Returns the pace for somebody who has this much time.
    pub(super) fn within(budget: Duration) -> Self {
        if budget >= Self::BACKGROUND { Self::Gentle } else { Self::Full }
    }
}

/// Whether everything was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Removed,
    OutOfTime,
}

/// Deletes a file or tree of ours, until `deadline` if any. If something is mounted inside, it deletes the rest and
/// fails. A missing path is not an error.
pub(super) fn remove(path: &Path, deadline: Option<Instant>, pace: Pace) -> Result<Outcome, StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_directory(path, deadline, pace),
        Ok(_) => fs::remove_file(path).map(|()| Outcome::Removed).map_err(StoreError::io("delete", path)),
        Err(source) => Err(StoreError::Io { action: "examine", path: path.to_path_buf(), source }),
    };
    Ok(optional(removed)?.unwrap_or(Outcome::Removed))
}

fn remove_directory(path: &Path, deadline: Option<Instant>, pace: Pace) -> Result<Outcome, StoreError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
    let Some(name) = name else { return Err(StoreError::io("delete", path)(Errno::EINVAL)) };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let parent = openat(AT_FDCWD, parent, flags, Mode::empty()).map_err(StoreError::io("open", parent))?;
    let top = open_child(parent.as_fd(), &name).map_err(|errno| removal_error(errno, path))?;
    let path = path.to_path_buf();
    let mut removal = Removal { top: top.as_fd(), path, deadline, pace, slice: Instant::now(), blocked: None };
    let removed = removal.clear(parent.as_fd(), &name, top.as_fd(), 0);
    match removal.blocked {
        // The first failure explains why the directory is not empty.
        Some(error) if removed != Ok(Outcome::OutOfTime) => Err(error),
        _ => removed.map_err(|errno| removal_error(errno, &removal.path)),
    }
}

/// One walk through a tree being deleted.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// The current position, for messages.
    path: PathBuf,
    deadline: Option<Instant>,
    pace: Pace,
    /// When the current slice of work began.
    slice: Instant,
    /// The first failure; the walk continues around it.
    blocked: Option<StoreError>,
}

/// What one reading of a directory achieved.
enum Reading {
    /// It is probably empty now; whether anything was deleted or moved.
    Finished {
        progress: bool,
    },
    OutOfTime,
}

impl Removal<'_> {
    /// Deletes an open directory with its content.
    fn clear(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CString,
        directory: BorrowedFd<'_>,
        depth: usize,
    ) -> nix::Result<Outcome> {
        loop {
            let progress = match self.empty(directory, depth)? {
                Reading::OutOfTime => return Ok(Outcome::OutOfTime),
                Reading::Finished { progress } => progress,
            };
            match unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                // A deep directory was moved here after its place had been read.
                Err(Errno::ENOTEMPTY | Errno::EEXIST) if progress => {}
                result => return missing_is_removed(result),
            }
        }
    }

    /// Reads a directory once and deletes what it finds.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> nix::Result<Reading> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let mut listed = Dir::openat(directory, ".", flags, Mode::empty())?;
        let mut entries = listed.iter();
        let mut progress = false;
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH
                && let Some(entry) = entries.next()
            {
                let entry = entry?;
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    let may_be_directory = !matches!(entry.file_type(), Some(kind) if kind != Type::Directory);
                    batch.push((may_be_directory, entry.ino(), name.to_owned()));
                }
            }
            if batch.is_empty() {
                return Ok(Reading::Finished { progress });
            }
            batch.sort_unstable_by_key(|(may_be_directory, inode, _)| (*may_be_directory, *inode));
            for (may_be_directory, _, name) in &batch {
                if self.is_over() {
                    return Ok(Reading::OutOfTime);
                }
                self.path.push(OsStr::from_bytes(name.as_bytes()));
                match self.remove_entry(directory, name, *may_be_directory, depth) {
                    Ok(Outcome::OutOfTime) => return Ok(Reading::OutOfTime),
                    Ok(Outcome::Removed) => progress = true,
                    Err(errno) => {
                        let error = removal_error(errno, &self.path);
                        self.blocked.get_or_insert(error);
                    }
                }
                self.path.pop();
            }
        }
    }

    fn remove_entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CString,
        may_be_directory: bool,
        depth: usize,
    ) -> nix::Result<Outcome> {
        if !may_be_directory {
            return missing_is_removed(unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir));
        }
        if depth >= DEPTH {
            let hoisted = durable::random_name().map_err(|_| Errno::EAGAIN)?;
            return missing_is_removed(renameat(directory, name.as_c_str(), self.top, hoisted.as_str()));
        }
        match open_child(directory, name) {
            Ok(child) => self.clear(directory, name, child.as_fd(), depth + 1),
            // Some filesystems do not report types.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                missing_is_removed(unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir))
            }
            Err(errno) => missing_is_removed(Err(errno)),
        }
    }

    /// Whether the time is over. Pauses if others are to have the disk for a while.
    fn is_over(&mut self) -> bool {
        if self.pace == Pace::Gentle && self.slice.elapsed() >= Pace::SLICE {
            thread::sleep(Pace::SLICE);
            self.slice = Instant::now();
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A missing entry counts as removed: another process may have been faster.
fn missing_is_removed(result: nix::Result<()>) -> nix::Result<Outcome> {
    match result {
        Ok(()) | Err(Errno::ENOENT) => Ok(Outcome::Removed),
        Err(errno) => Err(errno),
    }
}

/// Recognises the errors that mean "there is a mount".
fn removal_error(errno: Errno, path: &Path) -> StoreError {
    match errno {
        Errno::EXDEV | Errno::EBUSY => StoreError::HoldsMount { path: path.to_path_buf() },
        errno => StoreError::io("delete", path)(errno),
    }
}

/// Opens a subdirectory; EXDEV if it is a mount, even of the same filesystem.
fn open_child(parent: BorrowedFd<'_>, name: &CString) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    match openat2(parent, name.as_c_str(), OpenHow::new().flags(flags).resolve(resolve)) {
        // Kernels before 5.6, and seccomp profiles that do not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let child = openat(parent, name.as_c_str(), flags, Mode::empty())?;
            if mount_id(parent)? == mount_id(child.as_fd())? { Ok(child) } else { Err(Errno::EXDEV) }
        }
        result => result,
    }
}

/// Returns the mount id of a descriptor, for kernels without `openat2`.
fn mount_id(descriptor: BorrowedFd<'_>) -> nix::Result<String> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let text = fs::read_to_string(path).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|id| id.trim().to_owned()).ok_or(Errno::ENOTSUP)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn all(path: &Path) -> Result<Outcome, StoreError> {
        remove(path, None, Pace::Full)
    }

    #[test]
    fn links_are_deleted_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("dangling", tree.join("a/dangling")).unwrap();
        all(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        symlink(&outside, &tree).unwrap();
        all(&tree).unwrap();
        assert!(outside.join("kept").exists());
        all(&tree).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_is_deleted() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = openat(AT_FDCWD, place.path(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&directory, "nested", Mode::S_IRWXU).unwrap();
            directory = open_child(directory.as_fd(), &c"nested".to_owned()).unwrap();
        }
        all(&place.path().join("nested")).unwrap();
        assert!(!place.path().join("nested").exists());
    }

    #[test]
    fn a_directory_of_more_than_one_batch_is_deleted() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for number in 0..BATCH * 2 + 1 {
            fs::write(tree.join(number.to_string()), "").unwrap();
        }
        all(&tree).unwrap();
        assert!(!tree.exists());
    }
}

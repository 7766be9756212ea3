//! Deletes trees. Nothing else in the store does.
//!
//! A tree is first renamed into the trash, so that nothing finds it half deleted. A sweep finishes what a crash leaves
//! there. The walk goes from descriptor to descriptor, follows no link and enters no mount: one of our volumes may be
//! mounted where we least expect it, and its content is not ours.

use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
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

/// Names read per batch: bounds memory in a directory of any size.
const BATCH: usize = 1024;

/// Directories nested deeper are moved up first: bounds descriptors in a tree of any depth.
const DEPTH: usize = 64;

/// When to delete a tree that has been moved to the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// Before the call returns, however long that takes.
    Now,
    /// In the next sweep that has time for it.
    BySweep,
}

/// The directory of trees to be deleted.
#[derive(Debug)]
pub(crate) struct Trash {
    directory: PathBuf,
}

impl Trash {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Moves a file or tree to the trash, not durably. Returns its new path, or `None` if it does not exist.
    pub(crate) fn take(&self, path: &Path) -> Result<Option<PathBuf>, StoreError> {
        let taken = self.directory.join(durable::random_name()?);
        let moved = fs::rename(path, &taken).map_err(StoreError::io("move to the trash", path));
        Ok(optional(moved)?.map(|()| taken))
    }

    /// Moves a file or tree to the trash durably. Then deletes as much as possible, unless that is left to a sweep.
    pub(super) fn discard(&self, path: &Path, deletion: Deletion) -> Result<(), StoreError> {
        // The directory is opened first: once it is empty, a concurrent process may remove it.
        let parent = match path.parent().map(File::open) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Some(opened) => Some(opened.map_err(StoreError::io("open the directory of", path))?),
            None => None,
        };
        let Some(taken) = self.take(path)? else { return Ok(()) };
        if let Some(parent) = parent {
            parent.sync_all().map_err(StoreError::io("sync the directory of", path))?;
        }
        if deletion == Deletion::Now {
            delete_or_leave(&taken);
        }
        Ok(())
    }

    /// Deletes an entry that [`Trash::take`] moved there, until `deadline` if any. Returns whether a sweep must finish
    /// it.
    pub(super) fn delete_taken(&self, taken: &Path, deadline: Option<Instant>) -> bool {
        debug_assert!(taken.starts_with(&self.directory));
        match remove_within(taken, deadline) {
            Ok(Outcome::Removed) => false,
            Ok(Outcome::OutOfTime) => true,
            Err(error) => {
                let (path, error) = (taken.display(), crate::error::chain(&error));
                tracing::warn!(%path, error, "cannot delete something in the trash");
                true
            }
        }
    }

    /// Empties the trash, until `deadline` if any. Returns how much was deleted, what failed, and whether time ran out.
    pub(super) fn empty(&self, deadline: Option<Instant>) -> Result<Emptied, StoreError> {
        let mut emptied = Emptied::default();
        for path in durable::entries(&self.directory)? {
            match remove_within(&path, deadline) {
                Ok(Outcome::Removed) => emptied.removed += 1,
                Ok(Outcome::OutOfTime) => {
                    emptied.out_of_time = true;
                    break;
                }
                Err(error) => emptied.failures.push(error),
            }
        }
        Ok(emptied)
    }
}

/// The result of emptying the trash.
#[derive(Debug, Default)]
pub(super) struct Emptied {
    pub(super) removed: usize,
    pub(super) out_of_time: bool,
    pub(super) failures: Vec<StoreError>,
}

/// Deletes an entry of the trash; a sweep retries after a failure.
pub(super) fn delete_or_leave(taken: &Path) {
    if let Err(error) = remove_tree(taken) {
        let (path, error) = (taken.display(), crate::error::chain(&error));
        tracing::warn!(%path, error, "cannot delete something in the trash; a later sweep retries it");
    }
}

/// Deletes a file or tree of ours. If something is mounted inside, it deletes the rest and fails. A missing path is not
/// an error.
///
/// # Errors
///
/// If something cannot be deleted.
pub fn remove_tree(path: &Path) -> Result<(), StoreError> {
    remove_within(path, None).map(|_| ())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Removed,
    OutOfTime,
}

fn remove_within(path: &Path, deadline: Option<Instant>) -> Result<Outcome, StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => remove_directory(path, deadline),
        Ok(_) => fs::remove_file(path).map(|()| Outcome::Removed).map_err(StoreError::io("delete", path)),
        Err(source) => Err(StoreError::Io { action: "examine", path: path.to_path_buf(), source }),
    };
    Ok(optional(removed)?.unwrap_or(Outcome::Removed))
}

fn remove_directory(path: &Path, deadline: Option<Instant>) -> Result<Outcome, StoreError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| CString::new(name.as_bytes()).ok());
    let Some(name) = name else { return Err(StoreError::io("delete", path)(Errno::EINVAL)) };
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let parent = openat(AT_FDCWD, parent, flags, Mode::empty()).map_err(StoreError::io("open", parent))?;
    let top = open_child(parent.as_fd(), &name).map_err(|errno| removal_error(errno, path))?;
    let mut removal = Removal { top: top.as_fd(), path: path.to_path_buf(), deadline, blocked: None };
    if removal.empty(top.as_fd(), 0)? == Outcome::OutOfTime {
        return Ok(Outcome::OutOfTime);
    }
    match removal.blocked {
        Some(error) => Err(error),
        None => unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir)
            .map(|()| Outcome::Removed)
            .map_err(|errno| removal_error(errno, path)),
    }
}

/// One walk through a tree being deleted.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// The current position, for messages.
    path: PathBuf,
    deadline: Option<Instant>,
    /// The first failure; the walk continues around it.
    blocked: Option<StoreError>,
}

impl Removal<'_> {
    /// Deletes the content of a directory.
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<Outcome, StoreError> {
        loop {
            let batch = list(directory).map_err(StoreError::io("list", &self.path))?;
            let mut progress = false;
            for (name, kind) in &batch {
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(Outcome::OutOfTime);
                }
                self.path.push(std::ffi::OsStr::from_bytes(name.as_bytes()));
                match self.remove_entry(directory, name, *kind, depth) {
                    Ok(Outcome::OutOfTime) => return Ok(Outcome::OutOfTime),
                    Ok(Outcome::Removed) => progress = true,
                    Err(error) => {
                        self.blocked.get_or_insert(error);
                    }
                }
                self.path.pop();
            }
            if batch.is_empty() || !progress {
                return Ok(Outcome::Removed);
            }
        }
    }

    fn remove_entry(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CString,
        kind: Option<Type>,
        depth: usize,
    ) -> Result<Outcome, StoreError> {
        if kind != Some(Type::Directory) {
            match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                // Some filesystems do not report types.
                Err(Errno::EISDIR) => {}
                removed => return self.removed(removed),
            }
        }
        if depth >= DEPTH {
            let hoisted = durable::random_name()?;
            return self.removed(renameat(directory, name.as_c_str(), self.top, hoisted.as_str()));
        }
        let child = match open_child(directory, name) {
            Ok(child) => child,
            Err(errno) => return self.removed(Err(errno)),
        };
        if self.empty(child.as_fd(), depth + 1)? == Outcome::OutOfTime {
            return Ok(Outcome::OutOfTime);
        }
        self.removed(unlinkat(directory, name.as_c_str(), UnlinkatFlags::RemoveDir))
    }

    /// Converts the result of a removal. A missing entry counts as removed: another process may have been faster.
    fn removed(&self, result: nix::Result<()>) -> Result<Outcome, StoreError> {
        match result {
            Ok(()) | Err(Errno::ENOENT) => Ok(Outcome::Removed),
            Err(errno) => Err(removal_error(errno, &self.path)),
        }
    }
}

/// Recognises the errors that mean "there is a mount".
fn removal_error(errno: Errno, path: &Path) -> StoreError {
    match errno {
        Errno::EXDEV | Errno::EBUSY => StoreError::HoldsMount { path: path.to_path_buf() },
        errno => StoreError::io("delete", path)(errno),
    }
}

/// Up to [`BATCH`] names in a directory, with their types if the filesystem reports them.
fn list(directory: BorrowedFd<'_>) -> nix::Result<Vec<(CString, Option<Type>)>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let mut names = Vec::new();
    for entry in Dir::openat(directory, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
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
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(outside.join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_is_deleted() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = openat(AT_FDCWD, place.path(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&directory, "nested", Mode::S_IRWXU).unwrap();
            directory = open_child(directory.as_fd(), &c"nested".to_owned()).unwrap();
        }
        remove_tree(&place.path().join("nested")).unwrap();
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
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn emptying_the_trash_without_time_says_so_and_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let trash = Trash::new(place.path().join("trash"));
        fs::create_dir(&trash.directory).unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("a")).unwrap();
        trash.take(&tree).unwrap().unwrap();
        assert!(trash.empty(Some(Instant::now())).unwrap().out_of_time);
        let emptied = trash.empty(None).unwrap();
        assert_eq!((emptied.removed, emptied.out_of_time), (1, false));
        assert_eq!(fs::read_dir(&trash.directory).unwrap().count(), 0);
    }
}

//! Prepares a mount on kernels without detached mounts (before Linux 5.12).
//!
//! On these kernels a bind mount starts writable and only a second call makes it read-only; and a new filesystem starts
//! on a directory, not detached. So the mount is made in a directory that nobody else can enter, then moved. The kernel
//! refuses to move a mount out of a shared one, and most mounts of a node are shared. So the directory, of mode 0700, is
//! first mounted on itself, and that mount is made private.
//!
//! ```text
//! <workdir>/<random>/         locked by its maker; mounted on itself, private
//! <workdir>/<random>/mount    the mount, until it is moved
//! ```
//!
//! The lock tells a sweep whether a directory is in use or its maker was killed.

use std::ffi::CStr;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use nix::sys::statvfs::FsFlags;
use nix::sys::statvfs::statvfs;
use nix::unistd::mkdtemp;

/// A directory for one mount. Dropping it removes it, together with the mount unless that was moved.
pub(super) struct PrivateDirectory {
    path: PathBuf,
    _lock: File,
}

/// The step that needs room on the disk.
pub(super) const PREPARE: &str = "prepare a private directory";

/// A step that failed, and why.
pub(super) type FailedStep = (&'static str, io::Error);

impl PrivateDirectory {
    /// Makes a directory below `workdir`, which is created if missing; the parent of `workdir` must exist.
    pub(super) fn make(workdir: &Path) -> Result<Self, FailedStep> {
        let prepare = |error| (PREPARE, error);
        match DirBuilder::new().mode(0o700).create(workdir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(prepare(error)),
            _ => {}
        }

        // A sweep holds this lock exclusively, so it never sees a directory that exists but is not locked yet.
        let gate = open(workdir).map_err(prepare)?;
        gate.lock_shared().map_err(prepare)?;
        let path = mkdtemp(&workdir.join("X".repeat(REPLACED))).map_err(|error| prepare(error.into()))?;
        let lock = open(&path).map_err(prepare)?;
        lock.lock().map_err(prepare)?;
        drop(gate);

        let directory = Self { path, _lock: lock };
        DirBuilder::new().mode(0o700).create(directory.mount()).map_err(prepare)?;
        change(Some(&directory.path), &directory.path, MsFlags::MS_BIND)
            .map_err(|error| ("bind a private directory", error))?;
        change(None, &directory.path, MsFlags::MS_PRIVATE).map_err(|error| ("make a directory private", error))?;
        Ok(directory)
    }

    /// Binds `source` in this directory, with its final flags.
    pub(super) fn bind(&self, source: BorrowedFd<'_>, read_only: bool) -> Result<(), FailedStep> {
        let mount = self.mount();
        change(Some(&behind(source)), &mount, MsFlags::MS_BIND).map_err(|error| ("bind", error))?;
        // The bind joins the peer group of the source's mount, and would receive mounts made there.
        change(None, &mount, MsFlags::MS_PRIVATE).map_err(|error| ("make private", error))?;

        let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_RDONLY, read_only);
        // A remount replaces all flags, so those of the source's mount must be repeated.
        let inherited = statvfs(&mount).map_err(|error| ("read the flags", error.into()))?.flags();
        for (have, keep) in [(FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC), (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY)] {
            if inherited.contains(have) {
                flags |= keep;
            }
        }
        change(None, &mount, flags).map_err(|error| ("remount with flags", error))
    }

    /// Mounts a filesystem in this directory, with its final flags.
    pub(super) fn mount_new(
        &self,
        filesystem: &str,
        source: &Path,
        options: &CStr,
        read_only: bool,
    ) -> nix::Result<()> {
        let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        flags.set(MsFlags::MS_RDONLY, read_only);
        mount(Some(source), &self.mount(), Some(filesystem), flags, Some(options))
    }

    /// Moves the mount to `target`.
    pub(super) fn move_to(self, target: BorrowedFd<'_>) -> Result<(), FailedStep> {
        change(Some(&self.mount()), &behind(target), MsFlags::MS_MOVE).map_err(|error| ("move", error))
    }

    /// Returns the path of the mount.
    pub(super) fn mount(&self) -> PathBuf {
        self.path.join(MOUNT)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Anything that remains looks like the leftovers of a killed process, and is swept like them.
        let _swept_later = dismantle(&self.path);
    }
}

/// Letters at the end of a name that mkdtemp(3) replaces to make it unique.
const REPLACED: usize = 6;

const MOUNT: &str = "mount";

/// Removes the directories below `workdir` whose makers are gone, and returns their number.
pub(super) fn sweep(workdir: &Path) -> Result<usize, (PathBuf, io::Error)> {
    let failed = |error| (workdir.to_path_buf(), error);
    let gate = match open(workdir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened.map_err(failed)?,
    };
    gate.lock().map_err(failed)?;
    let mut swept = 0;
    for entry in fs::read_dir(workdir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if sweep_one(&path).map_err(|error| (path, error))? {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Removes a directory that is not in use; `false` if it is, or if its maker has already removed it.
fn sweep_one(path: &Path) -> io::Result<bool> {
    let directory = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match directory.try_lock() {
        Ok(()) => dismantle(path),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Unmounts and removes a directory, whatever its state; `false` if it does not exist.
///
/// Both unmounts are lazy: the directory is our own, and nothing in it is worth waiting for. If another mount namespace
/// still has the mounts, the kernel detaches them there when the directories are removed.
fn dismantle(directory: &Path) -> io::Result<bool> {
    let mount = directory.join(MOUNT);
    for mounted in [&mount, directory] {
        // A mount that stays blocks the removal below, which reports the error.
        let _not_mounted = umount2(mounted, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    remove(&mount)?;
    remove(directory)
}

fn remove(directory: &Path) -> io::Result<bool> {
    match fs::remove_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a directory to lock it. The lock is released with the descriptor, at the latest when the process ends.
fn open(directory: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(directory)
}

fn change(source: Option<&Path>, target: &Path, flags: MsFlags) -> io::Result<()> {
    Ok(mount(source, target, None::<&Path>, flags, None::<&Path>)?)
}

/// Returns a path to an open directory, wherever it is, for calls that take no descriptor.
fn behind(directory: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

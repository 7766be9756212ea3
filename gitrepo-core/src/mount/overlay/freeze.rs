//! Makes an overlay read-only.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
use nix::sys::statfs::fstatfs;

use crate::mount::MountError;
use crate::mount::OVERLAY;
use crate::mount::Role;
use crate::mount::directory;
use crate::mount::linux::LinuxMounter;
use crate::mount::linux::Strategy;
use crate::mount::mountinfo;
use crate::mount::private_directory::FailedStep;
use crate::mount::visible::is_on_device;
use crate::sys;

/// Makes the filesystem that is mounted on `target` read-only: on all targets, and for whoever has mounted them further.
pub(in crate::mount) fn freeze(mounter: &LinuxMounter, target: &Path) -> Result<(), MountError> {
    let root = directory::open(target, Role::Target)?;
    let frozen = check_overlay(root.as_fd(), target).and_then(|()| match mounter.strategy() {
        Strategy::Detached => reconfigure(root.as_fd()),
        Strategy::PrivateDirectory => remount(root.as_fd()),
    });
    frozen.map_err(|(step, source)| MountError::Freeze { target: target.into(), step, source: explained(source) })
}

/// Fails if this is not the root of an overlay that is mounted whole on the target: a bind would freeze the disk below it,
/// and a directory in a container that container. The kernel refuses what is not the root of a mount.
fn check_overlay(root: BorrowedFd<'_>, target: &Path) -> Result<(), FailedStep> {
    let failed = |error| ("find the overlay", error);
    let magic = fstatfs(root).map_err(|error| failed(error.into()))?.filesystem_type();
    let mounts = mountinfo::read().map_err(failed)?;
    let on_top = mounts.iter().rev().find(|mount| mount.target == target);
    let is_whole = on_top
        .is_some_and(|mount| mount.filesystem == OVERLAY && mount.root == Path::new("/") && is_on_device(root, mount));
    if magic != OVERLAYFS_SUPER_MAGIC || !is_whole {
        return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "something else is mounted there, or nothing")));
    }
    Ok(())
}

fn reconfigure(root: BorrowedFd<'_>) -> Result<(), FailedStep> {
    let filesystem = sys::mount::pick_filesystem(root).map_err(|error| ("fspick", error.into()))?;
    sys::mount::set_flag(filesystem.as_fd(), c"ro").map_err(|error| ("fsconfig: ro", error.into()))?;
    sys::mount::reconfigure_filesystem(filesystem.as_fd()).map_err(|error| ("fsconfig: reconfigure", error.into()))
}

fn remount(root: BorrowedFd<'_>) -> Result<(), FailedStep> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, path.as_str(), None::<&str>, flags, None::<&str>).map_err(|error| ("remount", error.into()))
}

fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            crate::mount::Explained::wrap("a file in it is open for writing, or was deleted and is still open", error)
        }
        _ => error,
    }
}

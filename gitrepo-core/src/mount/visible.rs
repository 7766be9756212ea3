//! Copies a mount that this mount namespace shows: all targets of an image or a layer have one filesystem.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::stat::fstat;
use nix::sys::stat::major;
use nix::sys::stat::minor;

use super::MountError;
use super::MountPoint;
use super::Role;
use super::directory;
use super::linux::LinuxMounter;
use super::mountinfo;

/// Copies the first mount of a whole filesystem that is usable, and whose root `open` returns. Returns `false` if there is
/// none. A copy inherits the flags of the mount, so a usable one has no others than the copy shall have.
pub(super) fn copy(
    mounter: &LinuxMounter,
    target: BorrowedFd<'_>,
    read_only: bool,
    is_usable: impl Fn(&MountPoint) -> bool,
    open: impl Fn(&MountPoint) -> Option<OwnedFd>,
) -> Result<bool, MountError> {
    let mounts = mountinfo::read().map_err(|source| MountError::Table { path: mountinfo::TABLE.into(), source })?;
    let is_on_top = |at: usize, mount: &MountPoint| !mounts[at + 1..].iter().any(|later| later.target == mount.target);
    let is_usable =
        |at: usize, mount: &MountPoint| mount.root == Path::new("/") && is_usable(mount) && is_on_top(at, mount);
    let mut usable = mounts.iter().enumerate().filter(|(at, mount)| is_usable(*at, mount));
    let Some(root) = usable.find_map(|(_, mount)| open(mount)) else { return Ok(false) };
    // It may have been unmounted meanwhile.
    let copied = mounter.bind(root.as_fd(), target, read_only);
    let copied = copied.inspect_err(|(step, error)| tracing::debug!(step, %error, "cannot copy a mount"));
    Ok(copied.is_ok())
}

/// Returns the root of a mount, unless that is covered or gone.
pub(super) fn root_of(mount: &MountPoint) -> Option<OwnedFd> {
    let target = directory::open(&mount.target, Role::Target).ok()?;
    is_on_device(target.as_fd(), mount).then_some(target)
}

/// Whether an open directory is on the filesystem of a mount.
pub(super) fn is_on_device(directory: BorrowedFd<'_>, mount: &MountPoint) -> bool {
    fstat(directory).is_ok_and(|found| format!("{}:{}", major(found.st_dev), minor(found.st_dev)) == mount.device)
}

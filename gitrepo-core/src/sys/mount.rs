//! System calls for mounts that nix does not have.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

/// Makes a detached copy of the mount of `directory`, with `directory` as its root (Linux 5.2). The copy is discarded
/// with its descriptor unless it is attached before.
pub(crate) fn clone_tree(directory: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the descriptor is open for the duration of the call and the path is a C string.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), c"".as_ptr(), flags) };
    let descriptor = Errno::result(result)?;
    // SAFETY: the call has just returned this descriptor to us, and a descriptor fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Adds `attributes` (`MOUNT_ATTR_*`) to a mount and makes it private (Linux 5.12).
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, attributes: u64) -> nix::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    // SAFETY: the descriptor is open, the path is a C string, and the structure lives through the call and has the size
    // that is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    Errno::result(result).map(drop)
}

/// Attaches a mount of [`clone_tree`] at a directory (Linux 5.2).
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are open for the duration of the call and the paths are C strings.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    };
    Errno::result(result).map(drop)
}

/// Whether the kernel has the system calls of [`clone_tree`], [`set_attributes`] and [`attach`], and no filter hides
/// them.
pub(crate) fn detached_mounts_work() -> bool {
    let invalid: libc::c_int = -1;
    // SAFETY: with no descriptor, no path and a size of zero, nothing is read and nothing can happen.
    let set_attributes =
        Errno::result(unsafe { libc::syscall(libc::SYS_mount_setattr, invalid, c"".as_ptr(), 0, 0usize, 0usize) });
    // SAFETY: as above; the flags are refused.
    let open_tree = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, invalid, c"".as_ptr(), invalid) });
    // For unknown calls, container filters return EPERM, kernels ENOSYS.
    let missing = |result: nix::Result<_>| matches!(result, Err(Errno::ENOSYS | Errno::EPERM));
    !missing(set_attributes) && !missing(open_tree)
}

/// Whether `name` in `directory` is the root of a mount, without following a final symlink; `None` if the kernel cannot
/// tell (before Linux 5.8, or behind a filter).
pub(crate) fn is_mount_root(directory: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<bool>> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // Not through the C library, which emulates the call where it is missing, and then rejects the flags.
    // SAFETY: the descriptor is open, the name is a C string, and the buffer is a whole `statx`.
    let result =
        unsafe { libc::syscall(libc::SYS_statx, directory.as_raw_fd(), name.as_ptr(), flags, 0, found.as_mut_ptr()) };
    match Errno::result(result) {
        // Kernels and container filters without the call.
        Err(Errno::ENOSYS | Errno::EPERM) => return Ok(None),
        other => other?,
    };
    // SAFETY: zeroed and then filled by the call; every bit pattern is a valid `statx`.
    let found = unsafe { found.assume_init() };
    let bit = libc::STATX_ATTR_MOUNT_ROOT as u64;
    Ok((found.stx_attributes_mask & bit != 0).then_some(found.stx_attributes & bit != 0))
}

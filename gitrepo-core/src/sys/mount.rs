//! System calls for mounts that nix does not have.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;

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

/// Attaches a mount of [`clone_tree`] or [`mount_filesystem`] at a directory (Linux 5.2).
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are open for the duration of the call and the paths are C strings.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags)
    };
    Errno::result(result).map(drop)
}

/// `MOVE_MOUNT_BENEATH` of `linux/mount.h`.
const BENEATH: libc::c_uint = 0x200;

/// Whether the kernel has [`attach_beneath`]. With the rights to mount, one that does not know the flag refuses it before it
/// looks at a descriptor.
pub(crate) fn attach_beneath_works() -> bool {
    let invalid: libc::c_int = -1;
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH | BENEATH;
    // SAFETY: without a descriptor nothing can happen, and the paths are C strings.
    let result = unsafe { libc::syscall(libc::SYS_move_mount, invalid, c"".as_ptr(), invalid, c"".as_ptr(), flags) };
    Errno::result(result) == Err(Errno::EBADF)
}

/// Attaches a mount of [`clone_tree`] beneath the topmost mount on a directory, whose root is `covering` (Linux 6.5). It
/// shows once that one is unmounted.
pub(crate) fn attach_beneath(mount: BorrowedFd<'_>, covering: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH | BENEATH;
    // SAFETY: both descriptors are open for the duration of the call and the paths are C strings.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), c"".as_ptr(), covering.as_raw_fd(), c"".as_ptr(), flags)
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

/// Starts the configuration of a new filesystem (Linux 5.2). The kernel's messages about it can be read from the
/// descriptor.
pub(crate) fn open_filesystem(kind: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let result = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) };
    let descriptor = Errno::result(result)?;
    // SAFETY: the call has just returned this descriptor to us, and a descriptor fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Sets an option of a filesystem of [`open_filesystem`]. A key may be set several times, if it means a list.
pub(crate) fn set_option(filesystem: BorrowedFd<'_>, key: &CStr, value: &CStr) -> nix::Result<()> {
    configure(filesystem, libc::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
}

/// Sets an option that has no value.
pub(crate) fn set_flag(filesystem: BorrowedFd<'_>, key: &CStr) -> nix::Result<()> {
    configure(filesystem, libc::FSCONFIG_SET_FLAG, key.as_ptr(), ptr::null())
}

/// Makes the filesystem: opens its source and reads its superblock.
pub(crate) fn create_filesystem(filesystem: BorrowedFd<'_>) -> nix::Result<()> {
    configure(filesystem, libc::FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())
}

/// Starts the configuration of the filesystem that is mounted on a directory (Linux 5.2).
pub(crate) fn pick_filesystem(root: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
    // SAFETY: the descriptor is open for the duration of the call and the path is a C string.
    let result = unsafe { libc::syscall(libc::SYS_fspick, root.as_raw_fd(), c"".as_ptr(), flags) };
    let descriptor = Errno::result(result)?;
    // SAFETY: the call has just returned this descriptor to us, and a descriptor fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// Applies the options that were set on a filesystem of [`pick_filesystem`].
pub(crate) fn reconfigure_filesystem(filesystem: BorrowedFd<'_>) -> nix::Result<()> {
    configure(filesystem, libc::FSCONFIG_CMD_RECONFIGURE, ptr::null(), ptr::null())
}

fn configure(
    filesystem: BorrowedFd<'_>,
    command: libc::c_uint,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> nix::Result<()> {
    // SAFETY: every caller in this module passes C strings that live through the call, or null where the command takes
    // none.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, filesystem.as_raw_fd(), command, key, value, 0) };
    Errno::result(result).map(drop)
}

/// Mounts a filesystem that was created, detached, with `attributes` (`MOUNT_ATTR_*`). The mount is discarded with its
/// descriptor unless it is attached before.
pub(crate) fn mount_filesystem(filesystem: BorrowedFd<'_>, attributes: u64) -> nix::Result<OwnedFd> {
    // SAFETY: the descriptor is open for the duration of the call.
    let result = unsafe {
        libc::syscall(libc::SYS_fsmount, filesystem.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as libc::c_uint)
    };
    let descriptor = Errno::result(result)?;
    // SAFETY: the call has just returned this descriptor to us, and a descriptor fits an int.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })
}

/// The length of a UUID.
pub(crate) const UUID_LENGTH: usize = 16;

/// Returns the UUID of the filesystem that a file or directory, open for reading, is on (Linux 6.9); `None` if the
/// kernel or the filesystem does not tell.
pub(crate) fn filesystem_uuid(file: BorrowedFd<'_>) -> Option<[u8; UUID_LENGTH]> {
    /// `struct fsuuid2` of `linux/fs.h`.
    #[repr(C)]
    struct Uuid {
        length: u8,
        uuid: [u8; UUID_LENGTH],
    }
    let mut found = Uuid { length: 0, uuid: [0; UUID_LENGTH] };
    let request = nix::request_code_read!(0x15, 0, size_of::<Uuid>());
    // SAFETY: the descriptor is open for the duration of the call, which fills the structure of this size.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut found) };
    (Errno::result(result).is_ok() && usize::from(found.length) == UUID_LENGTH).then_some(found.uuid)
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

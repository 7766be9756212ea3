//! System calls: those with which one process decides on those of others (seccomp's user notification,
//! seccomp_unotify(2)), and those that map the ids of a mount.

#![allow(unsafe_code, reason = "no library offers these calls")]

use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

/// Attaches a copy of the mount on `source` to `target`, with the ids of this user namespace.
pub(crate) fn attach_mapped(source: &Path, namespace: &File, target: &Path) -> io::Result<()> {
    let [source, target] = [source, target].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (source, target) = (source?, target?);
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
    let descriptor = Errno::result(result)?.try_into().map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just returned this descriptor to us.
    let clone = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd().try_into().map_err(|_| Errno::EBADF)?,
    };
    // SAFETY: both descriptors are open, the path is a C string, and the structure has the size that is passed.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    })?;
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: the descriptor is open and the paths are C strings.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, clone.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), flags)
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Sets an extended attribute of a file.
pub(crate) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path and the name are C strings, and the value has the length that is passed.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// A filter as the kernel reads it.
pub(crate) type Filter = [libc::sock_filter];

mod requests {
    nix::ioctl_readwrite!(receive, b'!', 0, libc::seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, libc::seccomp_notif_resp);
}

/// Applies a filter to this thread and all that it starts, for ever. Returns where its notifications arrive. Needs root.
pub(crate) fn listen(filter: &mut Filter) -> nix::Result<OwnedFd> {
    let length = filter.len().try_into().map_err(|_| Errno::E2BIG)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let (operation, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the program and its instructions live through the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    let descriptor = Errno::result(result)?.try_into().map_err(|_| Errno::EBADF)?;
    // SAFETY: the call has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Waits for the next system call that a filter notifies of.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> nix::Result<libc::seccomp_notif> {
    // SAFETY: the structure is made of integers, and the kernel wants it zeroed.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the descriptor is open, and the kernel fills the structure of this size.
    unsafe { requests::receive(listener.as_raw_fd(), &raw mut call) }?;
    Ok(call)
}

/// Lets a call go on, or fail with `error`.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, error: Option<Errno>) -> nix::Result<()> {
    let flags = if error.is_none() { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE } else { 0 };
    let error = error.map_or(0, |errno| -(errno as i32));
    let mut response =
        libc::seccomp_notif_resp { id, val: 0, error, flags: flags.try_into().map_err(|_| Errno::EINVAL)? };
    // SAFETY: the descriptor is open, and the structure has the size that the kernel reads.
    unsafe { requests::send(listener.as_raw_fd(), &raw mut response) }.map(drop)
}

//! Project quotas: `linux/fs.h` (the project of a file), `linux/quota.h` and `linux/dqblk_xfs.h` (its limit). libc has
//! neither the calls nor the structures.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::ptr;

use nix::errno::Errno;

/// What is made in a directory belongs to the directory's project.
pub(crate) const INHERIT: u32 = 0x200;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    /// Flags, such as [`INHERIT`].
    pub(crate) flags: u32,
    extent_size: u32,
    extents: u32,
    /// The project; 0 for none.
    pub(crate) project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`, and `struct if_nextdqblk`, which has an id in place of the other's padding.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    /// In [`UNIT`]s; 0 for none.
    pub(crate) hard_limit: u64,
    soft_limit: u64,
    /// In bytes.
    pub(crate) bytes: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    pub(crate) inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
    /// Only of [`next`].
    pub(crate) project: u32,
}

/// `struct fs_quota_statv`, of which only the flags are read.
#[repr(C)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u32; 39],
}

/// Bytes of a unit of a limit (`QIF_DQBLKSIZE`).
pub(crate) const UNIT: u64 = 1024;

const TYPE_PROJECT: u32 = 2;
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const GET_NEXT: u32 = 0x80_0009;
/// `Q_XGETQSTATV`.
const GET_STATE: u32 = 0x5808;
/// `QIF_BLIMITS`: only the limits of bytes are set.
const LIMITS_OF_BYTES: u32 = 1;
/// `FS_QUOTA_PDQ_ENFD`.
const PROJECTS_ENFORCED: u16 = 1 << 5;

/// Returns the project of a file or directory, open for reading.
pub(crate) fn attributes(file: &File) -> nix::Result<Attributes> {
    let mut found = Attributes::default();
    let request = nix::request_code_read!(b'X', 31, size_of::<Attributes>());
    // SAFETY: `file` keeps the descriptor open, and the call fills the structure of this size.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut found) })?;
    Ok(found)
}

/// Changes the project of a file or directory, open for reading.
pub(crate) fn set_attributes(file: &File, attributes: &Attributes) -> nix::Result<()> {
    let request = nix::request_code_write!(b'X', 32, size_of::<Attributes>());
    // SAFETY: `file` keeps the descriptor open, and the call reads the structure of this size.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request as _, ptr::from_ref(attributes)) }).map(drop)
}

/// Returns what a project takes and may take on the filesystem of a file.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.14, and where the kernel or the filesystem has no quotas; `ESRCH` if it has none of projects;
/// `ENOENT` of some filesystems for a project that was never used.
pub(crate) fn entry(place: BorrowedFd<'_>, project: u32) -> nix::Result<Entry> {
    let mut found = Entry::default();
    // SAFETY: the call fills a structure of this type.
    unsafe { call(place, GET, project, (&raw mut found).cast()) }?;
    Ok(found)
}

/// Returns the first project from `project` on that has an entry, with it.
///
/// # Errors
///
/// `ENOENT` if there is none.
pub(crate) fn next(place: BorrowedFd<'_>, project: u32) -> nix::Result<Entry> {
    let mut found = Entry::default();
    // SAFETY: the call fills a structure of this type.
    unsafe { call(place, GET_NEXT, project, (&raw mut found).cast()) }?;
    Ok(found)
}

/// Sets the limit of a project, in [`UNIT`]s; 0 for none.
pub(crate) fn set_limit(place: BorrowedFd<'_>, project: u32, units: u64) -> nix::Result<()> {
    let mut wanted = Entry { hard_limit: units, valid: LIMITS_OF_BYTES, ..Entry::default() };
    // SAFETY: the call reads a structure of this type.
    unsafe { call(place, SET, project, (&raw mut wanted).cast()) }
}

/// Whether the filesystem of a file enforces limits of projects.
///
/// # Errors
///
/// As for [`entry`].
pub(crate) fn is_enforced(place: BorrowedFd<'_>) -> nix::Result<bool> {
    let mut state = State { version: 1, padding: 0, flags: 0, rest: [0; 39] };
    // SAFETY: the call fills a structure of this type and version.
    unsafe { call(place, GET_STATE, 0, (&raw mut state).cast()) }?;
    Ok(state.flags & PROJECTS_ENFORCED != 0)
}

/// Calls quotactl_fd(2), which needs no path of a block device (Linux 5.14).
///
/// # Safety
///
/// `argument` points to the structure of the command.
unsafe fn call(place: BorrowedFd<'_>, command: u32, project: u32, argument: *mut libc::c_void) -> nix::Result<()> {
    let command = command << 8 | TYPE_PROJECT;
    // SAFETY: the descriptor is open for the duration of the call; the caller answers for the argument.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, place.as_raw_fd(), command, project, argument) };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_size_that_the_kernel_expects() {
        assert_eq!((size_of::<Attributes>(), size_of::<Entry>(), size_of::<State>()), (28, 72, 160));
    }
}

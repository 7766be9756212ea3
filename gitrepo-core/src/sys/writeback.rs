//! Early writeback, which the standard library does not offer.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Tells the kernel to begin to write these bytes to the disk; a length of 0 means all from `offset` on. It waits only
/// while the disk's queue is full. It is advice: a failure, as on a filesystem that does not know it, only makes a later
/// sync longer.
pub(crate) fn begin(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the call takes a descriptor, which `file` keeps open, and plain numbers.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

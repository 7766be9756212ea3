//! Leases on files: how the kernel tells that nobody writes to one.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// Which signal tells of a lease that is broken (include/uapi/asm-generic/fcntl.h; libc does not have it).
const F_SETSIG: libc::c_int = 10;

/// Whether the file behind a read-only descriptor, our own, is open for writing nowhere, mappings included: the kernel
/// gives a read lease on such a file only (fcntl(2), `F_SETLEASE`).
///
/// # Errors
/// Filesystems that have no leases.
pub(crate) fn nobody_writes(file: BorrowedFd<'_>) -> nix::Result<bool> {
    // A lease that somebody breaks is told by SIGIO, which would end us; SIGURG is ignored unless asked for.
    // SAFETY: the descriptor is open for the duration of the call, which takes an integer and touches no memory.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) })?;
    // SAFETY: as above.
    match Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }) {
        Ok(_) => {}
        Err(Errno::EAGAIN) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    // SAFETY: as above.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_writer_is_found_and_a_reader_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let writer = File::create(&path).unwrap();
        let (ours, _other) = (File::open(&path).unwrap(), File::open(&path).unwrap());
        assert_eq!(nobody_writes(ours.as_fd()), Ok(false));
        drop(writer);
        assert_eq!(nobody_writes(ours.as_fd()), Ok(true));
        // The lease is gone, so this does not wait for us to give it up.
        drop(File::options().append(true).open(&path).unwrap());
    }
}

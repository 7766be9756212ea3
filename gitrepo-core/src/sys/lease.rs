//! File leases: with them, the kernel tells that nobody writes to a file.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// The signal sent when a lease is broken (include/uapi/asm-generic/fcntl.h; libc does not define it).
const F_SETSIG: libc::c_int = 10;

/// Whether nobody has our file open for writing, mappings included. `file` is read-only: the kernel grants a read lease
/// only if there are no writers (fcntl(2), `F_SETLEASE`).
///
/// # Errors
/// If the filesystem does not support leases.
pub(crate) fn nobody_writes(file: BorrowedFd<'_>) -> nix::Result<bool> {
    // A broken lease is signalled by SIGIO, which would end the process; SIGURG is ignored by default.
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
        // The lease is gone, so this does not wait for us to release it.
        drop(File::options().append(true).open(&path).unwrap());
    }
}

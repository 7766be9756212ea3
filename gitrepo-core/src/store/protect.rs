//! fs-verity on what was found good, where the filesystem has it: damage then becomes an error of whoever reads it, instead
//! of wrong content, and nobody can write to the file. Building the tree of hashes reads a file once more, so only the
//! scrub does it.

use std::fs::File;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

use crate::snapshot::Verifier;
use crate::snapshot::VerifyError;
use crate::sys::verity;

/// The hashes of a file take about one of so many of its bytes.
const HASHED: u64 = 127;

/// Has the filesystem protect these files, and counts what it reads. A file that cannot be protected stays as it is, and
/// so do those whose hashes would leave less than `kept_free` bytes free.
pub(super) fn protect(
    files: impl IntoIterator<Item = PathBuf>,
    kept_free: u64,
    verifier: &mut Verifier<'_>,
) -> Result<(), VerifyError> {
    for path in files {
        verifier.check_wanted()?;
        let enable = |file: &File| -> nix::Result<u64> {
            if verity::is_enabled(file) {
                return Ok(0);
            }
            let length = file.metadata().map_or(0, |found| found.len());
            let disk = fstatvfs(file)?;
            let free = disk.fragment_size().saturating_mul(disk.blocks_available());
            match free.checked_sub(length / HASHED) {
                Some(left) if left >= kept_free => verity::enable(file).map(|()| length),
                _ => Err(Errno::ENOSPC),
            }
        };
        match File::open(&path).map(|file| enable(&file)) {
            Ok(Ok(length)) => verifier.was_read(length)?,
            Ok(Err(Errno::EEXIST)) => {}
            // The kernel or this filesystem does not have it, or not with this size of a block.
            Ok(Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL)) => return Ok(()),
            Ok(Err(errno)) => tracing::debug!(path = %path.display(), %errno, "fs-verity cannot protect a file"),
            Err(error) => tracing::debug!(path = %path.display(), %error, "fs-verity cannot protect a file"),
        }
    }
    Ok(())
}

//! fs-verity on what was found good, where the filesystem has it: damage then becomes an error of whoever reads it, instead
//! of wrong content, and nobody can write to the file. Building the tree of hashes reads a file once more, so only the
//! scrub does it.

use std::fs::File;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::sys::verity;

/// Has the filesystem protect these files. A file that cannot be protected stays as it is.
pub(super) fn protect(files: impl IntoIterator<Item = PathBuf>) {
    for path in files {
        match File::open(&path).map(|file| verity::enable(&file)) {
            Ok(Ok(()) | Err(Errno::EEXIST)) => {}
            // The kernel or this filesystem does not have it.
            Ok(Err(Errno::ENOTTY | Errno::EOPNOTSUPP)) => return,
            Ok(Err(errno)) => tracing::debug!(path = %path.display(), %errno, "fs-verity cannot protect a file"),
            Err(error) => tracing::debug!(path = %path.display(), %error, "fs-verity cannot protect a file"),
        }
    }
}

//! The manifest of a snapshot, as a file.

use std::fs::File;
use std::io;

use nix::fcntl;
use nix::fcntl::OFlag;
use nix::sys::stat;
use nix::sys::stat::Mode;

use super::beneath::Beneath;

/// The manifest's name, beside the tree.
pub(crate) const NAME: &str = "manifest";

/// Creates the manifest in an empty directory.
pub(crate) fn create(staging: &Beneath) -> io::Result<File> {
    let new = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let file = File::from(fcntl::openat(staging, NAME, new, mode)?);
    stat::fchmod(&file, mode)?;
    Ok(file)
}

/// Whether this is an id as git prints it.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

//! The file `links`: the targets of a tree's links, each with a NUL at its end, in the order of the manifest.
//!
//! The content of links is in the image, not on its devices. So a view cannot read it there.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use super::listed::untrusted;
use crate::snapshot::SnapshotError;

/// The file's name in a snapshot. A tree without links has none.
pub(super) const NAME: &str = "links";

/// Writes the targets into a snapshot.
pub(super) fn write(staging: &Path, targets: &[Vec<u8>]) -> Result<(), SnapshotError> {
    if targets.is_empty() {
        return Ok(());
    }
    let mut content = targets.join(&0);
    content.push(0);
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o444).open(staging.join(NAME))?;
        file.write_all(&content)
    };
    write().map_err(|error| SnapshotError::io("write", NAME.as_bytes(), error))
}

/// Reads the targets of a snapshot. Their lengths must be those of the manifest.
pub(super) fn read(snapshot: &Path, listed: &Listed) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let length = |kind: &Kind| match kind {
        Kind::Symlink { target: Extent { size, .. } } => Some(*size),
        _ => None,
    };
    let lengths: Vec<u64> = listed.nodes.iter().filter_map(|node| length(&node.kind)).collect();
    if lengths.is_empty() {
        return Ok(Vec::new());
    }
    let expected: u64 = lengths.iter().map(|length| length + 1).sum();
    let mut content = Vec::new();
    File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(snapshot.join(NAME))
        .and_then(|file| file.take(expected + 1).read_to_end(&mut content))
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => untrusted(NAME.as_bytes(), "it is missing"),
            _ => SnapshotError::io("read", NAME.as_bytes(), error),
        })?;
    let targets: Vec<Vec<u8>> = content.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    let fits = |(target, length): (&Vec<u8>, &u64)| target.len() as u64 == *length;
    match targets.split_last() {
        Some((rest, targets))
            if rest.is_empty() && targets.len() == lengths.len() && targets.iter().zip(&lengths).all(fits) =>
        {
            Ok(targets.to_vec())
        }
        _ => Err(untrusted(NAME.as_bytes(), "it does not match the manifest")),
    }
}

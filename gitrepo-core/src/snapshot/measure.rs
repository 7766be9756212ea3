//! Measures a writable copy, which a pod may be changing meanwhile.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::fstatat;

use super::beneath::Beneath;
use super::beneath::join;

/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// How long to work before a pause of the same length: nobody waits, and others use the disk.
const SLICE: Duration = Duration::from_millis(20);

/// What a tree takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes of its files and directories. A file with several names counts once in all.
    pub(crate) bytes: u64,
    /// Whether everything was measured.
    pub(crate) complete: bool,
}

/// Adds up what the tree below `path` takes, until it is more than `enough` bytes or `deadline` has passed. Follows no
/// link. What disappears meanwhile is left out.
pub(crate) fn measure(path: &Path, enough: u64, deadline: Instant) -> io::Result<Measured> {
    let top = Beneath::new(path)?;
    let device = fstatat(&top, c"", AtFlags::AT_EMPTY_PATH)?.st_dev;
    let mut bytes = 0_u64;
    let mut slice = Instant::now();
    let mut places = vec![CString::default()];
    while let Some(place) = places.pop() {
        let opened = match top.open(&place) {
            // Deleted, or replaced by something else.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            opened => opened?,
        };
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        for entry in Dir::openat(opened.as_fd(), c".", flags, Mode::empty())?.iter() {
            if bytes > enough || Instant::now() >= deadline {
                return Ok(Measured { bytes, complete: false });
            }
            if slice.elapsed() >= SLICE {
                thread::sleep(SLICE);
                slice = Instant::now();
            }
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match fstatat(&opened, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                stat => stat?,
            };
            let is_directory = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
            #[allow(clippy::useless_conversion, reason = "on some architectures it is narrower")]
            let names = if is_directory { 1 } else { u64::from(stat.st_nlink).max(1) };
            let taken = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK);
            bytes = bytes.saturating_add(taken / names);
            if is_directory && stat.st_dev == device {
                places.push(join(&place, name));
            }
        }
    }
    Ok(Measured { bytes, complete: true })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_is_measured_without_what_links_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), vec![1; 8 << 20]).unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink(outside.join("large"), tree.join("file-link")).unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(tree.join("a/b/file"), tree.join("again")).unwrap();
        let soon = || Instant::now() + Duration::from_secs(60);
        let whole = measure(&tree, u64::MAX, soon()).unwrap();
        assert!(whole.complete && (1 << 20..2 << 20).contains(&whole.bytes), "{whole:?}");
        let enough = measure(&tree, 1000, soon()).unwrap();
        assert!(!enough.complete && enough.bytes > 1000, "{enough:?}");
        assert!(!measure(&tree, u64::MAX, Instant::now()).unwrap().complete);
        assert!(measure(&place.path().join("gone"), 0, soon()).is_err());
    }
}

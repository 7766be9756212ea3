//! Measures a writable copy or layer, which a pod may be changing meanwhile.

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::ops::ControlFlow;
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

/// How deep one branch goes: bounds descriptors in a tree of any depth.
const DEPTH: usize = 64;

/// Bytes of the places that are kept for later: bounds memory in a tree of any depth and width. What does not fit is
/// not measured.
const KEPT: usize = 64 << 10;

/// What a tree takes on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Bytes of its files and directories. A file with several names counts once in all.
    pub(crate) bytes: u64,
    /// Names in its directories.
    pub(crate) entries: u64,
    /// Whether everything was measured.
    pub(crate) complete: bool,
    /// Whether there was too little time for the rest.
    pub(crate) late: bool,
}

/// Adds up what the tree below `path` takes, until it is more than `enough` bytes or `deadline` has passed. Follows no
/// link. What disappears meanwhile is left out.
///
/// The walk goes from descriptor to descriptor and holds those of one branch, however many directories there are.
pub(crate) fn measure(path: &Path, enough: u64, deadline: Instant) -> io::Result<Measured> {
    let top = Beneath::new(path)?;
    let device = fstatat(&top, c"", AtFlags::AT_EMPTY_PATH)?.st_dev;
    let measured = Measured { complete: true, ..Measured::default() };
    let mut walk = Walk { device, enough, deadline, slice: Instant::now(), measured, deep: Vec::new(), kept: 0 };
    let mut next = Some(CString::default());
    while let Some(place) = next {
        if let Some(directory) = unless_gone(top.beneath(&place))?
            && walk.add(&directory, &place, 0)?.is_break()
        {
            walk.measured.complete = false;
            break;
        }
        next = walk.deep.pop();
        walk.kept -= next.as_ref().map_or(0, |place| place.count_bytes());
    }
    Ok(walk.measured)
}

/// One walk through a tree.
struct Walk {
    device: libc::dev_t,
    enough: u64,
    deadline: Instant,
    /// When the current slice of work began.
    slice: Instant,
    measured: Measured,
    /// Places of directories at [`DEPTH`], to begin again from the top.
    deep: Vec<CString>,
    /// Bytes of these places.
    kept: usize,
}

impl Walk {
    /// Adds what is in the directory at `place`. Breaks off if there is enough, or no time left.
    fn add(&mut self, directory: &Beneath, place: &CStr, depth: usize) -> nix::Result<ControlFlow<()>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let listed = unless_gone(Dir::openat(directory.as_fd(), c".", flags, Mode::empty()))?;
        let Some(mut listed) = listed else { return Ok(ControlFlow::Continue(())) };
        for entry in listed.iter() {
            if self.is_over() {
                return Ok(ControlFlow::Break(()));
            }
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Some(stat) = unless_gone(fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW))? else { continue };
            let is_directory = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
            #[allow(clippy::useless_conversion, reason = "on some architectures it is narrower")]
            let names = if is_directory { 1 } else { u64::from(stat.st_nlink).max(1) };
            let taken = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK);
            self.measured.bytes = self.measured.bytes.saturating_add(taken / names);
            self.measured.entries += 1;
            if !is_directory || stat.st_dev != self.device {
                continue;
            }
            if depth >= DEPTH {
                self.keep(join(place, name));
            } else if let Some(child) = unless_gone(directory.beneath(name))?
                && self.add(&child, &join(place, name), depth + 1)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Keeps a place for later, if there is room.
    fn keep(&mut self, place: CString) {
        let kept = self.kept + place.count_bytes();
        if kept > KEPT {
            self.measured.complete = false;
        } else {
            self.kept = kept;
            self.deep.push(place);
        }
    }

    /// Whether there is enough, or no time left. Pauses now and then.
    fn is_over(&mut self) -> bool {
        if self.measured.bytes > self.enough {
            return true;
        }
        if Instant::now() >= self.deadline {
            self.measured.late = true;
            return true;
        }
        if self.slice.elapsed() >= SLICE {
            thread::sleep(SLICE);
            self.slice = Instant::now();
        }
        false
    }
}

/// Returns `None` for what was deleted, or replaced by something else.
fn unless_gone<T>(result: nix::Result<T>) -> nix::Result<Option<T>> {
    match result {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        result => result.map(Some),
    }
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
        assert!(whole.complete && !whole.late && (1 << 20..2 << 20).contains(&whole.bytes), "{whole:?}");
        assert_eq!(whole.entries, 6);
        let enough = measure(&tree, 1000, soon()).unwrap();
        assert!(!enough.complete && !enough.late && enough.bytes > 1000, "{enough:?}");
        let late = measure(&tree, u64::MAX, Instant::now()).unwrap();
        assert!(!late.complete && late.late, "{late:?}");
        assert!(measure(&place.path().join("gone"), 0, soon()).is_err());
    }

    #[test]
    fn a_tree_deeper_than_there_are_descriptors_is_measured_and_its_places_take_bounded_memory() {
        let place = tempfile::tempdir().unwrap();
        let mut directory = Beneath::new(place.path()).unwrap();
        let long = CString::new("d".repeat(250)).unwrap();
        let descend = |directory: &Beneath, name: &CStr| {
            nix::sys::stat::mkdirat(directory, name, Mode::S_IRWXU).unwrap();
            directory.beneath(name).unwrap()
        };
        let soon = || Instant::now() + Duration::from_secs(60);
        for _ in 0..200 {
            directory = descend(&directory, c"d");
        }
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        let file = nix::fcntl::openat(&directory, c"file", flags, Mode::S_IRWXU).unwrap();
        io::Write::write_all(&mut fs::File::from(file), &vec![1; 1 << 20]).unwrap();
        let deep = measure(place.path(), u64::MAX, soon()).unwrap();
        assert!(deep.complete && deep.bytes >= 1 << 20, "{deep:?}");
        // Directories whose places do not fit.
        for _ in 0..KEPT / long.count_bytes() + DEPTH {
            directory = descend(&directory, &long);
        }
        let deeper = measure(place.path(), u64::MAX, soon()).unwrap();
        assert!(!deeper.complete && !deeper.late && deeper.bytes >= deep.bytes, "{deeper:?}");
    }
}

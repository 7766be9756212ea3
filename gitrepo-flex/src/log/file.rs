//! The log file, which several calls write to at once.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::fcntl::OFlag;

/// At this size, in bytes, the file becomes `<name>.1`, in place of the one before.
const FULL: u64 = 10 << 20;

/// An open log file.
pub(super) struct LogFile(File);

impl LogFile {
    /// Opens the file, or makes it, private to root; a full one is put aside first. `None` where that cannot be.
    pub(super) fn open(path: &Path) -> Option<Self> {
        Self::open_below(path, FULL)
    }

    fn open_below(path: &Path, full: u64) -> Option<Self> {
        let file = open(path).ok()?;
        match rotate(&file, path, full) {
            Ok(true) => open(path).ok().map(Self),
            Ok(false) | Err(_) => Some(Self(file)),
        }
    }

    /// Appends a line in one write, so that lines of several processes do not mix. What a full disk does not take is lost.
    pub(super) fn append(&self, line: &[u8]) {
        drop((&self.0).write(line));
    }
}

/// A link in the file's place would have root write elsewhere, and a pipe would have it wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Puts the file aside if it is full, and says whether it did, or somebody else meanwhile.
fn rotate(file: &File, path: &Path, full: u64) -> io::Result<bool> {
    if file.metadata()?.len() < full {
        return Ok(false);
    }
    file.lock()?;
    let moved = put_aside(file, path);
    file.unlock()?;
    moved.map(|()| true)
}

/// Renames the file, unless another process did so before us: then the name is another file's, or free.
fn put_aside(file: &File, path: &Path) -> io::Result<()> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => fs::rename(path, aside(path)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lines_are_appended_to_a_private_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        for line in ["one\n", "two\n"] {
            LogFile::open(&path).unwrap().append(line.as_bytes());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn neither_a_link_nor_a_pipe_is_written_to() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink(place.path().join("elsewhere"), &link).unwrap();
        assert!(LogFile::open(&link).is_none());
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(LogFile::open(&pipe).is_none());
        assert!(LogFile::open(&place.path().join("missing/log")).is_none());
    }

    #[test]
    fn a_full_file_is_put_aside_once_by_however_many() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        for round in ["first", "second"] {
            fs::write(&path, round.repeat(4)).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| LogFile::open_below(&path, 20).unwrap().append(b"."));
                }
            });
            assert_eq!(fs::read_to_string(&path).unwrap(), "........");
            assert_eq!(fs::read_to_string(aside(&path)).unwrap(), round.repeat(4));
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }
}

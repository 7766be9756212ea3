//! The log file. Several calls may write to it at once.

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

/// The size, in bytes, at which the file is renamed to `<name>.1`, replacing the previous one.
const FULL: u64 = 10 << 20;

/// An open log file.
pub(super) struct LogFile(File);

impl LogFile {
    /// Opens or creates the file, readable only by root. Rotates a full file first. Returns `None` on failure.
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

    /// Appends a line in one write, so that lines of several processes do not mix. If the disk is full, a part of the
    /// line may be lost.
    pub(super) fn append(&self, line: &[u8]) {
        drop((&self.0).write(line));
    }
}

/// Opens the file. Refuses links, through which root would write elsewhere, pipes, which would block, and files of
/// other users, who could read them: on some nodes other users can create files in the log directory.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)?;
    let found = file.metadata()?;
    let is_ours = found.is_file() && found.nlink() == 1 && found.uid() == nix::unistd::geteuid().as_raw();
    is_ours.then_some(file).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Rotates the file if it is full. Returns whether this process or another one has renamed it. Does not wait if the
/// file is locked: another process may be rotating it. Then this process continues to write to it.
fn rotate(file: &File, path: &Path, full: u64) -> io::Result<bool> {
    if file.metadata()?.len() < full || file.try_lock().is_err() {
        return Ok(false);
    }
    let moved = rename_full(file, path);
    file.unlock()?;
    moved.map(|()| true)
}

/// Renames the file, unless another process has already done that.
fn rename_full(file: &File, path: &Path) -> io::Result<()> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => fs::rename(path, rotated_name(path)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn rotated_name(path: &Path) -> PathBuf {
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
    fn links_pipes_and_files_of_other_users_are_not_written_to() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink(place.path().join("elsewhere"), &link).unwrap();
        assert!(LogFile::open(&link).is_none());
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(LogFile::open(&pipe).is_none());
        assert!(LogFile::open(&place.path().join("missing/log")).is_none());
        let [precious, name] = ["precious", "name"].map(|name| place.path().join(name));
        fs::write(&precious, "").unwrap();
        fs::hard_link(&precious, &name).unwrap();
        assert!(LogFile::open(&name).is_none());
        if nix::unistd::geteuid().is_root() {
            let theirs = place.path().join("theirs");
            fs::write(&theirs, "").unwrap();
            std::os::unix::fs::chown(&theirs, Some(12345), None).unwrap();
            assert!(LogFile::open(&theirs).is_none());
        }
    }

    #[test]
    fn concurrent_processes_rotate_a_full_file_once_and_lose_no_line() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        for round in ["first ", "second "] {
            fs::write(&path, round.repeat(4)).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| LogFile::open_below(&path, 20).unwrap().append(b"."));
                }
            });
            let (old, new) =
                (fs::read_to_string(rotated_name(&path)).unwrap(), fs::read_to_string(&path).unwrap_or_default());
            assert!(old.starts_with(&round.repeat(4)), "{old}");
            assert_eq!(format!("{old}{new}").matches('.').count(), 8, "{old} {new}");
        }
    }

    #[test]
    fn a_locked_file_does_not_delay_a_call() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        fs::write(&path, "full ").unwrap();
        let holder = File::open(&path).unwrap();
        holder.lock().unwrap();
        LogFile::open_below(&path, 1).unwrap().append(b"line\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "full line\n");
    }
}

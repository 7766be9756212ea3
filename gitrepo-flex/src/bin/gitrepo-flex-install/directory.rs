//! A directory whose files are replaced only by rename, and not written if they are already right.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::InstallError;

/// A directory that is locked against other installers while this value lives. The lock is a kernel lock on the
/// directory itself, and works across containers.
pub(crate) struct LockedDirectory {
    path: PathBuf,
    lock: File,
}

impl LockedDirectory {
    /// Creates the directory if missing, and waits for the lock.
    pub(crate) fn make(path: &Path) -> Result<Self, InstallError> {
        loop {
            match DirBuilder::new().mode(0o755).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(InstallError::io("make the directory", path)(error));
                }
                _ => {}
            }
            if let Some(locked) = Self::open(path)? {
                return Ok(locked);
            }
        }
    }

    /// Opens the directory, and waits for the lock. Returns `None` if there is no directory.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, InstallError> {
        let opened =
            OpenOptions::new().read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY).bits()).open(path);
        let lock = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if is(&error, Errno::ELOOP) || is(&error, Errno::ENOTDIR) => {
                return Err(InstallError::NotADirectory { path: path.to_owned() });
            }
            opened => opened.map_err(InstallError::io("open", path))?,
        };
        lock.lock().map_err(InstallError::io("lock", path))?;
        let locked = lock.metadata().map_err(InstallError::io("examine", path))?;
        // The previous holder of the lock may have removed the directory.
        let still = path.symlink_metadata().is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()));
        Ok(still.then(|| Self { path: path.to_owned(), lock }))
    }

    /// Gives a file this content and mode, whatever it was before. Returns whether that changed anything. A reader sees
    /// either the old file or the new one.
    pub(crate) fn put(&self, name: &str, mode: u32, content: &mut dyn Content) -> Result<bool, InstallError> {
        let path = self.path.join(name);
        if difference(&path, mode, content)?.is_none() {
            return Ok(false);
        }
        let unfinished = self.path.join(unfinished(name));
        // An installer that died left this file: the lock excludes running ones.
        self.remove(&self::unfinished(name))?;
        let written = write(&unfinished, mode, content)
            .and_then(|()| fs::rename(&unfinished, &path).map_err(InstallError::io("replace", &path)))
            .and_then(|()| self.sync());
        if written.is_err() {
            // Free the space: the disk may be full.
            fs::remove_file(&unfinished).ok();
        }
        written.map(|()| true)
    }

    /// Removes a file. Returns whether it existed.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, InstallError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(InstallError::io("remove", &path)),
        }
    }

    /// Returns the names of the directory's entries.
    pub(crate) fn names(&self) -> Result<Vec<String>, InstallError> {
        let read = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        };
        read().map_err(InstallError::io("list", &self.path))
    }

    /// Returns the directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn sync(&self) -> Result<(), InstallError> {
        self.lock.sync_all().map_err(InstallError::io("sync", &self.path))
    }
}

/// The content for a file. It may be read more than once.
pub(crate) trait Content {
    /// Returns a reader that begins at the start of the content.
    fn reader(&mut self) -> io::Result<Box<dyn Read + '_>>;
}

impl Content for &[u8] {
    fn reader(&mut self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(&**self))
    }
}

/// Returns the name that a file has until it is complete. The kubelet ignores names with a leading dot.
pub(crate) fn unfinished(name: &str) -> String {
    let dot = if name.starts_with('.') { "" } else { "." };
    format!("{dot}{name}.new")
}

/// Returns how a file differs from this content and mode, if it does.
pub(crate) fn difference(
    path: &Path,
    mode: u32,
    content: &mut dyn Content,
) -> Result<Option<&'static str>, InstallError> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("does not exist")),
        Err(error) if is(&error, Errno::ELOOP) => return Ok(Some("is a link")),
        opened => opened.map_err(InstallError::io("open", path))?,
    };
    let found = file.metadata().map_err(InstallError::io("examine", path))?;
    if !found.is_file() {
        return Ok(Some("is not a file"));
    }
    if found.permissions().mode() & 0o7777 != mode {
        return Ok(Some("has the wrong permissions"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(Some("belongs to another user"));
    }
    let equal = content.reader().and_then(|reader| same_bytes(BufReader::new(file), BufReader::new(reader)));
    Ok((!equal.map_err(InstallError::io("compare", path))?).then_some("has the wrong content"))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn same_bytes(mut one: impl io::BufRead, mut other: impl io::BufRead) -> io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Writes a new file, and closes it, since the kernel does not execute a file that is open for writing.
fn write(path: &Path, mode: u32, content: &mut dyn Content) -> Result<(), InstallError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(InstallError::io("create", path))?;
    let copied = content.reader().and_then(|mut reader| io::copy(&mut reader, &mut file));
    copied
        // Set the mode again: the umask applied at creation.
        .and_then(|_| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(InstallError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_independently_of_their_blocks() {
        let equal = |one: &[u8], other: &[u8]| {
            same_bytes(BufReader::with_capacity(2, one), BufReader::with_capacity(3, other)).unwrap()
        };
        assert!(equal(b"", b"") && equal(b"abcdefg", b"abcdefg"));
        assert!(!equal(b"abcdefg", b"abcdef") && !equal(b"", b"a") && !equal(b"abc", b"abd"));
    }

    #[test]
    fn unfinished_files_are_hidden_from_the_kubelet() {
        assert_eq!(unfinished("gitrepo"), ".gitrepo.new");
        assert_eq!(unfinished(".config.json"), ".config.json.new");
    }
}

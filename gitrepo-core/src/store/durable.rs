//! Changes that survive a crash: write, fsync, rename, fsync of the parent.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::error::optional;
use crate::digest::hex;
use crate::digest::is_hex;
use crate::sys;

/// The extension of a file until it is complete: `<name>.<random>.new`, locked by its writer.
pub(crate) const UNFINISHED: &str = "new";

/// Most files and directories that are synced one by one: a repository and a snapshot in the image format have about ten.
const MOST_SYNCED: usize = 64;

/// Whether a change is on disk when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The change survives a power failure.
    Durable,
    /// The change is atomic for every process, but a power failure may lose it.
    Volatile,
}

/// Who may read a file, if they can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only its owner.
    Owner,
    /// Also a worker, which sees only its repository in the store.
    Everyone,
}

/// Replaces the content of a private file; a reader sees the old or the new content, never a part.
pub(crate) fn replace(path: &Path, content: &[u8], durability: Durability) -> Result<(), StoreError> {
    replace_for(Readers::Owner, path, content, durability)
}

/// Like [`replace`], for a file that others read too.
pub(crate) fn replace_for(
    readers: Readers,
    path: &Path,
    content: &[u8],
    durability: Durability,
) -> Result<(), StoreError> {
    let sync = |file: &File| if durability == Durability::Durable { file.sync_all() } else { Ok(()) };
    write_and_rename(readers, path, content, sync)?;
    match durability {
        Durability::Durable => sync_parent(path),
        Durability::Volatile => Ok(()),
    }
}

/// Creates a private file that does not exist, durably; no process ever sees a part. After a power failure during this
/// call, the file may be there with a part of the content: it is for readers that discard such a file.
///
/// Unlike [`replace`], which must not lose the old content, this needs a single commit of a journaling filesystem: the
/// content and the name reach the disk together.
pub(crate) fn create(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let file = write_and_rename(Readers::Owner, path, content, |_| Ok(()))?;
    file.sync_all().map_err(StoreError::io("sync", path))?;
    sync_parent(path)
}

/// Writes a file beside `path`, makes it as durable as `sync` does, and renames it to `path`.
fn write_and_rename(
    readers: Readers,
    path: &Path,
    content: &[u8],
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> Result<File, StoreError> {
    let (temporary, mut file) = create_unfinished(path)?;
    let permissions = match readers {
        Readers::Owner => Ok(()),
        // Set explicitly, because the mode given at creation is subject to the umask.
        Readers::Everyone => file.set_permissions(fs::Permissions::from_mode(0o644)),
    };
    let written = permissions
        .and_then(|()| file.write_all(content))
        .and_then(|()| sync(&file))
        .map_err(StoreError::io("write", path))
        .and_then(|()| fs::rename(&temporary, path).map_err(StoreError::io("replace", path)));
    if let Err(error) = written {
        // Frees the space on a full disk. If this fails too, a sweep retries it.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    Ok(file)
}

/// Creates a file beside `path`. Its lock tells a sweep that the writer is alive.
fn create_unfinished(path: &Path) -> Result<(PathBuf, File), StoreError> {
    loop {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.{UNFINISHED}", random_name()?));
        let temporary = PathBuf::from(temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(StoreError::io("create", &temporary))?;
        match file.try_lock() {
            // The name is random, so it can only be this file.
            Ok(()) if temporary.symlink_metadata().is_ok() => return Ok((temporary, file)),
            // A sweep locked the file first, and removes it or already has.
            Ok(()) | Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(source)) => {
                return Err(StoreError::Io { action: "lock", path: temporary, source });
            }
        }
    }
}

/// Renames a file or tree out of staging, durably. Never replaces a directory that is not empty.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(StoreError::io("rename to", to))?;
    sync_parent(to)
}

/// Creates a private directory and its parents below `base`, and returns whether one was missing. They become durable
/// with [`sync_ancestors`], which is cheapest after their content is written.
pub(crate) fn create_directories(base: &Path, path: &Path) -> Result<bool, StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path != base => {
            let parent = path.parent().unwrap_or(base);
            create_directories(base, parent)?;
            create_directories(parent, path)
        }
        Err(source) => Err(StoreError::Io { action: "create", path: path.to_path_buf(), source }),
    }
}

/// Makes the directory entries from `base` to `path` durable.
pub(crate) fn sync_ancestors(base: &Path, path: &Path) -> Result<(), StoreError> {
    path.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(base)).try_for_each(sync_directory)
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync", path))
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes everything written to the filesystem of `path` durable: one call instead of an fsync per file.
pub(crate) fn sync_filesystem(path: &Path) -> Result<(), StoreError> {
    let directory = File::open(path).map_err(StoreError::io("open", path))?;
    nix::unistd::syncfs(&directory).map_err(StoreError::io("sync the filesystem of", path))
}

/// Makes directories of one filesystem with all that is in them durable. A few files are synced one by one, so that
/// whatever else is written to the same filesystem need not reach the disk first; many files by one call.
pub(crate) fn sync_trees(directories: &[impl AsRef<Path>]) -> Result<(), StoreError> {
    let mut few = Some(Vec::new());
    for directory in directories {
        collect(directory.as_ref(), &mut few)?;
        if few.is_none() {
            return sync_filesystem(directory.as_ref());
        }
    }
    sync_files(&few.unwrap_or_default())
}

/// Makes open files durable. Their paths are for messages.
pub(crate) fn sync_files(files: &[(PathBuf, File)]) -> Result<(), StoreError> {
    // All of them are on their way before the first one is waited for, and one commit of the journal serves all.
    files.iter().for_each(|(_, file)| sys::writeback::begin(file, 0, 0));
    files.iter().try_for_each(|(path, file)| file.sync_all().map_err(StoreError::io("sync", path)))
}

/// Opens all files and directories of a tree, unless there are too many. What is neither is passed over.
fn collect(directory: &Path, few: &mut Option<Vec<(PathBuf, File)>>) -> Result<(), StoreError> {
    for path in entries(directory)? {
        let kind = path.symlink_metadata().map_err(StoreError::io("examine", &path))?.file_type();
        if kind.is_dir() {
            collect(&path, few)?;
        } else if kind.is_file() {
            add(path, few)?;
        }
        if few.is_none() {
            return Ok(());
        }
    }
    add(directory.to_owned(), few)
}

fn add(path: PathBuf, few: &mut Option<Vec<(PathBuf, File)>>) -> Result<(), StoreError> {
    let Some(files) = few else { return Ok(()) };
    if files.len() == MOST_SYNCED {
        *few = None;
        return Ok(());
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
    let file = opened.map_err(StoreError::io("open", &path))?;
    files.push((path, file));
    Ok(())
}

/// Replaces the content of a private file by this value as JSON.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize, durability: Durability) -> Result<(), StoreError> {
    let json = serde_json::to_vec(value).map_err(|error| StoreError::corrupt(path, error))?;
    replace(path, &json, durability)
}

/// Reads a JSON file of at most `limit` bytes; `None` if there is no file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, StoreError> {
    let Some(json) = optional(read(path, limit))? else { return Ok(None) };
    serde_json::from_slice(&json).map(Some).map_err(|error| StoreError::corrupt(path, error))
}

/// Lists the paths in a directory.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    list().map_err(StoreError::io("list", directory))
}

/// Opens a private file that is written in place, and creates it if missing.
pub(crate) fn open_in_place(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Reads a file of at most `limit` bytes. A larger or non-regular file counts as damaged.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, StoreError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => return Err(irregular(path)),
        result => result.map_err(StoreError::io("open", path))?,
    };
    let metadata = file.metadata().map_err(StoreError::io("examine", path))?;
    if !metadata.is_file() {
        return Err(irregular(path));
    }
    // One byte more than there is: then one read finds the end.
    let mut content = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or_default() + 1);
    let read = file.take(limit + 1).read_to_end(&mut content).map_err(StoreError::io("read", path))?;
    if read as u64 > limit {
        return Err(StoreError::corrupt(path, format_args!("it is larger than {limit} bytes")));
    }
    Ok(content)
}

fn irregular(path: &Path) -> StoreError {
    StoreError::corrupt(path, "it is not a regular file")
}

/// Returns unpredictable bytes.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::io("take randomness from", Path::new("the kernel"))(io::Error::other(error)))?;
    Ok(bytes)
}

/// Returns a unique name.
pub(crate) fn random_name() -> Result<String, StoreError> {
    Ok(hex(&random_bytes::<16>()?))
}

/// Whether [`random_name`] could have made this.
pub(crate) fn is_random_name(text: &str) -> bool {
    is_hex(text, 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::fixture::on_small_filesystem;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_no_other_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        for (content, durability) in [("one", Durability::Durable), ("two", Durability::Volatile)] {
            replace(&path, content.as_bytes(), durability).unwrap();
            assert_eq!(read(&path, 3).unwrap(), content.as_bytes());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        assert_eq!(read(&path, 2).unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn a_tree_of_few_files_or_many_is_synced() {
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("inner");
        fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("missing", inner.join("link")).unwrap();
        nix::unistd::mkfifo(&inner.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut few = Some(Vec::new());
        collect(place.path(), &mut few).unwrap();
        assert_eq!(
            few.unwrap().iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(),
            [inner.clone(), place.path().to_owned()]
        );
        sync_trees(&[place.path()]).unwrap();
        for number in 0..MOST_SYNCED {
            fs::write(inner.join(number.to_string()), "content").unwrap();
        }
        let mut many = Some(Vec::new());
        collect(place.path(), &mut many).unwrap();
        assert!(many.is_none());
        sync_trees(&[place.path()]).unwrap();
        assert_eq!(sync_trees(&[place.path().join("missing")]).unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn neither_links_nor_pipes_nor_directories_are_read() {
        let place = tempfile::tempdir().unwrap();
        let [link, pipe] = ["link", "pipe"].map(|name| place.path().join(name));
        std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [link.as_path(), &pipe, place.path()] {
            assert_eq!(read(path, 64).unwrap_err().kind(), Kind::Corrupt, "{path:?}");
        }
    }

    #[test]
    fn r3_on_a_full_disk_the_old_content_stays_and_the_space_comes_back() {
        on_small_filesystem("size=64k", |place| {
            let path = place.join("file");
            replace(&path, b"old", Durability::Durable).unwrap();
            let error = replace(&path, &[0; 128 * 1024], Durability::Durable).unwrap_err();
            assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");
            assert_eq!(read(&path, 64).unwrap(), b"old");
            assert_eq!(fs::read_dir(place).unwrap().count(), 1);
        });
    }
}

//! The directories of a store, its version, and who may see it.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::Locks;
use super::trash::Trash;

/// The layout that this program writes.
const VERSION: u64 = 1;

const VERSION_FILE: &str = "VERSION";

const DIRECTORIES: [&str; 7] = ["repositories", "snapshots", "volumes", "staging", "locks", "access", "trash"];

/// Where everything of a store is.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) locks: Locks,
    pub(crate) trash: Trash,
}

impl Layout {
    /// Opens the store at `root`, making it if nothing is there. Several processes may do so at once.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let directory = open_root(root)?;
        check_owner(root, &directory)?;
        let root = fs::canonicalize(root).map_err(StoreError::io("resolve", root))?;
        let version = read_version(&root)?;
        if version.is_none() {
            check_unused(&root)?;
        }
        make_private(&root, &directory)?;
        let mut incomplete = false;
        for name in DIRECTORIES {
            incomplete |= durable::create_directories(&root, &root.join(name))?;
        }
        if incomplete {
            durable::sync_directory(&root)?;
        }
        if version.is_none() {
            // Last, so that a store with a version is complete; and the same from whoever makes the store with us.
            durable::replace(&root.join(VERSION_FILE), format!("{VERSION}\n").as_bytes(), Durability::Durable)?;
        }
        Ok(Self { locks: Locks::new(root.join("locks")), trash: Trash::new(root.join("trash")), root })
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn access(&self) -> PathBuf {
        self.root.join("access")
    }
}

fn open_root(root: &Path) -> Result<File, StoreError> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(StoreError::Io { action: "create", path: root.to_path_buf(), source }),
    }
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(root);
    match opened {
        // With both flags a link is ENOTDIR, as a file is.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
            Err(unsuitable(root, "it is a symbolic link or no directory".to_owned()))
        }
        result => result.map_err(StoreError::io("open", root)),
    }
}

/// Whoever can write to the root could put their own tree in the place of a snapshot.
fn check_owner(root: &Path, directory: &File) -> Result<(), StoreError> {
    let metadata = directory.metadata().map_err(StoreError::io("examine", root))?;
    let us = nix::unistd::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(unsuitable(
            root,
            format!("it belongs to uid {}, and this process runs as uid {us}", metadata.uid()),
        ));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(unsuitable(root, format!("others may write to it (mode {:o})", metadata.mode() & 0o7777)));
    }
    Ok(())
}

/// Without a version, the directory must hold nothing but what a store that is being made has, or a fresh filesystem:
/// nobody's home directory becomes a store by a slip of the hand.
fn check_unused(root: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(root).map_err(StoreError::io("list", root))? {
        let name = entry.map_err(StoreError::io("list", root))?.file_name();
        let name = name.to_string_lossy();
        let ours = DIRECTORIES.contains(&&*name) || name.starts_with(VERSION_FILE) || name == "lost+found";
        if !ours {
            return Err(unsuitable(root, format!("it is no store and not empty: it has {name:?}")));
        }
    }
    Ok(())
}

fn make_private(root: &Path, directory: &File) -> Result<(), StoreError> {
    let metadata = directory.metadata().map_err(StoreError::io("examine", root))?;
    if metadata.mode() & 0o7777 == 0o700 {
        return Ok(());
    }
    directory.set_permissions(fs::Permissions::from_mode(0o700)).map_err(StoreError::io("change the mode of", root))
}

fn read_version(root: &Path) -> Result<Option<u64>, StoreError> {
    let path = root.join(VERSION_FILE);
    let Some(content) = optional(durable::read(&path, 64))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&content);
    match text.trim().parse::<u64>() {
        Ok(VERSION) => Ok(Some(VERSION)),
        Ok(found) if found > VERSION => Err(StoreError::Newer { path, found, supported: VERSION }),
        _ => Err(StoreError::corrupt(&path, format_args!("{text:?} is no version of a store"))),
    }
}

fn unsuitable(root: &Path, reason: String) -> StoreError {
    StoreError::UnsuitableRoot { path: root.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::Kind;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn s16_a_store_is_private_and_opens_again() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("deep/store");
        for _ in 0..2 {
            Layout::open(&root).unwrap();
        }
        assert_eq!(mode(&root), 0o700);
        for name in DIRECTORIES {
            assert_eq!(mode(&root.join(name)), 0o700, "{name}");
        }
        assert_eq!(fs::read_to_string(root.join(VERSION_FILE)).unwrap(), "1\n");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        Layout::open(&root).unwrap();
        assert_eq!(mode(&root), 0o700);
    }

    #[test]
    fn many_processes_make_one_store() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Layout::open(&root).unwrap());
            }
        });
        assert_eq!(fs::read_dir(&root).unwrap().count(), DIRECTORIES.len() + 1);
    }

    #[test]
    fn r1_a_store_that_was_made_halfway_is_completed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        fs::create_dir_all(root.join("snapshots")).unwrap();
        fs::create_dir(root.join("lost+found")).unwrap();
        fs::write(root.join("VERSION.00.new"), "").unwrap();
        Layout::open(&root).unwrap();
        assert!(DIRECTORIES.iter().all(|name| root.join(name).is_dir()));
    }

    #[test]
    fn a_newer_version_is_refused_and_a_torn_one_is_said_to_be_damaged() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        Layout::open(&root).unwrap();
        fs::write(root.join(VERSION_FILE), "2\n").unwrap();
        assert!(matches!(Layout::open(&root), Err(StoreError::Newer { found: 2, supported: 1, .. })));
        for torn in ["", "1x", "-1", "0"] {
            fs::write(root.join(VERSION_FILE), torn).unwrap();
            assert_eq!(Layout::open(&root).unwrap_err().kind(), Kind::Corrupt, "{torn:?}");
        }
    }

    #[test]
    fn s16_a_root_that_others_can_change_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        fs::create_dir(&root).unwrap();
        let link = place.path().join("link");
        symlink(&root, &link).unwrap();
        assert!(matches!(Layout::open(&link), Err(StoreError::UnsuitableRoot { .. })));
        fs::set_permissions(&root, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(Layout::open(&root), Err(StoreError::UnsuitableRoot { .. })));
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&root, Some(12345), None).unwrap();
            assert!(matches!(Layout::open(&root), Err(StoreError::UnsuitableRoot { .. })));
        }
    }

    #[test]
    fn a_directory_in_use_does_not_become_a_store_by_mistake() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("letter.txt"), "").unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = Layout::open(home.path()).unwrap_err();
        assert!(error.to_string().contains("letter.txt"), "{error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert_eq!(mode(home.path()), 0o755);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}

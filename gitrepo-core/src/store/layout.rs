//! The directories of a store, its version, and its permissions.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::Locks;
use super::presence::Identity;
use super::root::Missing;
use super::root::Root;
use super::root::unsuitable;
use super::trash::Trash;

/// The layout version that this program writes.
const VERSION: u64 = 1;

const VERSION_FILE: &str = "VERSION";

/// Directories of every store.
const DIRECTORIES: [&str; 8] =
    ["repositories", "snapshots", "volumes", "staging", "locks", "trash", "refusals", "spare"];

/// The directory of the node's proofs of access, in the main store only.
const ACCESS: &str = "access";

/// The role of a store on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreRole {
    /// Keeps the proofs of access.
    Main,
    /// Relies on the main store for them.
    Further,
}

impl StoreRole {
    fn directories(self) -> impl Iterator<Item = &'static str> {
        DIRECTORIES.into_iter().chain((self == Self::Main).then_some(ACCESS))
    }
}

/// The paths of everything in a store.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(super) identity: Identity,
    pub(crate) locks: Locks,
    pub(crate) trash: Trash,
}

impl Layout {
    /// Opens the main store at `root`, creating it if missing. Several processes may do so at once.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_in(Root::open(root)?, StoreRole::Main)
    }

    /// Opens the further store in `directory`; `None` if it is missing and not to be created.
    pub(super) fn open_further(directory: &Path, missing: Missing) -> Result<Option<Self>, StoreError> {
        Root::open_further(directory, missing)?.map(|root| Self::open_in(root, StoreRole::Further)).transpose()
    }

    fn open_in(directory: Root, role: StoreRole) -> Result<Self, StoreError> {
        let version = read_version(&directory.path)?;
        if version.is_none() {
            check_unused(&directory.path)?;
        }
        directory.make_private()?;
        let root = directory.path;
        let mut incomplete = false;
        for name in role.directories() {
            incomplete |= durable::create_directories(&root, &root.join(name))?;
        }
        if incomplete {
            durable::sync_directory(&root)?;
        }
        if version.is_none() {
            // Written last, so that a store with a version is complete. Concurrent creators write the same content.
            durable::replace(&root.join(VERSION_FILE), format!("{VERSION}\n").as_bytes(), Durability::Durable)?;
        }
        let identity = Identity::of(&root).map_err(StoreError::io("examine", &root))?;
        Ok(Self { locks: Locks::new(root.join("locks")), trash: Trash::new(root.join("trash")), identity, root })
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
        self.root.join(ACCESS)
    }
}

/// Checks that a directory without a version contains only parts of an unfinished store or of a fresh filesystem: a
/// typo must not turn a home directory into a store.
fn check_unused(root: &Path) -> Result<(), StoreError> {
    for path in durable::entries(root)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = StoreRole::Main.directories().any(|directory| directory == name)
            || name.starts_with(VERSION_FILE)
            || name == "lost+found";
        if !ours {
            return Err(unsuitable(root, format!("it is neither a store nor empty: it contains {name:?}")));
        }
    }
    Ok(())
}

/// Whether there is a store at `root`, of any version.
pub(super) fn has_version(root: &Path) -> Result<bool, StoreError> {
    let path = root.join(VERSION_FILE);
    match optional(fs::symlink_metadata(&path).map_err(StoreError::io("examine", &path))) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        result => result.map(|found| found.is_some()),
    }
}

fn read_version(root: &Path) -> Result<Option<u64>, StoreError> {
    let path = root.join(VERSION_FILE);
    let Some(content) = optional(durable::read(&path, 64))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&content);
    match text.trim().parse::<u64>() {
        Ok(VERSION) => Ok(Some(VERSION)),
        Ok(found) if found > VERSION => Err(StoreError::Newer { path, found, supported: VERSION }),
        _ => Err(StoreError::corrupt(&path, format_args!("{text:?} is not the version of a store"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;
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
        for name in StoreRole::Main.directories() {
            assert_eq!(mode(&root.join(name)), 0o700, "{name}");
        }
        assert_eq!(fs::read_to_string(root.join(VERSION_FILE)).unwrap(), "1\n");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        Layout::open(&root).unwrap();
        assert_eq!(mode(&root), 0o700);
    }

    #[test]
    fn many_processes_create_one_store() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Layout::open(&root).unwrap());
            }
        });
        assert_eq!(fs::read_dir(&root).unwrap().count(), DIRECTORIES.len() + 2);
    }

    #[test]
    fn r1_a_store_that_was_created_halfway_is_completed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        fs::create_dir_all(root.join("snapshots")).unwrap();
        fs::create_dir(root.join("lost+found")).unwrap();
        fs::write(root.join("VERSION.00.new"), "").unwrap();
        Layout::open(&root).unwrap();
        assert!(StoreRole::Main.directories().all(|name| root.join(name).is_dir()));
    }

    #[test]
    fn a_newer_version_is_refused_and_a_torn_one_is_reported_as_damaged() {
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
        fs::set_permissions(&root, Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(Layout::open(&root), Err(StoreError::UnsuitableRoot { .. })));
        fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&root, Some(12345), None).unwrap();
            assert!(matches!(Layout::open(&root), Err(StoreError::UnsuitableRoot { .. })));
        }
    }

    #[test]
    fn a_directory_in_use_does_not_become_a_store_by_mistake() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("letter.txt"), "").unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let error = Layout::open(home.path()).unwrap_err();
        assert!(error.to_string().contains("letter.txt"), "{error}");
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert_eq!(mode(home.path()), 0o755);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}

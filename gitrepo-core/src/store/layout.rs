//! The directories of a store, its version, and its permissions.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::fcntl::open;
use nix::sys::stat::Mode;
use nix::sys::stat::mkdirat;

use crate::error::chain;

use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::lock::Locks;
use super::presence;
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
    role: StoreRole,
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
        let version = Version::read(&directory.path)?;
        let is_known = matches!(version, Version::Ours) || is_recognised(&directory.path, role)?;
        match version {
            Version::Unreadable(error) if !is_known => return Err(error),
            _ if !is_known => check_unused(&directory.path)?,
            _ => {}
        }
        directory.make_private()?;
        let root = directory.path;
        let identity = Identity::of(&root).map_err(StoreError::io("examine", &root))?;
        let (locks, trash) = (Locks::new(root.join("locks")), Trash::new(root.join("trash")));
        let layout = Self { root, identity, role, locks, trash };
        layout.complete()?;
        match version {
            Version::Ours => {}
            _ if !is_known => layout.write_version()?,
            Version::Missing => layout.rebuild_version(None),
            Version::Damaged(error) => layout.rebuild_version(Some(&error)),
            Version::Unreadable(error) => {
                let (store, error) = (layout.root.display(), chain(&error));
                tracing::warn!(%store, error, "the file VERSION of the store cannot be read; it is used as it is");
            }
        }
        Ok(layout)
    }

    /// Makes the directories that are missing.
    pub(super) fn complete(&self) -> Result<(), StoreError> {
        // By descriptor: if the filesystem is unmounted meanwhile, nothing is made on its bare mount point.
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = open(&self.root, flags, Mode::empty()).map_err(StoreError::io("open", &self.root))?;
        let root = File::from(opened);
        let found = root.metadata().map_err(StoreError::io("examine", &self.root))?;
        if Identity::of_found(&found) != self.identity {
            return Err(presence::missing(&self.root, presence::REPLACED));
        }
        let mut incomplete = false;
        for name in self.role.directories() {
            match mkdirat(&root, name, Mode::S_IRWXU) {
                Ok(()) => incomplete = true,
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(StoreError::io("create", &self.root.join(name))(errno)),
            }
        }
        if incomplete { root.sync_all().map_err(StoreError::io("sync", &self.root)) } else { Ok(()) }
    }

    /// Comes last in a new store, so that one with a version is complete. Concurrent creators write the same.
    fn write_version(&self) -> Result<(), StoreError> {
        let path = self.root.join(VERSION_FILE);
        // A directory cannot be replaced by a file.
        if path.is_dir() {
            self.trash.take(&path)?;
        }
        durable::replace(&path, format!("{VERSION}\n").as_bytes(), Durability::Durable)
    }

    /// Writes the version of a store that is known by its directories. It can be used without that file, too.
    fn rebuild_version(&self, damage: Option<&StoreError>) {
        let store = self.root.display();
        match (self.write_version(), damage.map(|damage| chain(damage))) {
            (Ok(()), Some(damage)) => {
                tracing::warn!(%store, damage, "the file VERSION of the store was damaged, and is made anew");
            }
            // Another process may be creating the store at this moment.
            (Ok(()), None) => tracing::info!(%store, "the store had no file VERSION, and has one now"),
            (Err(error), damage) => {
                let error = chain(&error);
                tracing::warn!(%store, damage, error, "the file VERSION of the store cannot be written");
            }
        }
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

/// Whether all directories of this layout are there. Then it is a store of this version, whatever its file VERSION says.
fn is_recognised(root: &Path, role: StoreRole) -> Result<bool, StoreError> {
    for name in role.directories() {
        let path = root.join(name);
        match optional(fs::symlink_metadata(&path).map_err(StoreError::io("examine", &path)))? {
            Some(found) if found.is_dir() => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether there is a store at `root`, of any version.
pub(super) fn is_there(root: &Path) -> Result<bool, StoreError> {
    let path = root.join(VERSION_FILE);
    match optional(fs::symlink_metadata(&path).map_err(StoreError::io("examine", &path))) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        Ok(None) => is_recognised(root, StoreRole::Further),
        result => result.map(|found| found.is_some()),
    }
}

/// What the file with the version says.
enum Version {
    /// The version that this program writes.
    Ours,
    /// There is no such file.
    Missing,
    /// There is something else.
    Damaged(StoreError),
    /// It cannot be read, so it may be that of a newer store.
    Unreadable(StoreError),
}

impl Version {
    /// Only a plain number that is newer is believed: then a newer program made the store, and everything in it may have
    /// another meaning.
    fn read(root: &Path) -> Result<Self, StoreError> {
        let path = root.join(VERSION_FILE);
        let content = match durable::read(&path, 64) {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return Ok(Self::Missing),
            Err(error @ StoreError::Corrupt { .. }) => return Ok(Self::Damaged(error)),
            Err(error) if error.is_shortage() => return Err(error),
            Err(error) => return Ok(Self::Unreadable(error)),
        };
        let text = String::from_utf8_lossy(&content);
        let number = text.strip_suffix('\n').unwrap_or(&text);
        match number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>()) {
            Some(Ok(VERSION)) => Ok(Self::Ours),
            Some(Ok(found)) if found > VERSION => Err(StoreError::Newer { path, found, supported: VERSION }),
            _ => {
                let reason = format_args!("{text:?} is not the version of a store");
                Ok(Self::Damaged(StoreError::corrupt(&path, reason)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    use nix::mount::MntFlags;
    use nix::mount::MsFlags;
    use nix::mount::mount;
    use nix::mount::umount2;

    use super::*;
    use crate::error::Kind;
    use crate::store::fixture::on_small_filesystem;

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
    fn only_a_newer_version_is_refused_and_a_damaged_one_is_made_anew() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        Layout::open(&root).unwrap();
        let (file, kept) = (root.join(VERSION_FILE), root.join("snapshots/kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(root.join("probe"), "").unwrap();
        for newer in ["2", "2\n", "18446744073709551615\n"] {
            fs::write(&file, newer).unwrap();
            assert!(
                matches!(Layout::open(&root), Err(StoreError::Newer { found: 2.., supported: 1, .. })),
                "{newer:?}"
            );
        }
        let garbage = [&b"1x"[..], b"-1", b"0", b"+2", b" 2", b"2\n\n", b"\0\0", b"\xff\xfe", &[b'9'; 1000], b""];
        for content in garbage {
            fs::write(&file, content).unwrap();
            Layout::open(&root).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "1\n", "{content:?}");
        }
        for damage in [
            |file: &Path| fs::remove_file(file).unwrap(),
            |file: &Path| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
                fs::write(file.join("entry"), "").unwrap();
            },
            |file: &Path| {
                fs::remove_file(file).unwrap();
                symlink("nowhere", file).unwrap();
            },
        ] {
            damage(&file);
            assert!(is_there(&root).unwrap());
            Layout::open(&root).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
        }
        assert!(kept.exists());
    }

    #[test]
    fn a_version_that_cannot_be_read_is_not_overwritten() {
        on_small_filesystem("size=1m", |place| {
            let root = place.join("store");
            Layout::open(&root).unwrap();
            let file = root.join(VERSION_FILE);
            fs::write(&file, "2\n").unwrap();
            // A regular file whose first page cannot be read: EIO.
            let none = None::<&str>;
            mount(Some("/proc/self/mem"), &file, none, MsFlags::MS_BIND, none).unwrap();
            assert!(matches!(Version::read(&root), Ok(Version::Unreadable(_))));
            Layout::open(&root).expect("it is known by its directories");
            fs::remove_dir(root.join("volumes")).unwrap();
            assert_eq!(Layout::open(&root).unwrap_err().kind(), Kind::Unavailable);
            umount2(&file, MntFlags::MNT_DETACH).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "2\n");
            assert!(matches!(Layout::open(&root), Err(StoreError::Newer { .. })));
        });
    }

    #[test]
    fn a_directory_with_a_damaged_version_and_other_content_is_no_store() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("store");
        Layout::open(&root).unwrap();
        fs::write(root.join(VERSION_FILE), "").unwrap();
        fs::remove_dir(root.join("volumes")).unwrap();
        fs::write(root.join("letter.txt"), "").unwrap();
        assert!(matches!(Layout::open(&root), Err(StoreError::UnsuitableRoot { .. })));
        fs::remove_file(root.join("letter.txt")).unwrap();
        Layout::open(&root).unwrap();
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

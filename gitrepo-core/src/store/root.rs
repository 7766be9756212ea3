//! The directory of a store. It is created if missing, and trusted only if nobody else can change its content.

use std::ffi::OsStr;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::fcntl::OFlag;
use nix::fcntl::openat;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::fstatat;
use nix::sys::stat::mkdirat;

use super::error::StoreError;

/// Subdirectory of a further store in its configured directory. Other content stays: on nodes that come from another
/// driver, the same directories contain its clones.
pub(crate) const FURTHER_STORE: &str = ".gitrepo";

/// What to do about a missing directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Leave,
}

/// A directory that nobody else can write to.
#[derive(Debug)]
pub(super) struct Root {
    /// Absolute and without links.
    pub(super) path: PathBuf,
    directory: File,
}

impl Root {
    /// Opens the main store's root. An administrator or user chose the path, so its parents are not checked.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::Io { action: "create", path: path.to_path_buf(), source }),
        }
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
        let directory = match opened {
            // With both flags, a link gives ENOTDIR, like a file.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                return Err(unsuitable(path, "it is a symbolic link or not a directory".to_owned()));
            }
            result => result.map_err(StoreError::io("open", path))?,
        };
        check(&directory, path, path, PathRole::Store)?;
        let path = fs::canonicalize(path).map_err(StoreError::io("resolve", path))?;
        Ok(Self { path, directory })
    }

    /// Opens a further store's root: [`FURTHER_STORE`] in a directory that a volume may select. Each path component is
    /// opened relative to its parent and checked, so that only root can redirect us, now or later. It must not be a
    /// link, and must be owned by root and writable by root alone. Above the configured directory a sticky bit also
    /// suffices: then nobody else can rename or delete root's entries. `None` if the root is missing and not to be
    /// created.
    pub(super) fn open_further(directory: &Path, missing: Missing) -> Result<Option<Self>, StoreError> {
        let names = names(directory)
            .ok_or_else(|| unsuitable(directory, "it is not an absolute path without `..`".to_owned()))?;
        let roles = std::iter::repeat_n(PathRole::Parent, names.len().saturating_sub(1))
            .chain((!names.is_empty()).then_some(PathRole::Configured))
            .chain([PathRole::Store]);
        let mut path = PathBuf::from("/");
        let mut opened = File::open(&path).map_err(StoreError::io("open", &path))?;
        check(&opened, &path, directory, PathRole::Parent)?;
        for (name, role) in names.into_iter().chain([OsStr::new(FURTHER_STORE)]).zip(roles) {
            path.push(name);
            let step = PathStep { parent: &opened, name, path: &path, root: directory, role };
            opened = match (step.open()?, missing) {
                (Some(next), _) => next,
                (None, Missing::Make) => step.make()?,
                (None, Missing::Leave) => return Ok(None),
            };
            check(&opened, &path, directory, role)?;
        }
        Ok(Some(Self { path, directory: opened }))
    }

    /// Keeps everybody else from reading the directory, too.
    pub(super) fn make_private(&self) -> Result<(), StoreError> {
        let metadata = self.directory.metadata().map_err(StoreError::io("examine", &self.path))?;
        if metadata.mode() & 0o7777 == 0o700 {
            return Ok(());
        }
        set_mode(&self.directory, &self.path, 0o700)
    }
}

/// The role of a directory on the path to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathRole {
    /// Above the configured directory.
    Parent,
    /// The configured directory.
    Configured,
    /// The store's own directory.
    Store,
}

impl PathRole {
    fn mode(self) -> u32 {
        match self {
            Self::Parent => 0o755,
            Self::Configured | Self::Store => 0o700,
        }
    }
}

/// One component of a path, in a checked parent.
struct PathStep<'a> {
    parent: &'a File,
    name: &'a OsStr,
    path: &'a Path,
    root: &'a Path,
    role: PathRole,
}

impl PathStep<'_> {
    fn open(&self) -> Result<Option<File>, StoreError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        match openat(self.parent, self.name, flags, Mode::empty()) {
            Ok(directory) => Ok(Some(directory.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let found = fstatat(self.parent, self.name, AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(StoreError::io("examine", self.path))?;
                let is_link = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK;
                let what = if is_link { "a symbolic link" } else { "not a directory" };
                Err(unsuitable(self.root, format!("{} is {what}", self.path.display())))
            }
            Err(errno) => Err(StoreError::io("open", self.path)(errno)),
        }
    }

    /// Creates the directory, durably: records in the store must not be lost with a directory above it.
    fn make(&self) -> Result<File, StoreError> {
        match mkdirat(self.parent, self.name, Mode::S_IRWXU) {
            // Made by another process that creates the same store, or by an attacker, whom the check detects.
            Err(Errno::EEXIST) => {}
            result => result.map_err(StoreError::io("create", self.path))?,
        }
        let gone = || StoreError::io("open", self.path)(Errno::ENOENT);
        let made = self.open()?.ok_or_else(gone)?;
        check(&made, self.path, self.root, self.role)?;
        set_mode(&made, self.path, self.role.mode())?;
        self.parent.sync_all().map_err(StoreError::io("sync the parent of", self.path))?;
        Ok(made)
    }
}

/// Checks the owner and the mode of a directory on the path. Its owner, or anyone who can write to it, could replace a
/// snapshot with a tree of their own. For a user's own store, that user may own the directories too.
fn check(directory: &File, path: &Path, root: &Path, role: PathRole) -> Result<(), StoreError> {
    let metadata = directory.metadata().map_err(StoreError::io("examine", path))?;
    let us = nix::unistd::geteuid().as_raw();
    let it = if path == root { "it".to_owned() } else { path.display().to_string() };
    let is_trusted = metadata.uid() == us || (role != PathRole::Store && metadata.uid() == 0);
    if !is_trusted {
        return Err(unsuitable(
            root,
            format!("{it} belongs to uid {}, and this process runs as uid {us}", metadata.uid()),
        ));
    }
    let mode = metadata.mode() & 0o7777;
    let is_sticky_parent = role == PathRole::Parent && mode & 0o1000 != 0;
    if mode & 0o022 != 0 && !is_sticky_parent {
        return Err(unsuitable(root, format!("others may write to {it} (mode {mode:o})")));
    }
    Ok(())
}

fn set_mode(directory: &File, path: &Path, mode: u32) -> Result<(), StoreError> {
    directory.set_permissions(Permissions::from_mode(mode)).map_err(StoreError::io("change the mode of", path))
}

/// Returns the components of an absolute path, if all of them are plain names.
fn names(path: &Path) -> Option<Vec<&OsStr>> {
    let mut components = path.components();
    (components.next() == Some(Component::RootDir)).then_some(())?;
    components
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

pub(super) fn unsuitable(root: &Path, reason: String) -> StoreError {
    StoreError::UnsuitableRoot { path: root.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Creates a directory below the sticky directory for temporary files.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().canonicalize().unwrap();
        (place, path)
    }

    fn reason(directory: &Path) -> String {
        match Root::open_further(directory, Missing::Make) {
            Err(StoreError::UnsuitableRoot { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn s16_a_further_root_is_private_and_its_new_parents_are_open_to_all() {
        let (_place, home) = place();
        let directory = home.join("a/b/images");
        assert!(Root::open_further(&directory, Missing::Leave).unwrap().is_none());
        assert!(!home.join("a").exists());
        for _ in 0..2 {
            let root = Root::open_further(&directory, Missing::Make).unwrap().unwrap();
            assert_eq!(root.path, directory.join(FURTHER_STORE));
        }
        assert!(Root::open_further(&directory, Missing::Leave).unwrap().is_some());
        assert_eq!(["a", "a/b", "a/b/images"].map(|path| mode(&home.join(path))), [0o755, 0o755, 0o700]);
        assert_eq!(mode(&directory.join(FURTHER_STORE)), 0o700);
    }

    #[test]
    fn an_existing_directory_stays_unchanged() {
        let (_place, home) = place();
        let directory = home.join("images");
        make(&directory, 0o755);
        fs::write(directory.join("clone_of_another_driver"), "").unwrap();
        Root::open_further(&directory, Missing::Make).unwrap().unwrap();
        assert_eq!(mode(&directory), 0o755);
        assert!(directory.join("clone_of_another_driver").exists());
    }

    #[test]
    fn s16_a_link_or_a_file_in_the_path_is_refused_and_named() {
        let (_place, home) = place();
        make(&home.join("real"), 0o755);
        make(&home.join("real/images"), 0o755);
        symlink("real", home.join("link")).unwrap();
        symlink("images", home.join("real/linked")).unwrap();
        fs::write(home.join("file"), "").unwrap();
        for (path, words) in [
            ("link/images", "link is a symbolic link"),
            ("real/linked", "linked is a symbolic link"),
            ("file/images", "file is not a directory"),
        ] {
            let reason = reason(&home.join(path));
            assert!(reason.contains(words), "{reason}");
        }
        assert_eq!(fs::read_dir(home.join("real/images")).unwrap().count(), 0);
        symlink("../elsewhere", home.join("real/images").join(FURTHER_STORE)).unwrap();
        assert!(reason(&home.join("real/images")).contains("symbolic link"));
        for path in ["", "images", "/a/../b"] {
            assert!(reason(Path::new(path)).contains("absolute"), "{path:?}");
        }
    }

    #[test]
    fn s16_a_directory_that_others_may_write_to_is_refused_except_a_sticky_parent() {
        let (_place, home) = place();
        for (parent, own, is_fine) in [
            (0o755, 0o755, true),
            (0o1777, 0o755, true),
            (0o775, 0o755, false),
            (0o757, 0o755, false),
            (0o755, 0o775, false),
            (0o755, 0o1777, false),
        ] {
            let directory = home.join(format!("{parent:o}-{own:o}"));
            make(&directory, parent);
            make(&directory.join("images"), own);
            if is_fine {
                Root::open_further(&directory.join("images"), Missing::Make).unwrap().unwrap();
            } else {
                let reason = reason(&directory.join("images"));
                assert!(reason.contains("others may write"), "{reason}");
                assert_eq!(fs::read_dir(directory.join("images")).unwrap().count(), 0);
            }
        }
    }

    #[test]
    fn s16_a_directory_of_another_user_in_the_path_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("GITREPO_REQUIRE_ALL").is_none(),
                "this test gives directories away, which needs root"
            );
            return;
        }
        let (_place, home) = place();
        let theirs = |path: &Path| std::os::unix::fs::chown(path, Some(12345), None).unwrap();
        for (parent, foreign) in [("a", "a"), ("b", "b/images"), ("c", "c/images/.gitrepo")] {
            let directory = home.join(parent).join("images");
            Root::open_further(&directory, Missing::Make).unwrap().unwrap();
            theirs(&home.join(foreign));
            let reason = reason(&directory);
            assert!(reason.contains("belongs to uid 12345"), "{reason}");
        }
    }
}

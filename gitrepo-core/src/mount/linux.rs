//! Mounts on Linux.

use std::ffi::CStr;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::mount::umount2;
use nix::sys::stat::fstat;

use super::Attachment;
use super::Mount;
use super::MountError;
use super::MountPoint;
use super::Mounter;
use super::Role;
use super::directory;
use super::image;
use super::mountinfo;
use super::overlay;
use super::overlay::Layers;
use super::private_directory;
use super::private_directory::FailedStep;
use super::private_directory::PrivateDirectory;
use crate::sys;

pub use super::image::Backing;
pub use super::image::ImageSupport;

/// Mounts in the mount namespace of the calling thread.
#[derive(Debug, Clone)]
pub struct LinuxMounter {
    workdir: PathBuf,
    strategy: Strategy,
}

/// How a mount gets its flags before it becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// While detached: `open_tree`, `mount_setattr`, `move_mount`. Linux 5.12.
    Detached,
    /// In a private directory, then moved. Works on any kernel, and in containers whose filter hides the newer calls.
    PrivateDirectory,
}

impl Strategy {
    /// Returns the best strategy that this kernel supports.
    pub fn of_this_kernel() -> Self {
        if sys::mount::detached_mounts_work() { Self::Detached } else { Self::PrivateDirectory }
    }
}

impl LinuxMounter {
    /// Mounts with the best strategy that this kernel supports.
    ///
    /// `workdir` is an absolute path, best a name in the store's root that nothing else uses: a sweep removes every
    /// unused directory in it. Several processes may share it. It is created, mode 0700 in an existing directory, only
    /// when [`Strategy::PrivateDirectory`] needs it.
    pub fn new(workdir: impl Into<PathBuf>) -> Self {
        Self::with_strategy(workdir, Strategy::of_this_kernel())
    }

    /// Mounts with the given strategy.
    pub fn with_strategy(workdir: impl Into<PathBuf>, strategy: Strategy) -> Self {
        Self { workdir: workdir.into(), strategy }
    }

    /// Returns the strategy in use.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    pub(super) fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// Binds a directory, without mounts below it.
    pub(super) fn bind(
        &self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        read_only: bool,
    ) -> Result<(), FailedStep> {
        match self.strategy {
            Strategy::Detached => bind_detached(source, target, read_only),
            Strategy::PrivateDirectory => {
                let directory = PrivateDirectory::make(&self.workdir)?;
                directory.bind(source, read_only)?;
                directory.move_to(target)
            }
        }
    }
}

impl Mounter for LinuxMounter {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        match &mount.attachment {
            Attachment::Bind { source } => {
                let source = directory::open(source, Role::Source)?;
                let target = directory::open(&mount.target, Role::Target)?;
                self.bind(source.as_fd(), target.as_fd(), mount.read_only)
                    .map_err(|(step, source)| MountError::Attach { mount: Box::new(mount.clone()), step, source })
            }
            Attachment::Image { metadata, devices } => image::attach(self, mount, metadata, devices),
            Attachment::Overlay { lower, upper, work } => {
                let label = mount.label.as_ref();
                overlay::attach(self, mount, &Layers { lower, upper, work, label })
            }
        }
    }

    fn shows(&self, wanted: &Mount) -> Result<bool, MountError> {
        let source = match &wanted.attachment {
            Attachment::Bind { source } => identity(source, Role::Source)?,
            Attachment::Image { .. } | Attachment::Overlay { .. } => None,
        };
        let Some(target) = identity(&wanted.target, Role::Target)? else { return Ok(false) };
        let mounts = self.list()?;
        let mut on_target = mounts.iter().filter(|mount| mount.target == wanted.target);
        let (Some(only), None) = (on_target.next(), on_target.next()) else {
            return Ok(false);
        };
        let is_shown = match &wanted.attachment {
            Attachment::Bind { .. } => source == Some(target),
            Attachment::Image { metadata, .. } => image::is_shown_by(only, metadata),
            Attachment::Overlay { upper, .. } => {
                return Ok(overlay::is_shown_by(only, upper) && overlay::is_read_only(only) == wanted.read_only);
            }
        };
        Ok(is_shown && only.is_read_only() == wanted.read_only)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        let (parent, name) = match directory::open_parent(target, Role::Target) {
            Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(0),
            opened => opened?,
        };
        Peel { target, parent: parent.as_fd(), name: &name }.peel(usize::MAX)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        mountinfo::read().map_err(|source| MountError::Table { path: mountinfo::TABLE.into(), source })
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        match self.image_support(directory)? {
            ImageSupport { block_size: 512, .. } => Ok(()),
            _ => Err(MountError::NoImages {
                directory: directory.into(),
                step: "mount blocks of 512 bytes",
                source: io::Error::new(io::ErrorKind::Unsupported, "this needs Linux 6.4"),
            }),
        }
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        overlay::try_in(self, directory)
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        overlay::freeze(self, target)
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        let failed = |(step, error)| MountError::Attach {
            mount: Box::new(Mount::bind(source, target, false)),
            step,
            source: error,
        };
        let opened = directory::open(source, Role::Source)?;
        let (parent, name) = directory::open_parent(target, Role::Target)?;
        let mounts = self.list()?;
        let on_target: Vec<_> = mounts.iter().filter(|mount| mount.target == target).collect();
        match on_target[..] {
            // Closed at once: a mount whose root is open is busy.
            [_] => bind_beneath(opened.as_fd(), directory::open(target, Role::Target)?).map_err(failed)?,
            // The list does not tell which one is on top.
            [one, other]
                if (is_bind_of(one, source) || is_bind_of(other, source))
                    && identity(target, Role::Target)? != identity(source, Role::Source)? => {}
            _ => {
                let error = io::Error::other(format!("{} mounts are there instead of one", on_target.len()));
                return Err(failed(("find the mount to replace", error)));
            }
        }
        Peel { target, parent: parent.as_fd(), name: &name }.peel(1).map(drop)
    }

    fn can_replace(&self) -> bool {
        matches!(self.strategy, Strategy::Detached) && sys::mount::attach_beneath_works()
    }

    fn sweep(&self) -> Result<usize, MountError> {
        private_directory::sweep(&self.workdir).map_err(|(path, source)| MountError::Sweep { path, source })
    }
}

fn bind_detached(source: BorrowedFd<'_>, target: BorrowedFd<'_>, read_only: bool) -> Result<(), FailedStep> {
    let tree = detached(source, read_only)?;
    sys::mount::attach(tree.as_fd(), target).map_err(|error| ("move_mount", error.into()))
}

/// Binds a directory beneath a mount.
fn bind_beneath(source: BorrowedFd<'_>, covering: OwnedFd) -> Result<(), FailedStep> {
    let tree = detached(source, false)?;
    sys::mount::attach_beneath(tree.as_fd(), covering.as_fd()).map_err(|error| ("move_mount beneath", error.into()))
}

/// How many of the last names of a path tell a directory of a store from every other: two of them are hashes.
const TELLING: usize = 3;

/// Whether a mount that is hidden beneath another shows this directory. The table tells its path in the filesystem, which
/// may be mounted anywhere.
fn is_bind_of(mount: &MountPoint, source: &Path) -> bool {
    let tail = |path: &Path| path.iter().rev().take(TELLING).map(ToOwned::to_owned).collect::<Vec<_>>();
    mount.upper().is_none() && mount.image().is_none() && tail(&mount.root) == tail(source)
}

/// Returns a mount of a directory that is attached nowhere yet.
fn detached(directory: BorrowedFd<'_>, read_only: bool) -> Result<OwnedFd, FailedStep> {
    let tree = sys::mount::clone_tree(directory).map_err(|error| ("open_tree", error.into()))?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys::mount::set_attributes(tree.as_fd(), attributes).map_err(|error| ("mount_setattr", error.into()))?;
    Ok(tree)
}

/// Device and inode of a directory; `None` if it does not exist. `st_dev` is the same on both sides of a bind.
fn identity(path: &Path, role: Role) -> Result<Option<(libc::dev_t, libc::ino_t)>, MountError> {
    let directory = match directory::open(path, role) {
        Err(MountError::Directory { source, .. }) if directory::is_absence(&source) => return Ok(None),
        opened => opened?,
    };
    let found =
        fstat(&directory).map_err(|error| MountError::Directory { path: path.into(), role, source: error.into() })?;
    Ok(Some((found.st_dev, found.st_ino)))
}

/// Removes the mounts on a target one by one.
struct Peel<'a> {
    target: &'a Path,
    parent: BorrowedFd<'a>,
    name: &'a CStr,
}

/// How long to retry a busy target before detaching it lazily.
const PATIENCE: Duration = Duration::from_secs(1);

/// Number of unmount calls before it gives up. A bug that stacks mounts at every kubelet restart is known to have
/// reached 49,153 (spiffe-csi#331).
const ATTEMPTS: usize = 100_000;

impl Peel<'_> {
    /// Removes at most this many mounts, and returns their number.
    fn peel(&self, most: usize) -> Result<usize, MountError> {
        let mut unmounted = 0;
        let mut busy_since = None;
        let mut pause = Duration::from_millis(5);
        for _ in 0..ATTEMPTS {
            if unmounted == most || !self.is_mounted()? {
                return Ok(unmounted);
            }
            let out_of_patience = busy_since.is_some_and(|since: Instant| since.elapsed() >= PATIENCE);
            let flags = if out_of_patience { MntFlags::MNT_DETACH } else { MntFlags::empty() };
            match self.unmount(flags) {
                Ok(()) => unmounted += 1,
                // Busy; or no longer mounted, because another process was faster.
                Err(Errno::EBUSY | Errno::EINVAL) if !out_of_patience => {
                    busy_since.get_or_insert_with(Instant::now);
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                Err(error) => {
                    if self.is_mounted()? {
                        return Err(self.failed(error));
                    }
                }
            }
        }
        Err(MountError::StillMounted { target: self.target.into(), attempts: ATTEMPTS })
    }

    /// Never uses `MNT_FORCE`: it can lose data and leak kernel threads (csi-driver-nfs#569).
    fn unmount(&self, flags: MntFlags) -> nix::Result<()> {
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", self.parent.as_raw_fd()));
        path.push(OsStr::from_bytes(self.name.to_bytes()));
        umount2(&path, flags | MntFlags::UMOUNT_NOFOLLOW)
    }

    /// Checks the target itself: unlike the mount table, that ignores mounts hidden beneath another.
    fn is_mounted(&self) -> Result<bool, MountError> {
        match sys::mount::is_mount_root(self.parent, self.name) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let mounts =
                    mountinfo::read().map_err(|source| MountError::Table { path: mountinfo::TABLE.into(), source })?;
                Ok(mounts.iter().any(|mount| mount.target == self.target))
            }
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: Errno) -> MountError {
        MountError::Unmount { target: self.target.into(), source: error.into() }
    }
}

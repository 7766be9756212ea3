//! Attaches EROFS images.
//!
//! Each filesystem of an image has a page cache of its own, so all targets should show one. It has no mount point in the
//! store: the second target gets a copy of the mount on the first, the third of either. Only if this mount namespace
//! shows none, a new filesystem is made. Two may come of that, if two processes do not see each other's mounts. They
//! are equal, and each goes with its last target.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::fcntl::openat;
use nix::sys::stat::Mode;

use super::Mount;
use super::MountError;
use super::MountPoint;
use super::Role;
use super::directory;
use super::hidden::Hidden;
use super::linux::LinuxMounter;
use super::same_file::is_same;
use super::visible;
use crate::error::chain;
use crate::sys;

mod devices;
mod filesystem;
mod header;
mod probe;

use devices::Devices;
use filesystem::Parts;
use header::Header;

pub use probe::ImageSupport;

/// What the kernel reads an image from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// The files themselves (Linux 6.12, not on every filesystem).
    Files,
    /// Read-only loop devices.
    LoopDevices,
}

/// How long to wait while another process makes a filesystem of the same image.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const PAUSE: Duration = Duration::from_millis(2);

/// How many components at the end of a path name an image wherever its store is: `snapshots/<id>/image`.
const COMPONENTS_OF_NAME: usize = 3;

/// The options of a mount that this makes. One to which somebody added some is not copied.
const OPTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "relatime"];

/// Attaches an image to the mount's target.
pub(super) fn attach(
    mounter: &LinuxMounter,
    mount: &Mount,
    metadata: &Path,
    devices: &[PathBuf],
) -> Result<(), MountError> {
    if !mount.read_only {
        return Err(MountError::WritableImage { image: metadata.into() });
    }
    let image = Image::open(metadata)?;
    let target = directory::open(&mount.target, Role::Target)?;
    let copy_visible = || {
        let is_usable = |shown: &MountPoint| {
            shown.has_label(mount.label.as_ref())
                && shown.image() == Some(image.path)
                && shown.options.iter().all(|option| OPTIONS.contains(&option.as_str()))
        };
        visible::copy(mounter, target.as_fd(), true, is_usable, |shown| image.root_of(shown))
    };
    if copy_visible()? {
        return Ok(());
    }
    // Many targets of a new image may be attached at once.
    let _turn = image.turn();
    if copy_visible()? {
        return Ok(());
    }
    let listed = image.header.as_ref().map_or_else(|| vec![0; devices.len()], |header| header.devices.clone());
    let devices = Devices::check(metadata, devices, &listed)?;
    let files = Parts::files(metadata, devices.paths()).labelled(mount.label.as_ref());
    let loop_devices = || {
        let parts = Parts::loop_devices(&image.opened_again()?, devices.open())?;
        Ok(parts.labelled(mount.label.as_ref()))
    };
    Hidden::mount_either(&files, loop_devices, mounter.strategy(), mounter.workdir())
        .and_then(|(filesystem, _)| filesystem.attach(target.as_fd()))
        .map_err(|(step, error)| {
            let source = mount.explained((step, error));
            MountError::Attach { mount: Box::new(mount.clone()), step, source }
        })
}

/// Whether a mount shows this image, and the whole of it; `false` if the image is gone or damaged, so that its volume can
/// be unpublished.
pub(super) fn is_shown_by(mount: &MountPoint, metadata: &Path) -> bool {
    let may_be_shown =
        mount.image().is_some_and(|shown| is_same(shown, metadata, COMPONENTS_OF_NAME)) && mount.root == Path::new("/");
    if !may_be_shown {
        return false;
    }
    match Image::open(metadata) {
        Ok(image) => image.root_of(mount).is_some(),
        Err(error) => {
            tracing::debug!(image = %metadata.display(), error = %chain(&error), "cannot read a mounted image");
            false
        }
    }
}

/// An image that exists.
struct Image<'a> {
    path: &'a Path,
    file: File,
    header: Option<Header>,
}

impl<'a> Image<'a> {
    fn open(path: &'a Path) -> Result<Self, MountError> {
        let file = directory::open_file(path, Role::Source)?;
        let unreadable = |source| MountError::Directory { path: path.into(), role: Role::Source, source };
        let header = Header::read(&file).map_err(unreadable)?;
        Ok(Self { path, file, header })
    }

    /// Opens the file again: a loop device keeps its open file, and with it the lock that [`turn`](Self::turn) takes.
    fn opened_again(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// Returns the root of a mount, unless that is covered, gone, or of an earlier image at the same path.
    fn root_of(&self, mount: &MountPoint) -> Option<OwnedFd> {
        let target = visible::root_of(mount)?;
        let readable = openat(&target, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let mounted = sys::mount::filesystem_uuid(readable.ok()?.as_fd());
        // Without a UUID, a filesystem of another image could be taken for this one's.
        let ours = self.header.as_ref().map(|header| header.uuid).filter(|uuid| uuid.iter().any(|byte| *byte != 0));
        // Before Linux 6.9 there are only loop devices, whose path is marked when the file was deleted.
        mounted.is_none_or(|mounted| Some(mounted) == ours).then_some(target)
    }

    /// Waits until nobody makes a filesystem of this image, but not for long: a second one does no harm.
    fn turn(&self) -> Turn<'_> {
        let start = Instant::now();
        while matches!(self.file.try_lock(), Err(TryLockError::WouldBlock)) && start.elapsed() < PATIENCE {
            thread::sleep(PAUSE);
        }
        Turn(&self.file)
    }
}

/// The turn to make a filesystem of an image, until dropped.
struct Turn<'a>(&'a File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(error = %chain(&error), "cannot unlock an image");
        }
    }
}

//! A mounter of which a test changes some calls.

use std::path::Path;

use crate::mount::Mount;
use crate::mount::MountError;
use crate::mount::MountPoint;
use crate::mount::Mounter;

/// Calls of a [`Mounter`] that a test changes. All others go to the inner one.
#[expect(missing_docs, reason = "named as the methods of the trait")]
#[expect(clippy::missing_errors_doc, reason = "those of the trait")]
pub trait Overrides: Send + Sync {
    /// The inner mounter.
    fn inner(&self) -> &dyn Mounter;

    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        self.inner().attach(mount)
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        self.inner().check_images(directory)
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        self.inner().replace(source, target)
    }
}

/// A mounter with changed calls.
#[derive(Debug)]
pub struct Overridden<T>(pub T);

impl<T: Overrides> Mounter for Overridden<T> {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        self.0.attach(mount)
    }

    fn shows(&self, mount: &Mount) -> Result<bool, MountError> {
        self.0.inner().shows(mount)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        self.0.inner().unmount(target)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        self.0.inner().list()
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        self.0.check_images(directory)
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        self.0.inner().check_overlays(directory)
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        self.0.inner().freeze(target)
    }

    fn replace(&self, source: &Path, target: &Path) -> Result<(), MountError> {
        self.0.replace(source, target)
    }

    fn can_replace(&self) -> bool {
        self.0.inner().can_replace()
    }

    fn sweep(&self) -> Result<usize, MountError> {
        self.0.inner().sweep()
    }
}

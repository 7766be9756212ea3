//! Mounts and unmounts.

use std::ffi::CStr;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::spec::Label;

pub(crate) mod directory;
mod error;
mod hidden;
mod image;
mod kernel_log;
pub mod linux;
mod loop_device;
pub mod mountinfo;
pub(crate) mod overlay;
mod private_directory;
mod same_file;
mod visible;

pub use error::MountError;

use error::Explained;

/// Mounts and unmounts. The real implementation is [`linux::LinuxMounter`]; `testing::FakeMounter` records its calls.
///
/// Arguments are plain data, so that a fake can record them and a test can read them. Paths are absolute and contain no
/// symlinks: an attacker who could plant one would choose what is attached, or where (CVE-2021-25741). A caller that
/// takes paths from a user resolves them first.
pub trait Mounter: Send + Sync {
    /// Attaches something on top of any existing mount. A read-only mount is never writable, not even for an instant.
    /// All mounts are `nosuid` and `nodev`. Mounts below a bound directory are not included.
    fn attach(&self, mount: &Mount) -> Result<(), MountError>;

    /// Whether exactly this is attached: one mount on the target, of the source itself, read-only or writable as
    /// requested. `false` if the source or target is missing. A retried publish calls this to avoid a second layer. An
    /// image is recognised by its metadata alone: its devices are not compared. An overlay is recognised by its upper
    /// layer alone; one that was frozen is read-only.
    fn shows(&self, mount: &Mount) -> Result<bool, MountError>;

    /// Detaches everything stacked on `target`, verifies it, and returns the number of mounts. Zero mounts or a missing
    /// target is not an error. A target in use is detached after about a second; processes with the tree open keep it.
    fn unmount(&self, target: &Path) -> Result<usize, MountError>;

    /// Lists the mounts visible to the calling thread. Mounts stacked on one target are listed oldest first.
    fn list(&self) -> Result<Vec<MountPoint>, MountError>;

    /// Fails if images in this directory, whose content begins at multiples of 512 bytes, cannot be mounted. Tries it.
    fn check_images(&self, directory: &Path) -> Result<(), MountError>;

    /// Fails if overlays with their layers in this directory cannot be mounted, or if the kernel would not refuse a second
    /// one over the same layer. Tries it with directories that it makes there, and leaves them to the caller.
    fn check_overlays(&self, directory: &Path) -> Result<(), MountError>;

    /// Makes the overlay on `target` read-only, on all its targets. Fails, with [`Kind::Busy`](crate::error::Kind::Busy), while a file in it is open
    /// for writing; and if anything else than an overlay is mounted there.
    fn freeze(&self, target: &Path) -> Result<(), MountError>;

    /// Removes half-made mounts of killed processes and returns their number. Safe at any time: mounts in preparation
    /// by a live process are left alone.
    fn sweep(&self) -> Result<usize, MountError>;
}

impl<M: Mounter + ?Sized> Mounter for Arc<M> {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        (**self).attach(mount)
    }

    fn shows(&self, mount: &Mount) -> Result<bool, MountError> {
        (**self).shows(mount)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        (**self).unmount(target)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        (**self).list()
    }

    fn check_images(&self, directory: &Path) -> Result<(), MountError> {
        (**self).check_images(directory)
    }

    fn check_overlays(&self, directory: &Path) -> Result<(), MountError> {
        (**self).check_overlays(directory)
    }

    fn freeze(&self, target: &Path) -> Result<(), MountError> {
        (**self).freeze(target)
    }

    fn sweep(&self) -> Result<usize, MountError> {
        (**self).sweep()
    }
}

/// What can be attached to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// An existing directory.
    Bind {
        /// The directory.
        source: PathBuf,
    },
    /// An EROFS image. All its mounts that see each other are of one filesystem, and so share its page cache.
    ///
    /// The kernel opens the files by their paths, so nobody else may be able to change the directories above them.
    Image {
        /// The image, a file that never changes. The UUID in its superblock tells it from every other image that ever
        /// had this path.
        metadata: PathBuf,
        /// The files with the content, in the order of the image's device table.
        devices: Vec<PathBuf>,
    },
    /// A directory with a layer over it that takes all changes. All mounts of one layer that see each other are of one
    /// filesystem: the kernel does not define what two of them over one layer do.
    ///
    /// The kernel resolves the paths, so nobody else may be able to change the directories above them.
    Overlay {
        /// The directory that stays as it is.
        lower: PathBuf,
        /// The directory with the changes, whose owner and mode are those of the root that is shown.
        upper: PathBuf,
        /// A directory beside `upper` for the kernel's own use.
        work: PathBuf,
    },
}

impl Attachment {
    /// Returns its path on disk: the directory, the image's metadata, or the overlay's upper layer.
    pub fn path(&self) -> &Path {
        match self {
            Self::Bind { source } => source,
            Self::Image { metadata, .. } => metadata,
            Self::Overlay { upper, .. } => upper,
        }
    }
}

/// One mount to make or look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory to show.
    pub attachment: Attachment,
    /// An existing directory to attach it to.
    pub target: PathBuf,
    /// Whether writes through this mount are refused.
    pub read_only: bool,
    /// The SELinux label of all files of an image or an overlay. A bind mount shows those that the files have.
    pub label: Option<Label>,
}

impl Mount {
    /// Creates a bind mount of a directory.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Self {
        Self { attachment: Attachment::Bind { source: source.into() }, target: target.into(), read_only, label: None }
    }

    /// Creates a mount of an image, which is always read-only.
    pub fn image(metadata: impl Into<PathBuf>, devices: Vec<PathBuf>, target: impl Into<PathBuf>) -> Self {
        let attachment = Attachment::Image { metadata: metadata.into(), devices };
        Self { attachment, target: target.into(), read_only: true, label: None }
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The directory that it is attached to.
    pub target: PathBuf,
    /// The attached path inside the filesystem: the source, for a plain bind. Ends in `//deleted` if the source was
    /// deleted.
    pub root: PathBuf,
    /// `major:minor` of the filesystem.
    pub device: String,
    /// Type of the filesystem.
    pub filesystem: String,
    /// What the filesystem is made of: a device, a file, or a mere name. Instead of a loop device, the file behind it;
    /// that ends in `//deleted` if the file was deleted.
    pub source: PathBuf,
    /// Options of this mount, such as `ro`, `nosuid`.
    pub options: Vec<String>,
    /// Options of the filesystem, such as `ro` and `upperdir=/layer`, which all its mounts have.
    pub filesystem_options: Vec<OsString>,
}

/// The option of every filesystem that gives all its files one SELinux label (mount(8)).
pub(crate) const CONTEXT: &CStr = c"context";

/// The type of an image's filesystem.
pub(crate) const EROFS: &str = "erofs";

/// The type of an overlay's filesystem.
pub(crate) const OVERLAY: &str = "overlay";

impl MountPoint {
    /// Whether this mount refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    /// Returns the image that this mount shows, whole or a directory of it.
    pub fn image(&self) -> Option<&Path> {
        (self.filesystem == EROFS).then_some(&self.source)
    }

    /// Returns the upper layer of the overlay that this mount shows, whole or a directory of it.
    pub fn upper(&self) -> Option<PathBuf> {
        overlay::layer(self, "upperdir=")
    }

    /// Returns the lower layer of the overlay that this mount shows, if it has a single one.
    pub fn lower(&self) -> Option<PathBuf> {
        overlay::layer(self, "lowerdir=")
    }

    /// Returns the SELinux label that the filesystem gives to all its files, if it does.
    pub fn label(&self) -> Option<&[u8]> {
        let labels = self.filesystem_options.iter().map(|option| option.as_bytes());
        labels.filter_map(|option| option.strip_prefix(CONTEXT.to_bytes())?.strip_prefix(b"=")).next()
    }

    /// Whether the filesystem gives its files this label, or none.
    pub(crate) fn has_label(&self, label: Option<&Label>) -> bool {
        self.label() == label.map(|label| label.as_c_str().to_bytes())
    }

    /// Whether the filesystem refuses writes, whatever the flags of the mount.
    pub fn is_frozen(&self) -> bool {
        self.filesystem_options.iter().any(|option| option == "ro")
    }
}

/// What a path is to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The directory or image that is attached.
    Source,
    /// The directory that it is attached to.
    Target,
    /// A file with the content of an image.
    Device,
    /// The upper layer of an overlay, or the directory for its work.
    Layer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Device => "device",
            Self::Layer => "layer",
        })
    }
}

//! Why mounting, unmounting or listing failed.

use std::io;
use std::path::PathBuf;

use super::Mount;
use super::Role;
use super::directory;
use super::private_directory;
use super::private_directory::FailedStep;
use crate::error::Kind;

/// The steps of mounting in which the kernel reads the label, or checks whether it may be given.
const LABELLING: [&str; 4] = ["fsconfig: context", "fsconfig: options", "fsconfig: create", "mount"];

/// The system's error, and what it means here.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) source: io::Error,
}

impl Explained {
    pub(super) fn wrap(text: impl Into<String>, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), Self { text: text.into(), source })
    }

    /// Returns the system's error.
    pub(super) fn system_error(error: &io::Error) -> &io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        inner.map_or(error, |explained| Self::system_error(&explained.source))
    }
}

impl Mount {
    /// Says what to do about a refusal that may be due to the label: a policy of SELinux may have no such type, or forbid
    /// it. Of what a filesystem refuses, the kernel says more than a number.
    pub(super) fn explained(&self, (step, refusal): FailedStep) -> io::Error {
        let Some(label) = self.label.as_ref().filter(|_| LABELLING.contains(&step)) else { return refusal };
        match refusal.raw_os_error() {
            Some(libc::EINVAL) => {
                io::Error::new(io::ErrorKind::Unsupported, Explained { text: label.advice(), source: refusal })
            }
            Some(libc::EACCES) => Explained::wrap(label.advice(), refusal),
            _ => refusal,
        }
    }
}

/// A failure to mount, unmount or list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A path is relative or contains `..`.
    #[error("cannot use {path:?} as the {role} of a mount: not an absolute path without \"..\"")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// What it is to the mount.
        role: Role,
    },
    /// A path contains a symlink.
    #[error("cannot use {path:?} as the {role} of a mount: {link:?} is a symbolic link; give the path it leads to")]
    Symlink {
        /// The path as given.
        path: PathBuf,
        /// What it is to the mount.
        role: Role,
        /// The first component that is a link.
        link: PathBuf,
    },
    /// A directory or file cannot be used.
    #[error("cannot use {path:?} as the {role} of a mount")]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// What it is to the mount.
        role: Role,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A step of mounting failed.
    #[error("cannot mount {:?} at {:?} ({step})", mount.attachment.path(), mount.target)]
    Attach {
        /// The mount to make.
        mount: Box<Mount>,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A writable mount of an image was requested.
    #[error("cannot mount {image:?} writable: an image is always read-only")]
    WritableImage {
        /// The image.
        image: PathBuf,
    },
    /// An image does not have as many devices as were given.
    #[error("cannot mount {image:?}: it was made for {listed} devices, and {given} are given")]
    DeviceCount {
        /// The image.
        image: PathBuf,
        /// Number of devices in the image's table.
        listed: usize,
        /// Number of files given.
        given: usize,
    },
    /// A device of an image was truncated, or is another image's.
    #[error("cannot mount {image:?}: its device {device:?} has {length} bytes, and at least {listed} are needed")]
    ShortDevice {
        /// The image.
        image: PathBuf,
        /// The device.
        device: PathBuf,
        /// The file's length in bytes.
        length: u64,
        /// The length in the image's table, in bytes.
        listed: u64,
    },
    /// A writable overlay is mounted over this layer already, and not visible here, or not as it is wanted.
    #[error(
        "the layer {upper:?} is in use by an overlay that this process does not see or cannot share: it is mounted in \
         another mount namespace, or with other flags, or was unmounted while processes had files of it open; unmount it \
         there, or end them"
    )]
    LayerInUse {
        /// The upper layer.
        upper: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// An overlay that is to be written would be read-only.
    #[error("cannot mount the layer {upper:?} to be written")]
    LayerReadOnly {
        /// The upper layer.
        upper: PathBuf,
        /// Why the kernel refuses writes.
        #[source]
        source: io::Error,
    },
    /// The options of an overlay cannot express a path.
    #[error("cannot use {path:?} in an overlay: commas, colons and backslashes separate paths and options there")]
    OverlayPath {
        /// The path.
        path: PathBuf,
    },
    /// A trial showed that no overlay in this directory can be mounted.
    #[error("overlays in {directory:?} cannot be mounted ({step})")]
    NoOverlays {
        /// The directory.
        directory: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// An overlay could not be made read-only.
    #[error("cannot make the overlay on {target:?} read-only ({step})")]
    Freeze {
        /// The target.
        target: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A trial showed that no image in this directory can be mounted.
    #[error("images in {directory:?} cannot be mounted ({step})")]
    NoImages {
        /// The directory.
        directory: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A mount could not be detached.
    #[error("cannot unmount {target:?}")]
    Unmount {
        /// The target.
        target: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The target is still mounted after all attempts.
    #[error("{target:?} is still mounted after {attempts} attempts; see what holds it with fuser -vm")]
    StillMounted {
        /// The target.
        target: PathBuf,
        /// Number of attempts.
        attempts: usize,
    },
    /// The mount table cannot be read.
    #[error("cannot read the mount table {}", path.display())]
    Table {
        /// The table's path in `/proc`.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The leftovers of a killed process cannot be removed.
    #[error("cannot clear {path:?}, where a mount was being prepared")]
    Sweep {
        /// The prepared mount, or the directory that holds all of them.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Path { .. } => Kind::InvalidRequest,
            Self::Symlink { .. } => Kind::FailedPrecondition,
            Self::WritableImage { .. } => Kind::InvalidRequest,
            Self::LayerInUse { .. } => Kind::Busy,
            Self::OverlayPath { .. } => Kind::FailedPrecondition,
            Self::DeviceCount { .. } | Self::ShortDevice { .. } => Kind::Corrupt,
            // Part of an image was deleted.
            Self::Directory { role: Role::Device, source, .. } if directory::is_absence(source) => Kind::Corrupt,
            Self::Directory { source, .. }
            | Self::Attach { source, .. }
            | Self::NoImages { source, .. }
            | Self::NoOverlays { source, .. }
            | Self::LayerReadOnly { source, .. }
            | Self::Freeze { source, .. }
            | Self::Unmount { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported => {
                    Kind::FailedPrecondition
                }
                io::ErrorKind::ResourceBusy => Kind::Busy,
                // An image that was cut off.
                io::ErrorKind::UnexpectedEof => Kind::Corrupt,
                _ => crate::error::io_kind(Explained::system_error(source)),
            },
            Self::StillMounted { .. } => Kind::Busy,
            Self::Table { .. } => Kind::Internal,
            Self::Sweep { source, .. } => crate::error::io_kind(source),
        }
    }

    /// Whether a mount failed for lack of room on the disk. Other steps of mounting fail with the same number if there are
    /// too many mounts.
    pub(crate) fn lacks_room(&self) -> bool {
        let needs_room =
            matches!(self, Self::LayerReadOnly { .. } | Self::Attach { step: private_directory::PREPARE, .. });
        needs_room && self.kind() == Kind::ResourceExhausted
    }

    /// Whether the filesystem of the directory failed while images or overlays were tried there. A kernel without them
    /// reports errors of other numbers.
    pub(crate) fn is_of_storage(&self) -> bool {
        let (Self::NoImages { source, .. } | Self::NoOverlays { source, .. }) = self else { return false };
        let number = Explained::system_error(source).raw_os_error();
        matches!(number, Some(libc::EIO | libc::EROFS | libc::ESTALE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use crate::spec::Label;

    fn attach(source: io::Error) -> MountError {
        MountError::Attach { mount: Box::new(Mount::image("/s/image", Vec::new(), "/pod")), step: "mount", source }
    }

    #[test]
    fn an_explanation_is_part_of_the_message_and_changes_no_kind() {
        for errno in [libc::EIO, libc::EBUSY, libc::ENOSPC, libc::EINVAL, libc::EPERM, libc::ENOENT] {
            let plain = attach(io::Error::from_raw_os_error(errno));
            let explained = attach(Explained::wrap("a device is gone", io::Error::from_raw_os_error(errno)));
            assert_eq!(explained.kind(), plain.kind(), "{errno}");
            let start = r#"cannot mount "/s/image" at "/pod" (mount): a device is gone: "#;
            let cause = io::Error::from_raw_os_error(errno).to_string();
            assert_eq!(chain(&explained), format!("{start}{cause}"));
        }
    }

    #[test]
    fn a_refusal_of_a_label_says_what_to_set() {
        let labelled = Mount { label: Some(Label::of_containers()), ..Mount::image("/s/image", Vec::new(), "/pod") };
        let plain = Mount { label: None, ..labelled.clone() };
        let at_step = |mount: &Mount, step, errno| attach(mount.explained((step, io::Error::from_raw_os_error(errno))));
        let refused = |mount: &Mount, errno| at_step(mount, "fsconfig: create", errno);
        for (errno, kind, words) in [
            (libc::EINVAL, Kind::FailedPrecondition, "Invalid argument"),
            (libc::EACCES, Kind::PermissionDenied, "Permission denied"),
        ] {
            let refusal = refused(&labelled, errno);
            assert_eq!(refusal.kind(), kind);
            let advice = format!("set seLinuxContext to one that it allows, or to null: {words}");
            assert!(chain(&refusal).contains(&advice), "{refusal:?}");
            for other in [refused(&plain, errno), at_step(&labelled, "fsmount", errno)] {
                assert!(!chain(&other).contains("seLinuxContext"), "{other:?}");
            }
        }
        assert_eq!(refused(&labelled, libc::EIO).kind(), Kind::Unavailable);
        assert_eq!(refused(&plain, libc::EINVAL).kind(), Kind::Internal);
        // The filesystem has another reason.
        let reason = Explained::wrap("the kernel says \"bad superblock\"", io::Error::from_raw_os_error(libc::EINVAL));
        let damaged = attach(labelled.explained(("fsconfig: create", reason)));
        assert_eq!(damaged.kind(), Kind::Internal);
        assert!(!chain(&damaged).contains("seLinuxContext"), "{damaged:?}");
    }

    #[test]
    fn an_image_without_a_device_is_damaged_and_a_bind_without_a_source_is_not() {
        let missing = |role| MountError::Directory {
            path: "/s/x".into(),
            role,
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        assert_eq!(missing(Role::Device).kind(), Kind::Corrupt);
        assert_eq!(missing(Role::Source).kind(), Kind::FailedPrecondition);
    }
}

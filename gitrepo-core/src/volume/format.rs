//! The formats of volumes. Read-only ones are images where this node can mount them, otherwise directories.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use serde::Serialize;

use super::PublishError;
use super::VolumeRequest;
use super::Volumes;
use super::same_content;
use super::show::taken_by;
use crate::error::Kind;
use crate::error::chain;
use crate::lease::Form;
use crate::mount::Attachment;
use crate::mount::MountError;
use crate::policy::SnapshotChoice;
use crate::snapshot::Image;
use crate::store::Record;
use crate::store::Shows;

/// How a target shows its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A snapshot as an EROFS image: a read-only filesystem.
    Image,
    /// A snapshot as a directory, by a read-only bind mount.
    Directory,
    /// A writable copy.
    Copy,
    /// A writable layer over a snapshot.
    Overlay,
}

impl Format {
    /// Returns its name, one lower-case word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Directory => "directory",
            Self::Copy => "copy",
            Self::Overlay => "overlay",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How new read-only volumes are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// The format.
    pub format: Format,
    /// Why this node has no images: the configuration, or the kernel's words. If the format is [`Format::Image`] all the
    /// same, the configuration demands images, and new read-only volumes fail.
    pub without_images: Option<String>,
}

/// Whether something can be mounted, once it was tried.
#[derive(Default)]
pub(super) struct Trial(OnceLock<Result<(), Arc<MountError>>>);

impl Trial {
    /// Tries it, unless the outcome is known. An error that may pass is not remembered.
    pub(super) fn or_try(
        &self,
        try_it: impl FnOnce() -> Result<(), MountError>,
        may_pass: impl Fn(&MountError) -> bool,
    ) -> Result<(), Arc<MountError>> {
        if let Some(known) = self.0.get() {
            return known.clone();
        }
        let tried = try_it().map_err(Arc::new);
        if !tried.as_ref().is_err_and(|error| may_pass(error)) {
            // Another thread may have been faster.
            drop(self.0.set(tried.clone()));
        }
        tried
    }
}

impl Volumes {
    /// Returns how new read-only volumes are served. The first call tries to mount an image.
    pub fn serving(&self) -> Serving {
        let choice = self.snapshot_choice();
        if choice == SnapshotChoice::Directory {
            let reason = "the configuration says \"snapshotFormat\": \"directory\"".to_owned();
            return Serving { format: Format::Directory, without_images: Some(reason) };
        }
        let without_images = self.try_images().err().map(|error| chain(&error));
        let is_image = choice == SnapshotChoice::Image || without_images.is_none();
        Serving { format: if is_image { Format::Image } else { Format::Directory }, without_images }
    }

    /// Returns the form of a new snapshot for a request to read.
    ///
    /// # Errors
    ///
    /// [`PublishError::NoImages`] if the configuration demands images, and [`PublishError::NotAnImage`] if only the
    /// request does.
    pub(super) fn form_for(&self, request: &VolumeRequest) -> Result<Form, PublishError> {
        let image = Form { format: &Image, ownership: request.ownership() };
        if self.snapshot_choice() == SnapshotChoice::Image {
            return self.try_images().map(|()| image).map_err(|source| PublishError::NoImages { source });
        }
        if self.snapshot_choice() == SnapshotChoice::Auto
            && let Err(source) = self.try_images()
            && may_pass(&source)
        {
            // A directory would stay one for the volume's life.
            return Err(PublishError::NoImages { source });
        }
        match self.serving() {
            Serving { format: Format::Image, .. } => Ok(image),
            Serving { without_images: Some(reason), .. } if request.only_image => {
                Err(PublishError::NotAnImage { reason })
            }
            _ => Ok(Form::DIRECTORY),
        }
    }

    /// Fails if a volume must be an image ([`VolumeRequest::only_image`]) and cannot be one. Publishes nothing.
    ///
    /// # Errors
    ///
    /// [`PublishError::NotAnImage`], and those of reading the store.
    pub fn check_only_image(&self, request: &VolumeRequest) -> Result<(), PublishError> {
        match self.store.record(&request.volume_id, &request.target)? {
            // Its format is that of the record.
            Some(_) => Ok(()),
            None => self.plan(request, None).map(drop),
        }
    }

    /// Fails if the record is of other content, or of a directory where only an image will do.
    pub(super) fn check_recorded(&self, record: &Record, request: &VolumeRequest) -> Result<(), PublishError> {
        // The record says so: the snapshot itself may be lost, and is made again.
        let is_too_weak = request.only_image && record.ownership.is_none();
        if is_too_weak || !same_content(record, request) { Err(taken_by(record)) } else { Ok(()) }
    }

    /// Whether this node can mount the part of a snapshot that a volume shows. If that is unclear, the mount itself tells.
    pub(super) fn can_mount(&self, attachment: &Attachment) -> bool {
        match attachment {
            Attachment::Bind { .. } | Attachment::Overlay { .. } => true,
            Attachment::Image { .. } => self.try_images().err().is_none_or(|error| may_pass(&error)),
        }
    }

    /// Returns how the target of a record shows its tree.
    pub(super) fn format_of(&self, record: &Record) -> Format {
        match (record.shows, self.attachment(record)) {
            (Shows::Layer | Shows::SharedLayer, _) => Format::Overlay,
            (Shows::Copy | Shows::SharedCopy, _) => Format::Copy,
            (Shows::Snapshot, Attachment::Image { .. }) => Format::Image,
            (Shows::Snapshot, _) => Format::Directory,
        }
    }

    pub(super) fn snapshot_choice(&self) -> SnapshotChoice {
        self.snapshots.gateway().policy().config().snapshot_format
    }

    /// Fails if images in this store cannot be mounted. Tries it once. A failure is tried again if it may pass, or if the
    /// configuration demands images.
    pub(super) fn try_images(&self) -> Result<(), Arc<MountError>> {
        let is_demanded = self.snapshot_choice() == SnapshotChoice::Image;
        if let Some(known) = self.images.0.get()
            && (known.is_ok() || !is_demanded)
        {
            return known.clone();
        }
        let tried = self.mounter.check_images(self.store.root()).map_err(Arc::new);
        let stays = tried.as_ref().err().is_none_or(|error| !is_demanded && !may_pass(error));
        if stays && self.images.0.set(tried.clone()).is_ok() {
            self.log(&tried);
        }
        tried
    }

    fn log(&self, tried: &Result<(), Arc<MountError>>) {
        let store = self.store.root().display();
        match tried {
            Ok(()) => tracing::debug!(%store, "images can be mounted"),
            Err(error) => tracing::debug!(%store, reason = chain(error), "images cannot be mounted"),
        }
    }
}

/// Whether images or overlays may work a moment later: the store's filesystem failed, there was no room for a tiny image, or
/// no free descriptor, or a loop device was busy.
pub(super) fn may_pass(error: &MountError) -> bool {
    let source = match error {
        MountError::NoImages { source, .. } | MountError::NoOverlays { source, .. } => source,
        other => return !matches!(other, MountError::OverlayPath { .. }),
    };
    let lacks_descriptors = matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    lacks_descriptors || error.is_of_storage() || matches!(error.kind(), Kind::ResourceExhausted | Kind::Busy)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failing_disk_says_nothing_about_images_and_a_kernel_without_them_does() {
        let failure = |errno| MountError::NoImages {
            directory: "/store".into(),
            step: "write a tiny image",
            source: io::Error::from_raw_os_error(errno),
        };
        for errno in [libc::EIO, libc::EROFS, libc::ENOSPC, libc::EMFILE] {
            assert!(may_pass(&failure(errno)), "{errno}");
        }
        for errno in [libc::ENODEV, libc::EPERM, libc::EINVAL] {
            assert!(!may_pass(&failure(errno)), "{errno}");
        }
        let error = PublishError::NoImages { source: Arc::new(failure(libc::EIO)) };
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!may_pass(&MountError::OverlayPath { path: "/a:b".into() }));
    }
}

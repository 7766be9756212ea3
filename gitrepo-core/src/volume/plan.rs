//! What a new target shows, and the form of the snapshot that it needs.
//!
//! A writable volume is a layer over a snapshot wherever that can be; otherwise it is a copy.

use std::sync::Arc;

use super::PublishError;
use super::VolumeRequest;
use super::Volumes;
use super::format::may_pass;
use crate::error::chain;
use crate::lease::Form;
use crate::mount::MountError;
use crate::policy::SnapshotChoice;
use crate::snapshot::Image;
use crate::snapshot::Ownership;
use crate::spec::Writable;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::Shows;

/// What a target shows, and the form of the snapshot for it.
pub(super) struct Plan {
    pub(super) shows: Shows,
    pub(super) form: Form,
}

/// Why a writable volume is a copy.
enum NoLayer {
    /// This request does not allow a layer.
    Reason(String),
    /// It cannot be told now.
    Failure(PublishError),
}

impl Volumes {
    /// Plans a new target. If other targets of the volume show something writable, `pinned`, then so does this one.
    ///
    /// # Errors
    ///
    /// Those of [`Volumes::form_for`].
    pub(super) fn plan(&self, request: &VolumeRequest, pinned: Option<&SharedCopy>) -> Result<Plan, PublishError> {
        if request.read_only {
            return Ok(Plan { shows: Shows::Snapshot, form: self.form_for(request)? });
        }
        let (layer, copy) = match request.is_shared() {
            true => (Shows::SharedLayer, Plan { shows: Shows::SharedCopy, form: Form::DIRECTORY }),
            false => (Shows::Layer, Plan { shows: Shows::Copy, form: Form::DIRECTORY }),
        };
        match pinned {
            Some(SharedCopy { layer: true, ownership, .. }) => {
                return Ok(Plan { shows: layer, form: self.form_of_layer(*ownership)? });
            }
            Some(_) => return Ok(copy),
            None if request.spec.writable == Some(Writable::Copy) => return Ok(copy),
            None => {}
        }
        match self.form_under_layer(request) {
            Ok(form) => Ok(Plan { shows: layer, form }),
            Err(NoLayer::Failure(error)) => Err(error),
            Err(NoLayer::Reason(reason)) => {
                let (target, volume_id) = (request.target.display(), &request.volume_id);
                tracing::info!(%target, volume_id, reason, "a writable volume is a copy, since it cannot be an overlay");
                Ok(copy)
            }
        }
    }

    /// Returns the form of a snapshot that has to be made again for a recorded target.
    pub(super) fn form_of_record(&self, record: &Record, request: &VolumeRequest) -> Result<Form, PublishError> {
        match record.shows {
            Shows::Snapshot => self.form_for(request),
            Shows::Copy | Shows::SharedCopy => Ok(Form::DIRECTORY),
            Shows::Layer | Shows::SharedLayer => self.form_of_layer(record.ownership),
        }
    }

    /// Returns the form of a snapshot under a layer that was made over an image with these owners, or over a directory.
    fn form_of_layer(&self, ownership: Option<Ownership>) -> Result<Form, PublishError> {
        let Some(ownership) = ownership else { return Ok(Form::DIRECTORY) };
        match self.try_images() {
            Ok(()) => Ok(Form { format: &Image, ownership }),
            // Only the owners need an image.
            Err(source) if ownership.is_root() && !may_pass(&source) => Ok(Form::DIRECTORY),
            Err(source) => Err(PublishError::NoImages { source }),
        }
    }

    /// Returns the form of the snapshot under a new layer.
    fn form_under_layer(&self, request: &VolumeRequest) -> Result<Form, NoLayer> {
        if request.id_mapped {
            return Err(NoLayer::Reason("the pod has a user namespace, and the kernel maps no ids of overlays".into()));
        }
        self.try_overlays().map_err(|error| NoLayer::Reason(chain(&error)))?;
        let ownership = request.ownership();
        let without_images = match self.snapshot_choice() {
            SnapshotChoice::Directory => "the configuration says \"snapshotFormat\": \"directory\"".to_owned(),
            SnapshotChoice::Auto | SnapshotChoice::Image => match self.try_images() {
                Ok(()) => return Ok(Form { format: &Image, ownership }),
                // A copy would stay one for the volume's life.
                Err(source) if may_pass(&source) => return Err(NoLayer::Failure(PublishError::NoImages { source })),
                Err(source) => chain(&source),
            },
        };
        if ownership.is_root() {
            return Ok(Form::DIRECTORY);
        }
        Err(NoLayer::Reason(format!(
            "the files of a directory belong to root, and there are no images: {without_images}"
        )))
    }

    /// Returns why writable volumes are copies here; `None` if overlays can be mounted. The first call tries it.
    pub fn without_overlays(&self) -> Option<String> {
        self.try_overlays().err().map(|error| chain(&error))
    }

    /// Fails if overlays in this store cannot be mounted. Tries it once, unless it fails for a reason that may pass.
    fn try_overlays(&self) -> Result<(), Arc<MountError>> {
        self.overlays.or_try(
            || {
                let failed = |error: crate::store::StoreError| MountError::NoOverlays {
                    directory: self.store.root().into(),
                    step: "make a directory",
                    source: std::io::Error::other(chain(&error)),
                };
                let staging = self.store.staging().map_err(failed)?;
                self.mounter.check_overlays(staging.path())
            },
            may_pass,
        )
    }
}

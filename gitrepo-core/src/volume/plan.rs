//! What a new target shows, and the form of the snapshot that it needs.
//!
//! A writable volume is a layer over a snapshot wherever that can be; otherwise it is a copy.

use std::io;
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
use crate::store::StoreError;

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
    /// Those of [`Volumes::form_for`]; [`PublishError::NoOverlays`] if it cannot be told now whether overlays can be
    /// mounted, and [`PublishError::NotMapped`].
    pub(super) fn plan(&self, request: &VolumeRequest, pinned: Option<&SharedCopy>) -> Result<Plan, PublishError> {
        if request.read_only {
            return Ok(Plan { shows: Shows::Snapshot, form: self.form_for(request)? });
        }
        let (layer, copy) = match request.is_shared() {
            true => (Shows::SharedLayer, Plan { shows: Shows::SharedCopy, form: Form::DIRECTORY }),
            false => (Shows::Layer, Plan { shows: Shows::Copy, form: Form::DIRECTORY }),
        };
        match pinned {
            Some(SharedCopy { layer: true, .. }) if request.id_mapped => {
                return Err(PublishError::NotMapped { volume_id: request.volume_id.clone() });
            }
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
        self.try_overlays().map_err(|source| match may_pass(&source) {
            // A copy would stay one for the volume's life.
            true => NoLayer::Failure(PublishError::NoOverlays { source }),
            false => NoLayer::Reason(chain(&source)),
        })?;
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
                let failed = |error| MountError::NoOverlays {
                    directory: self.store.root().into(),
                    step: "make a directory",
                    source: error_of(error),
                };
                let staging = self.store.staging().map_err(failed)?;
                self.mounter.check_overlays(staging.path())
            },
            may_pass,
        )
    }
}

/// Returns the system's error, whose number tells whether it may pass. Every other fault of the store may.
fn error_of(error: StoreError) -> io::Error {
    match error {
        StoreError::Io { source, .. } => source,
        other => io::Error::new(io::ErrorKind::ResourceBusy, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;
    use crate::error::Kind;
    use crate::gateway::Gateway;
    use crate::policy::Config;
    use crate::policy::Policy;
    use crate::spec::RepositoryUrl;
    use crate::spec::VolumeSpec;
    use crate::store::Store;
    use crate::testing::FailingMounter;
    use crate::testing::FakeMounter;
    use crate::testing::FakeRemote;
    use crate::testing::mounter::Verb;
    use crate::volume::Format;
    use crate::watch::Watch;
    use crate::worker::InProcess;

    #[test]
    fn a_trial_that_fails_for_a_moment_makes_no_volume_a_copy() {
        for (errno, first, second) in [
            (libc::EIO, Err(Kind::Unavailable), Format::Overlay),
            (libc::EMFILE, Err(Kind::Unavailable), Format::Overlay),
            (libc::EINVAL, Ok(Format::Copy), Format::Copy),
        ] {
            let place = tempfile::tempdir().unwrap();
            let home = place.path().canonicalize().unwrap();
            let url = RepositoryUrl::parse("file:///app.git").unwrap();
            let worker = InProcess::new(Arc::new(FakeRemote::of_one(&url)));
            let mounter = FailingMounter::new(FakeMounter::with_overlays(), Verb::CheckOverlays, 1, errno);
            let gateway = Gateway::new(Policy::new(Config::for_person()), Arc::new(worker));
            let volumes = Volumes::new(Store::open(&home.join("store")).unwrap(), gateway, Arc::new(mounter));
            let publish = |name: &str| {
                let spec = VolumeSpec::new(url.clone());
                let request = VolumeRequest { read_only: false, ..VolumeRequest::new(name, home.join(name), spec) };
                std::fs::create_dir_all(&request.target).unwrap();
                let published = volumes.publish(&request, &Credentials::none(), &Watch::default());
                published.map(|published| published.format).map_err(|error| error.kind())
            };
            assert_eq!(publish("first"), first, "{errno}");
            assert_eq!(publish("second"), Ok(second), "{errno}");
        }
    }

    #[test]
    fn the_number_of_an_error_of_the_store_is_kept() {
        let error = StoreError::io("make", std::path::Path::new("/s"))(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error_of(error).raw_os_error(), Some(libc::ENOSPC));
    }
}

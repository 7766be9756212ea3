//! `gitrepo-cli mount`.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::spec::VolumeSpec;
use gitrepo_core::volume::Format;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::Serving;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;
use gitrepo_frontend::secret_directory;
use serde::Serialize;

use super::request;
use super::sweep;
use crate::arguments::Global;
use crate::arguments::Mount;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mounted {
    repository: String,
    revision: String,
    reference: Option<String>,
    commit: String,
    target: PathBuf,
    outcome: &'static str,
    received_bytes: u64,
    format: Format,
    /// Why a read-only volume is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_images: Option<String>,
}

/// Returns the volume id for a target: here a volume has only one target.
fn volume_id(target: &Path) -> String {
    format!("cli:{}", target.display())
}

/// Refuses options that would have no effect: a read-only directory belongs to root.
fn check_owners(volumes: &Volumes, spec: &VolumeSpec, arguments: &Mount) -> Result<(), CommandError> {
    let given = |flag: &Option<String>| flag.as_ref().is_some_and(|value| !value.is_empty());
    let given = [("uid", spec.uid != 0 || given(&arguments.uid)), ("group", given(&arguments.group))];
    let Some((key, _)) = given.iter().find(|(_, given)| *given) else { return Ok(()) };
    if spec.writable.is_some() {
        return Ok(());
    }
    match volumes.serving() {
        Serving { format: Format::Directory, without_images: Some(reason) } => Err(CommandError::Usage {
            what: format!(
                "{key} is for images and writable volumes, and this volume would be a read-only directory, which belongs \
                 to root; add --writable=private, or see why this node has no images: {reason}"
            ),
        }),
        _ => Ok(()),
    }
}

/// Returns why a read-only volume is a directory.
fn without_images(volumes: &Volumes, format: Format) -> Option<String> {
    (format == Format::Directory).then(|| volumes.serving().without_images).flatten()
}

/// Publishes a volume on the target.
pub(crate) fn run(global: &Global, arguments: &Mount) -> Result<(), CommandError> {
    let watch = request::watch(&arguments.source, global.json)?;
    let more = [
        ("directory", &arguments.directory),
        ("writable", &arguments.writable),
        ("uid", &arguments.uid),
        ("pullPolicy", &arguments.pull_policy),
    ];
    let spec = request::spec(&arguments.source, &arguments.tree, &more)?;
    let group = request::group(&arguments.group)?;
    let credentials = secret_directory::read(arguments.source.secret_dir())?;
    request::require_root("mount")?;
    let target = request::absolute(&arguments.target)?;
    let volumes = configuration::volumes(global, &arguments.store)?;
    check_owners(&volumes, &spec, arguments)?;

    let mut volume = VolumeRequest::new(volume_id(&target), target, spec);
    volume.origin = configuration::ORIGIN;
    volume.read_only = volume.spec.writable.is_none();
    volume.group = group;
    let published = match volumes.publish(&volume, &credentials, &watch) {
        // A kill or a reboot may have removed the mount and left the record. Sweep the record, then try again.
        Err(PublishError::TargetTaken { .. }) => {
            sweep::briefly(&volumes)?;
            volumes.publish(&volume, &credentials, &watch)?
        }
        result => result?,
    };
    drop(watch);
    // A hit leaves nothing, and should take no longer the more volumes there are.
    if let Outcome::Fetched { .. } = published.outcome {
        sweep::in_passing(&volumes);
    }

    let (outcome, received_bytes) = match published.outcome {
        Outcome::Fetched { received_bytes } => ("fetched", received_bytes),
        Outcome::Hit => ("hit", 0),
        Outcome::AlreadyPublished => ("alreadyPublished", 0),
    };
    let result = Mounted {
        repository: volume.spec.repository.to_string(),
        revision: volume.spec.revision.to_string(),
        reference: published.reference,
        commit: published.commit.to_string(),
        target: volume.target,
        outcome,
        received_bytes,
        format: published.format,
        without_images: without_images(&volumes, published.format),
    };
    if let Some(reason) = &result.without_images {
        tracing::info!(reason, "the volume is a directory, because there are no images");
    }
    render::result(global.json, &result, |result| format!("{}  {}", result.commit, result.target.display()))
}

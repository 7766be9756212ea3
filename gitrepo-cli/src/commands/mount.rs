//! `gitrepo-cli mount`.

use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::store::Origin;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::VolumeRequest;
use serde::Serialize;

use super::request;
use crate::arguments::Global;
use crate::arguments::Mount;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::secret_directory;

/// How long a command may spend on what others left behind.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

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
    let credentials = secret_directory::read(arguments.source.secret_dir.as_deref())?;
    request::require_root("mount")?;
    let target = request::absolute(&arguments.target)?;
    let volumes = configuration::volumes(global, &arguments.store)?;

    let volume = VolumeRequest {
        volume_id: super::unmount::volume_id(&target),
        read_only: spec.writable.is_none(),
        origin: Origin::Cli,
        target,
        spec,
        credentials,
    };
    let published = match volumes.publish(&volume, &watch) {
        // Perhaps only by a record whose mount a kill or a reboot has taken: that is collected, and nobody waits for it.
        Err(PublishError::TargetTaken { .. }) => {
            volumes.sweep(Origin::Cli, SWEEP)?;
            volumes.publish(&volume, &watch)?
        }
        result => result?,
    };
    drop(watch);
    if let Err(error) = volumes.sweep(Origin::Cli, SWEEP) {
        tracing::warn!(%error, "leftovers could not be swept");
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
    };
    render::result(global.json, &result, |result| format!("{}  {}", result.commit, result.target.display()))
}

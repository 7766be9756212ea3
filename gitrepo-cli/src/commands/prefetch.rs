//! `gitrepo-cli prefetch`.

use gitrepo_core::lease::Provenance;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_frontend::secret_directory;
use serde::Serialize;

use super::request;
use crate::arguments::Global;
use crate::arguments::Prefetch;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Prefetched {
    repository: String,
    revision: String,
    commit: String,
    outcome: &'static str,
    received_bytes: u64,
}

/// Brings a tree into the store.
pub(crate) fn run(global: &Global, arguments: &Prefetch) -> Result<(), CommandError> {
    let watch = request::watch(&arguments.source, global.json)?;
    let more = [("directory", &arguments.directory), ("uid", &arguments.uid), ("pullPolicy", &arguments.pull_policy)];
    let spec = request::spec(&arguments.source, &arguments.tree, &more)?;
    let mut volume = VolumeRequest::new("cli:prefetch", "/", spec);
    volume.group = request::group(&arguments.group)?;
    volume.read_only = volume.spec.writable.is_none();
    let credentials = secret_directory::read(arguments.source.secret_dir())?;
    request::require_root("prefetch")?;
    let volumes = configuration::volumes(global, &arguments.store)?;
    let lease = volumes.prefetch(&volume, &credentials, &watch)?;
    drop(watch);
    let (outcome, received_bytes) = match lease.provenance() {
        Provenance::Remote { received_bytes } => ("fetched", received_bytes),
        Provenance::Store => ("hit", 0),
    };
    let result = Prefetched {
        repository: volume.spec.repository.to_string(),
        revision: volume.spec.revision.to_string(),
        commit: lease.commit().to_string(),
        outcome,
        received_bytes,
    };
    render::result(global.json, &result, |result| format!("{}  {}", result.commit, result.outcome))
}

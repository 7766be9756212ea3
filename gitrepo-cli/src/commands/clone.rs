//! `gitrepo-cli clone`.

use std::path::PathBuf;

use gitrepo_core::clone::CloneRequest;
use gitrepo_core::clone::clone;
use gitrepo_core::gateway::Gateway;
use gitrepo_core::snapshot::TreeSummary;
use gitrepo_frontend::secret_directory;
use serde::Serialize;

use super::request;
use crate::arguments::Clone;
use crate::arguments::Global;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cloned {
    repository: String,
    revision: String,
    reference: Option<String>,
    commit: String,
    directory: String,
    #[serde(flatten)]
    tree: TreeSummary,
    received_bytes: u64,
}

/// Clones into a plain directory.
pub(crate) fn run(global: &Global, arguments: &Clone) -> Result<(), CommandError> {
    let watch = request::watch(&arguments.source, global.json)?;
    let spec = request::spec(&arguments.source, &arguments.tree, &[])?;
    let credentials = secret_directory::read(arguments.source.secret_dir())?;
    let gateway = Gateway::confined(configuration::read(global.config())?);
    let destination = match &arguments.directory {
        Some(directory) => directory.clone(),
        None if spec.repository.base_name().is_empty() => {
            return Err(CommandError::Usage {
                what: format!("{} has no name: name the directory to clone into", spec.repository),
            });
        }
        None => PathBuf::from(spec.repository.base_name()),
    };

    let cloned = clone(&gateway, &CloneRequest::new(&spec, &credentials, &destination), &watch)?;
    drop(watch);

    let result = Cloned {
        repository: spec.repository.to_string(),
        revision: spec.revision.to_string(),
        reference: cloned.resolved.reference,
        commit: cloned.resolved.commit.to_string(),
        directory: destination.display().to_string(),
        tree: cloned.tree,
        received_bytes: cloned.received_bytes,
    };
    render::result(global.json, &result, |result| {
        let files = result.tree.files + result.tree.symlinks;
        let noun = if files == 1 { "file" } else { "files" };
        format!("{}  {}  {files} {noun}", result.commit, result.directory)
    })
}

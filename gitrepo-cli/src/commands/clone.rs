//! `gitrepo-cli clone`.

use std::path::PathBuf;

use gitrepo_core::clone::CloneRequest;
use gitrepo_core::clone::clone;
use gitrepo_core::gateway::Gateway;
use serde::Serialize;

use super::request;
use crate::arguments::Clone;
use crate::arguments::Global;
use crate::configuration;
use crate::error::CommandError;
use crate::render;
use crate::secret_directory;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cloned {
    repository: String,
    revision: String,
    reference: Option<String>,
    commit: String,
    directory: String,
    files: u64,
    symlinks: u64,
    directories: u64,
    bytes: u64,
    received_bytes: u64,
}

/// Clones into a plain directory.
pub(crate) fn run(global: &Global, arguments: &Clone) -> Result<(), CommandError> {
    let watch = request::watch(&arguments.source, global.json)?;
    let spec = request::spec(&arguments.source, &arguments.tree, &[])?;
    let credentials = secret_directory::read(arguments.source.secret_dir.as_deref())?;
    let gateway = Gateway::confined(configuration::read(global.config.as_deref())?);
    let destination = match &arguments.directory {
        Some(directory) => directory.clone(),
        None if spec.repository.base_name().is_empty() => {
            return Err(CommandError::Usage {
                what: format!("{} has no name: say where to clone to", spec.repository),
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
        files: cloned.tree.files,
        symlinks: cloned.tree.symlinks,
        directories: cloned.tree.directories,
        bytes: cloned.tree.bytes,
        received_bytes: cloned.received_bytes,
    };
    render::result(global.json, &result, |result| {
        let files = result.files + result.symlinks;
        let noun = if files == 1 { "file" } else { "files" };
        format!("{}  {}  {files} {noun}", result.commit, result.directory)
    })
}

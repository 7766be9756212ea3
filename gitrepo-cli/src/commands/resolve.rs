//! `gitrepo-cli resolve`.

use gitrepo_core::gateway::Gateway;
use gitrepo_frontend::secret_directory;
use serde::Serialize;

use super::request;
use crate::arguments::Global;
use crate::arguments::Resolve;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

#[derive(Serialize)]
struct Resolution {
    repository: String,
    revision: String,
    commit: String,
    reference: Option<String>,
}

/// Asks the remote which commit a revision names.
pub(crate) fn run(global: &Global, arguments: &Resolve) -> Result<(), CommandError> {
    let watch = request::watch(&arguments.source, global.json)?;
    let spec = request::lookup(&arguments.source.repository, &arguments.revision)?;
    let credentials = secret_directory::read(arguments.source.secret_dir())?;
    let gateway = Gateway::confined(configuration::read(global.config())?);

    let resolved = gateway.resolve(&spec.repository, &spec.revision, &credentials, &watch)?;
    drop(watch);
    let result = Resolution {
        repository: spec.repository.to_string(),
        revision: spec.revision.to_string(),
        commit: resolved.commit.to_string(),
        reference: resolved.reference,
    };
    render::result(global.json, &result, |result| match &result.reference {
        Some(reference) => format!("{}\t{reference}", result.commit),
        None => result.commit.clone(),
    })
}

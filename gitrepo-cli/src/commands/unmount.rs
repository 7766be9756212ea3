//! `gitrepo-cli unmount`.

use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::store::Origin;
use serde::Serialize;

use super::mount::SWEEP;
use super::request;
use crate::arguments::Global;
use crate::arguments::Unmount;
use crate::configuration;
use crate::error::CommandError;
use crate::render;

#[derive(Serialize)]
struct Unmounted {
    target: PathBuf,
    mounts: usize,
}

/// What the command line calls the volume on a target: it has one per target.
pub(super) fn volume_id(target: &Path) -> String {
    format!("cli:{}", target.display())
}

/// Unpublishes the volume on the target.
pub(crate) fn run(global: &Global, arguments: &Unmount) -> Result<(), CommandError> {
    request::require_root("unmount")?;
    let target = request::absolute(&arguments.target)?;
    let volumes = configuration::existing_volumes(global, &arguments.store)?;

    let unpublished = volumes.unpublish(None, &target, &Cancel::new())?;
    if !unpublished.known && unpublished.mounts == 0 {
        return Err(CommandError::NotAVolume { target, store: volumes.store().root().to_owned() });
    }
    if let Err(error) = volumes.sweep(Origin::Cli, SWEEP) {
        tracing::warn!(%error, "leftovers could not be swept");
    }
    let result = Unmounted { target, mounts: unpublished.mounts };
    render::result(global.json, &result, |result| format!("unmounted {}", result.target.display()))
}

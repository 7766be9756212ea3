//! `gitrepo-cli unmount`.

use std::path::PathBuf;

use serde::Serialize;

use super::request;
use super::sweep;
use crate::arguments::Global;
use crate::arguments::Unmount;
use crate::configuration;
use crate::error::CommandError;
use crate::interrupt;
use crate::render;

#[derive(Serialize)]
struct Unmounted {
    target: PathBuf,
    mounts: usize,
}

/// Unpublishes the volume on the target.
pub(crate) fn run(global: &Global, arguments: &Unmount) -> Result<(), CommandError> {
    request::require_root("unmount")?;
    let target = request::absolute(&arguments.target)?;
    let volumes = configuration::existing_volumes(global, &arguments.store)?;

    let unpublished = volumes.unpublish(None, &target, &interrupt::cancellation())?;
    if !unpublished.known && unpublished.mounts == 0 {
        return Err(CommandError::NotAVolume { target, store: volumes.store().root().to_owned() });
    }
    sweep::in_passing(&volumes);
    let result = Unmounted { target, mounts: unpublished.mounts };
    render::result(global.json, &result, |result| format!("unmounted {}", result.target.display()))
}

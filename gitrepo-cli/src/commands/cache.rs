//! `gitrepo-cli cache`: what is in a store.

mod du;
mod gc;
mod ls;
mod rm;
mod verify;

use std::process::ExitCode;

use crate::arguments::Global;
use crate::arguments::cache::Cache;
use crate::arguments::cache::CacheCommand;
use crate::error::CommandError;

/// Runs a command of `cache`.
pub(crate) fn run(global: &Global, cache: &Cache) -> Result<ExitCode, CommandError> {
    match &cache.command {
        CacheCommand::Ls(list) => ls::run(global, list).map(|()| ExitCode::SUCCESS),
        CacheCommand::Du(list) => du::run(global, list).map(|()| ExitCode::SUCCESS),
        CacheCommand::Gc(gc) => gc::run(global, gc).map(|()| ExitCode::SUCCESS),
        CacheCommand::Verify(verify) => verify::run(global, verify),
        CacheCommand::Rm(remove) => rm::run(global, remove),
    }
}

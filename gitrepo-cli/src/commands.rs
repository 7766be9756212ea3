//! One file per command.

mod cache;
mod clone;
mod completions;
mod doctor;
mod ls;
mod mount;
mod prefetch;
mod request;
mod resolve;
mod sweep;
mod unmount;

use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::arguments::Command;
use crate::error::CommandError;

/// Runs the command. Returns its exit status, which is no success if the result names a problem.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Cache(cache) => return cache::run(global, cache),
        Command::Doctor(doctor) => return doctor::run(global, doctor),
        Command::Prefetch(prefetch) => prefetch::run(global, prefetch),
        Command::Clone(clone) => clone::run(global, clone),
        Command::Mount(mount) => mount::run(global, mount),
        Command::Unmount(unmount) => unmount::run(global, unmount),
        Command::Ls(ls) => ls::run(global, ls),
        Command::Resolve(resolve) => resolve::run(global, resolve),
        Command::Sweep(sweep) => sweep::run(global, sweep),
        Command::Completions { shell } => completions::run(*shell),
    }
    .map(|()| ExitCode::SUCCESS)
}

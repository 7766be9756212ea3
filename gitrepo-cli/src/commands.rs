//! One file per command.

mod clone;
mod completions;
mod ls;
mod mount;
mod request;
mod resolve;
mod sweep;
mod unmount;

use crate::arguments::Arguments;
use crate::arguments::Command;
use crate::error::CommandError;

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> Result<(), CommandError> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Clone(clone) => clone::run(global, clone),
        Command::Mount(mount) => mount::run(global, mount),
        Command::Unmount(unmount) => unmount::run(global, unmount),
        Command::Ls(ls) => ls::run(global, ls),
        Command::Resolve(resolve) => resolve::run(global, resolve),
        Command::Sweep(sweep) => sweep::run(global, sweep),
        Command::Completions { shell } => completions::run(*shell),
    }
}

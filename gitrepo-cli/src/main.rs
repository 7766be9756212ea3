//! `gitrepo-cli`: a git repository as a directory or a mounted volume, from a shell.

mod arguments;
mod commands;
mod configuration;
mod error;
mod interrupt;
mod logging;
mod progress;
mod render;
mod table;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;
use gitrepo_frontend::descriptors;
use gitrepo_frontend::exit;

fn main() -> ExitCode {
    gitrepo_core::worker::run_if_worker();
    descriptors::allow_all();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return exit::usage(&usage),
    };
    logging::start(arguments.global.verbose);
    let json = arguments.global.json;
    match commands::run(arguments) {
        Ok(status) => status,
        Err(error) => {
            render::error(&error, json);
            exit::status(error.kind())
        }
    }
}

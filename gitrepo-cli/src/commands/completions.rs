//! `gitrepo-cli completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::error::CommandError;
use crate::render;

/// Prints the completion script for `shell`.
pub(crate) fn run(shell: Shell) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "gitrepo-cli", &mut script);
    render::raw(&script)
}

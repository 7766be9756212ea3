//! `--verbose`: logs to stderr. Without it, only the result and errors are printed.

use std::io;
use std::io::IsTerminal;

use tracing::Level;

/// Starts logging: at `debug` if `--verbose` is given once, at `trace` if more often, and not at all without it.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(colours);
    log.with_target(false).init();
}

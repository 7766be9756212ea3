//! The installer's own log, written to stderr for the container runtime.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use gitrepo_core::error::chain;
use gitrepo_frontend::log::LogFormat;
use tracing::Level;

use crate::error::InstallError;
use crate::settings::Settings;

/// Starts logging with the driver's log settings.
pub(crate) fn start(settings: &Settings) {
    let config = &settings.configuration.frontend.log;
    let terminal = io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_max_level(Level::from(config.level)).with_writer(io::stderr).with_target(false);
    if config.format == LogFormat::Text || terminal {
        log.with_ansi(terminal).init();
    } else {
        log.json().init();
    }
}

/// Prints why a command failed, for people and for the kubelet, which shows a probe's output in an event.
pub(crate) fn failure(error: &InstallError) {
    // If printing fails, there is nowhere to report it.
    writeln!(io::stderr(), "gitrepo-flex-install: {}", chain(error)).ok();
}

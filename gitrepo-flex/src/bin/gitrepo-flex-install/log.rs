//! The installer's own log: stderr, as a container's should be.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use gitrepo_core::error::chain;
use gitrepo_core::policy::LogFormat;
use gitrepo_core::policy::LogLevel;
use tracing::Level;

use crate::error::InstallError;
use crate::settings::Settings;

/// Starts logging as the driver is told to.
pub(crate) fn start(settings: &Settings) {
    let level = match settings.config.log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_target(false);
    if settings.config.log.format == LogFormat::Text || terminal {
        log.with_ansi(terminal).init();
    } else {
        log.json().init();
    }
}

/// Says why a command failed: to a person, or to the kubelet, which shows a probe's output in an event.
pub(crate) fn failure(error: &InstallError) {
    // There is nobody else to tell.
    writeln!(io::stderr(), "gitrepo-flex-install: {}", chain(error)).ok();
}

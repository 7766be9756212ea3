//! `gitrepo-flex-install`: installs the FlexVolume driver in the kubelet's plugin directory, and removes it.
//!
//! ```text
//!  a person, the DaemonSet ── install   ──► settings ─► driver ─► directory     --stay: ─► stay ─► sweep
//!                             healthy   ──► settings ─► driver
//!                             uninstall ──► in_use ───► driver ─► directory
//! ```
//!
//! The driver is the program `gitrepo-flex` in the directory of this one. It is copied, and its configuration is
//! written beside it. Every change is a rename, and files that are already right are not written: the kubelet watches
//! the directory and calls `init` after each change of a name without a leading dot (kubelet
//! `pkg/volume/flexvolume/probe.go`).

mod arguments;
mod directory;
mod driver;
mod error;
mod in_use;
mod log;
mod names;
mod predecessor;
mod program;
mod settings;
mod stay;
mod sweep;

use std::path::Path;
use std::process::ExitCode;

use arguments::Arguments;
use arguments::Command;
use clap::Parser;
use driver::Driver;
use error::InstallError;
use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;
use gitrepo_frontend::exit;
use program::Program;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return exit::usage(&usage),
    };
    let done = drop_capabilities().and_then(|()| match &arguments.command {
        Command::Install(install) => run_install(install),
        Command::Uninstall(uninstall) => run_uninstall(uninstall),
        Command::Healthy(healthy) => run_healthy(healthy),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// Must run while there is one thread: later threads inherit its capabilities.
fn drop_capabilities() -> Result<(), InstallError> {
    capabilities::drop_others(Role::Installer)
        .map_err(InstallError::io("drop the capabilities that are not needed of", Path::new("/proc/self")))
}

fn run_install(arguments: &arguments::Install) -> Result<(), InstallError> {
    // Watch for signals first, so that an early one is not lost.
    let ending = arguments.stay.then(stay::Ending::watch).transpose()?;
    let settings = settings::read(&arguments.settings)?;
    log::start(&settings);
    let (driver, program) = (Driver::of(&arguments.place), Program::open()?);
    match ending {
        None => driver.install(&program, &settings, &arguments.making),
        Some(ending) => stay::run(arguments, &driver, &program, &ending),
    }
}

fn run_uninstall(arguments: &arguments::Uninstall) -> Result<(), InstallError> {
    let ending = arguments.stay.then(stay::Ending::watch).transpose()?;
    let settings = settings::read(&arguments.settings)?;
    log::start(&settings);
    let driver = Driver::of(&arguments.place);
    if !arguments.force {
        in_use::refuse(&driver, &settings.configuration, &arguments.kubelet.pods())?;
    }
    driver.uninstall()?;
    ending.map_or(Ok(()), |ending| ending.wait())
}

fn run_healthy(arguments: &arguments::Healthy) -> Result<(), InstallError> {
    let settings = settings::read(&arguments.settings)?;
    Driver::of(&arguments.place).check(&Program::open()?, &settings)
}

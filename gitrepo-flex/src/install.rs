//! What people and the DaemonSet run: `install`, `uninstall`, `healthy`. The kubelet's calls are not among them.
//!
//! The executable copies itself to where the kubelet looks for FlexVolume drivers, with its configuration beside it. Every
//! change there is a rename, and nothing is written that is there already: the kubelet watches the directory and asks
//! the driver anew (`init`) after each change of a name without a leading dot (kubelet
//! `pkg/volume/flexvolume/probe.go`).

mod arguments;
mod directory;
mod driver;
mod error;
mod in_use;
mod log;
mod names;
mod predecessor;
mod settings;
mod stay;
mod sweep;

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use arguments::Arguments;
use arguments::Command;
use clap::Parser;
use driver::Driver;
use error::InstallError;
use gitrepo_core::capabilities;
use gitrepo_core::capabilities::Role;

/// Exit status of a command line that is wrong, after `sysexits.h`.
const USAGE: u8 = 64;

/// The first words of a command line that is meant for [`run`]; everything else is a call of the kubelet.
pub(crate) fn is_command(word: &OsStr) -> bool {
    const WORDS: [&str; 8] = ["install", "uninstall", "healthy", "help", "--help", "-h", "--version", "-V"];
    WORDS.iter().any(|known| word == *known)
}

/// Runs the command line, whose first word is the program's name.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) => {
            // There is nobody else to tell.
            usage.print().ok();
            return if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
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

/// While there is one thread: all that start later have what this one has.
fn drop_capabilities() -> Result<(), InstallError> {
    capabilities::drop_others(Role::Installer)
        .map_err(InstallError::io("drop the capabilities that are not needed of", Path::new("/proc/self")))
}

fn run_install(arguments: &arguments::Install) -> Result<(), InstallError> {
    // Before anything else, so that a signal that comes early is not lost.
    let ending = arguments.stay.then(stay::Ending::watch).transpose()?;
    let settings = settings::read(&arguments.settings)?;
    log::start(&settings);
    let driver = Driver::of(&arguments.place);
    match ending {
        None => driver.install(&settings, &arguments.making).map(drop),
        Some(ending) => stay::run(arguments, &driver, &ending),
    }
}

fn run_uninstall(arguments: &arguments::Uninstall) -> Result<(), InstallError> {
    let ending = arguments.stay.then(stay::Ending::watch).transpose()?;
    let settings = settings::read(&arguments.settings)?;
    log::start(&settings);
    let driver = Driver::of(&arguments.place);
    if !arguments.force {
        in_use::refuse(&driver, &settings.config, &arguments.kubelet.pods())?;
    }
    driver.uninstall()?;
    ending.map_or(Ok(()), |ending| ending.wait())
}

fn run_healthy(arguments: &arguments::Healthy) -> Result<(), InstallError> {
    let settings = settings::read(&arguments.settings)?;
    Driver::of(&arguments.place).check(&settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_of_the_kubelet_is_a_command() {
        // kubelet pkg/volume/flexvolume/driver-call.go
        let calls = [
            "init",
            "attach",
            "detach",
            "waitforattach",
            "isattached",
            "mountdevice",
            "unmountdevice",
            "mount",
            "unmount",
            "expandvolume",
            "expandfs",
            "getvolumename",
        ];
        for call in calls {
            assert!(!is_command(OsStr::new(call)), "{call}");
        }
    }
}

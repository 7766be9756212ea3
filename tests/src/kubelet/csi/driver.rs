//! The driver's process, in the mount namespace of the thread that starts it.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use crate::program;
use crate::program::Program;
use crate::program::Running;

/// A running driver. Killed when dropped.
pub(super) struct Driver {
    pub(super) process: Running,
    _home: Program,
}

impl Driver {
    /// Starts it. Appends its output to `log`.
    pub(super) fn start(arguments: &[OsString], log: &Path) -> Self {
        let program = Program::new(program::executable("gitrepo-csi"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = program.command(arguments);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self { process: Running::new(child), _home: program }
    }
}

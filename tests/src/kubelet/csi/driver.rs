//! The driver's process, in the mount namespace of the thread that starts it.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::program;
use crate::program::Program;

/// A running driver. Killed when dropped.
pub(super) struct Driver {
    child: Child,
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
        Self { child, _home: program }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        // The process has not been reaped, so the id is still its own. A dead process ignores the signal.
        nix::sys::signal::kill(Pid::from_raw(self.id().cast_signed()), signal).unwrap();
    }

    pub(super) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have exited by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

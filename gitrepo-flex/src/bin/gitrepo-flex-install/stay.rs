//! `--stay`: keeps running as a DaemonSet's process, usually PID 1 of its container.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use gitrepo_core::error::chain;
use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;

use crate::arguments::Install;
use crate::driver::Driver;
use crate::error::InstallError;
use crate::program::Program;
use crate::settings;
use crate::settings::Settings;
use crate::sweep;

/// Waits for SIGTERM or SIGINT. PID 1 of a container receives them only if it handles them.
pub(crate) struct Ending(SignalFd);

impl Ending {
    /// From now on these signals end only the wait, not the process. Must be called before any other thread starts,
    /// since threads inherit the signal mask.
    pub(crate) fn watch() -> Result<Self, InstallError> {
        let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
        let blocked = signals.thread_block();
        let watched = blocked.and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC));
        watched.map(Self).map_err(InstallError::io("wait for signals with", Path::new("signalfd")))
    }

    /// Waits for a signal.
    pub(crate) fn wait(&self) -> Result<(), InstallError> {
        while !self.within(Duration::MAX)? {}
        Ok(())
    }

    /// Waits at most `limit`. Returns whether a signal came.
    fn within(&self, limit: Duration) -> Result<bool, InstallError> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(InstallError::io("wait with", Path::new("poll"))(errno)),
        }
    }
}

/// Keeps the driver installed until a signal, and leaves it installed: pods with volumes outlive this one.
pub(crate) fn run(
    arguments: &Install,
    driver: &Driver,
    program: &Program,
    ending: &Ending,
) -> Result<(), InstallError> {
    sweep::from_now_on(arguments)?;
    let mut keeper = Keeper { arguments, driver, program, kept: None, complaint: None };
    loop {
        keeper.look();
        if ending.within(arguments.interval)? {
            tracing::info!(driver = %driver.executable().display(), "ending; the driver stays installed");
            return Ok(());
        }
    }
}

/// The last installation that was right.
struct Kept {
    settings: Settings,
    executable: Fingerprint,
    configuration: Fingerprint,
}

struct Keeper<'a> {
    arguments: &'a Install,
    driver: &'a Driver,
    program: &'a Program,
    kept: Option<Kept>,
    /// The last logged error, so that a lasting error is logged only once.
    complaint: Option<String>,
}

impl Keeper<'_> {
    fn look(&mut self) {
        match self.install() {
            Ok(()) => self.complaint = None,
            Err(error) => {
                let complaint = chain(&error);
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(error = %complaint, "cannot keep the driver installed; trying again");
                    self.complaint = Some(complaint);
                }
            }
        }
    }

    /// Installs the driver if one of its files or the settings have changed; otherwise does not read the files.
    fn install(&mut self) -> Result<(), InstallError> {
        let settings = settings::read(&self.arguments.settings)?;
        let now = || (Fingerprint::of(&self.driver.executable()), Fingerprint::of(&self.driver.configuration()));
        if let Some(kept) = &self.kept
            && kept.settings == settings
            && now() == (Some(kept.executable), Some(kept.configuration))
        {
            return Ok(());
        }
        self.kept = None;
        self.driver.install(self.program, &settings, &self.arguments.making)?;
        if let (Some(executable), Some(configuration)) = now() {
            self.kept = Some(Kept { settings, executable, configuration });
        }
        Ok(())
    }
}

/// Distinguishes a file from other files and from its own earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    /// The ctime, which nobody can set back: seconds, nanoseconds.
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(Self { device: found.dev(), inode: found.ino(), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

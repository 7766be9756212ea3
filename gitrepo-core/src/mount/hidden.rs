//! A filesystem that is mounted where nobody sees it yet.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Explained;
use super::private_directory::FailedStep;
use super::private_directory::PrivateDirectory;
use crate::error::Cause;
use crate::sys;

/// A filesystem that nobody sees yet. Dropping it unmounts it.
pub(super) enum Hidden {
    /// Attached nowhere.
    Detached(OwnedFd),
    /// In a private directory.
    InDirectory(PrivateDirectory),
}

impl Hidden {
    /// Returns the path of its root, for this process.
    pub(super) fn root(&self) -> PathBuf {
        match self {
            Self::Detached(mount) => format!("/proc/self/fd/{}", mount.as_raw_fd()).into(),
            Self::InDirectory(directory) => directory.mount(),
        }
    }

    /// Shows the filesystem on a directory.
    pub(super) fn attach(self, target: BorrowedFd<'_>) -> Result<(), FailedStep> {
        match self {
            Self::Detached(mount) => {
                sys::mount::attach(mount.as_fd(), target).map_err(|error| ("move_mount", error.into()))
            }
            Self::InDirectory(directory) => directory.move_to(target),
        }
    }
}

/// Adds to an error of the kernel what it said about it. `plain` is the one that the caller knows what to do about, and
/// `missing` the filesystem that a kernel may lack.
pub(super) fn explained(error: Errno, plain: Errno, missing: &str, said: impl FnOnce() -> Option<Cause>) -> io::Error {
    match error {
        error if error == plain => error.into(),
        Errno::ENODEV => {
            let text = format!("this kernel has no {missing}");
            io::Error::new(io::ErrorKind::Unsupported, Explained { text, source: error.into() })
        }
        _ => match said() {
            Some(said) => Explained::wrap(format!("the kernel says {:?}", said.to_string()), error.into()),
            None => error.into(),
        },
    }
}

/// Returns the messages that the kernel left on the descriptor of a filesystem: a letter for the severity, and a text.
pub(super) fn messages(filesystem: OwnedFd) -> Option<Cause> {
    let mut filesystem = File::from(filesystem);
    let mut message = [0; 4096];
    let mut said = Vec::new();
    while let Ok(length @ 1..) = filesystem.read(&mut message) {
        let text = String::from_utf8_lossy(&message[..length]).trim_end().to_owned();
        if let Some(("e" | "w", text)) = text.split_once(' ') {
            said.push(text.to_owned());
        }
    }
    (!said.is_empty()).then(|| Cause::new(said.join("; ")))
}

//! Read-only loop devices, for images on a kernel or filesystem that cannot mount a file itself.
//!
//! A device is freed with its last user: the mount, or the process that sets it up. So an unmount or a kill leaves none.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Explained;
use crate::sys;

const CONTROL: &str = "/dev/loop-control";

/// How often to try when other processes take the device that is free, or still have a free one open.
const ATTEMPTS: usize = 1000;

/// A device with a file attached.
#[derive(Debug)]
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Attaches a file, which is open for reading, to a free device.
    pub(super) fn attach(file: BorrowedFd<'_>) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open(CONTROL);
        let control = control.map_err(|error| unusable(Path::new(CONTROL), error))?;
        for _ in 0..ATTEMPTS {
            let number = sys::loop_device::free_number(control.as_fd())
                .map_err(|error| Explained::wrap(format!("{CONTROL} has no free device"), error.into()))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::open(&path).map_err(|error| unusable(&path, error))?;
            match configure(device.as_fd(), file) {
                Ok(()) => return Ok(Self { path, _open: device }),
                Err(Errno::EBUSY | Errno::EAGAIN) => {}
                Err(error) => {
                    return Err(Explained::wrap(format!("cannot set up {}", path.display()), error.into()));
                }
            }
        }
        let text = format!("other processes took each of {ATTEMPTS} free loop devices");
        Err(Explained::wrap(text, Errno::EBUSY.into()))
    }

    /// Returns the device's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> nix::Result<()> {
    match sys::loop_device::configure(device, file) {
        // Unknown before Linux 5.8.
        Err(Errno::EINVAL | Errno::ENOTTY) => sys::loop_device::configure_in_two_calls(device, file),
        done => done,
    }
}

fn unusable(path: &Path, error: io::Error) -> io::Error {
    let path = path.display();
    Explained::wrap(format!("cannot open {path}; a container needs the host's /dev"), error)
}

/// Returns the file behind a loop device, ending in `//deleted` if it was deleted; `None` if this is no loop device or
/// sysfs is missing.
pub(super) fn backing_file(device: &Path) -> Option<PathBuf> {
    let name = device.strip_prefix("/dev").ok()?;
    let sysfs = Path::new("/sys/block").join(name).join("loop/backing_file");
    let mut path = fs::read(sysfs).ok()?;
    path.pop_if(|last| *last == b'\n');
    Some(with_the_suffix_of_the_mount_table(&path))
}

fn with_the_suffix_of_the_mount_table(path: &[u8]) -> PathBuf {
    match path.strip_suffix(b" (deleted)") {
        Some(path) => OsString::from_vec([path, b"//deleted"].concat()).into(),
        None => OsStr::from_bytes(path).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_file_is_marked_as_in_the_mount_table() {
        for (shown, path) in [("/s/image", "/s/image"), ("/s/image (deleted)", "/s/image//deleted")] {
            assert_eq!(with_the_suffix_of_the_mount_table(shown.as_bytes()).as_os_str(), path);
        }
    }

    #[test]
    fn other_devices_and_names_have_no_file_behind_them() {
        for source in ["/dev/null", "/dev", "none", "", "/dev/../dev/loop"] {
            assert_eq!(backing_file(Path::new(source)), None, "{source:?}");
        }
    }
}

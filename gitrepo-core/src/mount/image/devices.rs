//! The files with the content of an image, checked before the kernel opens them.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use nix::fcntl::AtFlags;
use nix::sys::stat::SFlag;
use nix::sys::stat::fstatat;

use crate::mount::MountError;
use crate::mount::Role;
use crate::mount::directory;

/// The devices of one image. There may be more than a process may have open, but few directories have them all.
pub(super) struct Devices {
    directories: Vec<OwnedFd>,
    files: Vec<(usize, CString)>,
}

impl Devices {
    /// Checks that there are as many devices as the image lists, and that each is a regular file of at least the listed
    /// length. The kernel accepts an image without any of them, and files that are too short, and fails to read later.
    pub(super) fn check(image: &Path, paths: &[PathBuf], listed: &[u64]) -> Result<Self, MountError> {
        if paths.len() != listed.len() {
            return Err(MountError::DeviceCount { image: image.into(), listed: listed.len(), given: paths.len() });
        }
        let mut devices = Self { directories: Vec::new(), files: Vec::new() };
        let mut known = HashMap::new();
        for (path, &listed) in paths.iter().zip(listed) {
            let unusable = || MountError::Path { path: path.clone(), role: Role::Device };
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(unusable()) };
            let name = CString::new(name.as_bytes()).map_err(|_| unusable())?;
            let at = match known.get(parent) {
                Some(&at) => at,
                None => {
                    devices.directories.push(directory::open(parent, Role::Device)?);
                    known.insert(parent, devices.directories.len() - 1);
                    devices.directories.len() - 1
                }
            };
            let length = length(devices.directories[at].as_fd(), &name, path)?;
            if length < listed {
                return Err(MountError::ShortDevice { image: image.into(), device: path.clone(), length, listed });
            }
            devices.files.push((at, name));
        }
        Ok(devices)
    }

    /// Returns a short path to each device, which leads to the directory that was checked.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let path = |(at, name): &(usize, CString)| {
            let directory = self.directories[*at].as_raw_fd();
            Path::new(&format!("/proc/self/fd/{directory}")).join(OsStr::from_bytes(name.to_bytes()))
        };
        self.files.iter().map(path).collect()
    }

    /// Opens each device for reading.
    pub(super) fn open(&self) -> impl Iterator<Item = io::Result<File>> {
        self.files.iter().map(|(at, name)| directory::open_file_in(self.directories[*at].as_fd(), name))
    }
}

/// Returns the length of a device.
fn length(directory: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<u64, MountError> {
    let failed = |source| MountError::Directory { path: path.into(), role: Role::Device, source };
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|error| failed(error.into()))?;
    match directory::kind(&found) {
        SFlag::S_IFREG => Ok(found.st_size.unsigned_abs()),
        SFlag::S_IFLNK => Err(MountError::Symlink { path: path.into(), role: Role::Device, link: path.into() }),
        _ => Err(failed(directory::not_a_regular_file())),
    }
}

//! The files with the content of an image, checked before the kernel opens them.

use std::collections::HashMap;
use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
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
    /// length. The kernel checks neither of these, and reads fail later.
    pub(super) fn check(image: &Path, paths: &[PathBuf], listed: &[u64]) -> Result<Self, MountError> {
        if paths.len() != listed.len() {
            return Err(MountError::DeviceCount { image: image.into(), listed: listed.len(), given: paths.len() });
        }
        let mut devices = Self { directories: Vec::new(), files: Vec::new() };
        let mut known = HashMap::new();
        for (path, &listed) in paths.iter().zip(listed) {
            let unusable = || MountError::Path { path: path.clone(), role: Role::Device };
            let failed = |source| MountError::Directory { path: path.clone(), role: Role::Device, source };
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(unusable()) };
            let at = match known.get(parent) {
                Some(&at) => at,
                None => {
                    devices.directories.push(directory::open(parent, Role::Device)?);
                    let at = devices.directories.len() - 1;
                    known.insert(parent, at);
                    at
                }
            };
            let name = CString::new(name.as_bytes()).map_err(|_| unusable())?;
            let directory = &devices.directories[at];
            let found = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            let found = found.map_err(|error| failed(error.into()))?;
            match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG => {}
                SFlag::S_IFLNK => {
                    return Err(MountError::Symlink { path: path.clone(), role: Role::Device, link: path.clone() });
                }
                _ => return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "not a regular file"))),
            }
            let length = u64::try_from(found.st_size).unwrap_or(0);
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

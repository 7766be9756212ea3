//! Makes the filesystem of an image.

use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Backing;
use crate::error::Cause;
use crate::mount::CONTEXT;
use crate::mount::EROFS;
use crate::mount::Explained;
use crate::mount::hidden;
use crate::mount::hidden::Hidden;
use crate::mount::hidden::messages;
use crate::mount::kernel_log::KernelLog;
use crate::mount::linux::Strategy;
use crate::mount::loop_device::LoopDevice;
use crate::mount::private_directory::FailedStep;
use crate::mount::private_directory::PrivateDirectory;
use crate::spec::Label;
use crate::sys;

/// What the kernel shall open.
pub(super) struct Parts {
    source: PathBuf,
    devices: Vec<PathBuf>,
    label: Option<Label>,
    /// Attached until the filesystem, which then keeps them, is made.
    _loop_devices: Vec<LoopDevice>,
}

impl Parts {
    /// The files themselves.
    pub(super) fn files(source: impl Into<PathBuf>, devices: Vec<PathBuf>) -> Self {
        Self { source: source.into(), devices, label: None, _loop_devices: Vec::new() }
    }

    /// Gives all files this SELinux label.
    pub(super) fn labelled(self, label: Option<&Label>) -> Self {
        Self { label: label.cloned(), ..self }
    }

    /// A loop device for each file.
    pub(super) fn loop_devices(source: &File, devices: impl Iterator<Item = io::Result<File>>) -> io::Result<Self> {
        let source = LoopDevice::attach(source.as_fd())?;
        let devices: Vec<_> =
            devices.map(|file| LoopDevice::attach(file?.as_fd())).collect::<Result<_, io::Error>>()?;
        Ok(Self {
            source: source.path().to_owned(),
            devices: devices.iter().map(|device| device.path().to_owned()).collect(),
            label: None,
            _loop_devices: devices.into_iter().chain([source]).collect(),
        })
    }

    /// Returns the options for mount(2); `None` if they do not fit.
    fn options(&self) -> Option<CString> {
        let mut options = Vec::new();
        for device in &self.devices {
            let path = device.as_os_str().as_bytes();
            if path.contains(&b',') {
                return None;
            }
            options.extend([if options.is_empty() { &b"device="[..] } else { b",device=" }, path].concat());
        }
        if let Some(label) = &self.label {
            let separator: &[u8] = if options.is_empty() { b"" } else { b"," };
            options.extend([separator, CONTEXT.to_bytes(), b"=", label.as_c_str().to_bytes()].concat());
        }
        (options.len() < OPTIONS).then(|| CString::new(options).ok()).flatten()
    }
}

/// The space for the options of mount(2), with a zero byte at the end. The kernel ignores what is beyond.
const OPTIONS: usize = 4096;

/// Older kernels refuse a longer value of one option with EINVAL.
const VALUE: usize = 255;

impl Hidden {
    /// Mounts the parts, read-only.
    fn mount_parts(parts: &Parts, strategy: Strategy, workdir: &Path) -> Result<Self, FailedStep> {
        match (strategy, parts.options()) {
            (Strategy::Detached, _) => detached(parts).map(Self::Detached),
            (Strategy::PrivateDirectory, Some(options)) => {
                let directory = PrivateDirectory::make(workdir)?;
                let log = KernelLog::from_now_on(EROFS);
                match directory.mount_new(EROFS, &parts.source, &options, true) {
                    Ok(()) => Ok(Self::InDirectory(directory)),
                    Err(error) => Err(("mount", explained(error, || log.complaints()))),
                }
            }
            (Strategy::PrivateDirectory, None) => detached(parts).map(Self::Detached).map_err(too_many_devices),
        }
    }

    /// Mounts the files themselves, or loop devices where the kernel cannot do that.
    pub(super) fn mount_either(
        files: &Parts,
        loop_devices: impl FnOnce() -> io::Result<Parts>,
        strategy: Strategy,
        workdir: &Path,
    ) -> Result<(Self, Backing), FailedStep> {
        match Self::mount_parts(files, strategy, workdir) {
            Err((_, error)) if error.raw_os_error() == Some(libc::ENOTBLK) => {
                let devices = loop_devices()
                    .map_err(|error| ("attach loop devices, since the kernel cannot mount these files", error))?;
                Ok((Self::mount_parts(&devices, strategy, workdir)?, Backing::LoopDevices))
            }
            mounted => Ok((mounted?, Backing::Files)),
        }
    }

    /// Reads a file of the filesystem.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.root().join(name))
    }
}

fn detached(parts: &Parts) -> Result<OwnedFd, FailedStep> {
    let log = KernelLog::from_now_on(EROFS);
    let filesystem = sys::mount::open_filesystem(c"erofs").map_err(|error| ("fsopen", explained(error, || None)))?;
    match configure_and_mount(filesystem.as_fd(), parts) {
        Ok(mount) => Ok(mount),
        Err((step, error)) => Err((step, explained(error, || messages(filesystem).or_else(|| log.complaints())))),
    }
}

fn configure_and_mount(filesystem: BorrowedFd<'_>, parts: &Parts) -> Result<OwnedFd, (&'static str, Errno)> {
    set_path(filesystem, c"source", &parts.source).map_err(|error| ("fsconfig: source", error))?;
    for device in &parts.devices {
        set_path(filesystem, c"device", device).map_err(|error| ("fsconfig: device", error))?;
    }
    if let Some(label) = &parts.label {
        sys::mount::set_option(filesystem, CONTEXT, label.as_c_str()).map_err(|error| ("fsconfig: context", error))?;
    }
    sys::mount::set_flag(filesystem, c"ro").map_err(|error| ("fsconfig: ro", error))?;
    sys::mount::create_filesystem(filesystem).map_err(|error| ("fsconfig: create", error))?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::mount::mount_filesystem(filesystem, attributes).map_err(|error| ("fsmount", error))
}

fn set_path(filesystem: BorrowedFd<'_>, key: &CStr, path: &Path) -> nix::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    match sys::mount::set_option(filesystem, key, &path) {
        Err(Errno::EINVAL) if path.count_bytes() > VALUE => Err(Errno::ENAMETOOLONG),
        set => set,
    }
}

fn explained(error: Errno, said: impl FnOnce() -> Option<Cause>) -> io::Error {
    hidden::explained(error, Errno::ENOTBLK, "EROFS (CONFIG_EROFS_FS)", said)
}

/// For a container whose filter hides the newer calls.
fn too_many_devices((step, error): FailedStep) -> FailedStep {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => {
            let text = format!(
                "the image has too many devices for mount(2), whose options end after {OPTIONS} bytes, and fsopen(2) \
                 (Linux 5.2) is missing or not permitted"
            );
            (step, io::Error::new(io::ErrorKind::Unsupported, Explained { text, source: error }))
        }
        _ => (step, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(device: &str, count: usize) -> Parts {
        Parts::files("/image", vec![device.into(); count])
    }

    #[test]
    fn options_are_for_mount_as_long_as_they_fit() {
        assert_eq!(parts("", 0).options().unwrap(), c"".to_owned());
        assert_eq!(parts("/a", 2).options().unwrap(), c"device=/a,device=/a".to_owned());
        // 10 bytes each, with a comma but for the last; and one is for the zero.
        assert_eq!(parts("/a", 409).options().unwrap().count_bytes(), 4089);
        assert_eq!(parts("/a", 410).options(), None);
    }

    #[test]
    fn a_label_follows_the_devices() {
        let label = Label::of_containers();
        let options = |count| parts("/a", count).labelled(Some(&label)).options().unwrap();
        assert_eq!(options(0), c"context=system_u:object_r:container_file_t:s0".to_owned());
        assert_eq!(options(1), c"device=/a,context=system_u:object_r:container_file_t:s0".to_owned());
    }

    #[test]
    fn a_comma_would_end_an_option() {
        assert_eq!(parts("/a,b", 1).options(), None);
    }
}

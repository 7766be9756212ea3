//! The project quotas of the kernel's filesystems.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::ProjectQuota;
use super::ProjectUsage;
use crate::sys;
use crate::sys::quota::Entry;
use crate::sys::quota::INHERIT;
use crate::sys::quota::UNIT;

/// What the filesystem of a path has (Linux 5.14). Setting a limit needs `CAP_SYS_ADMIN`, and a project the initial user
/// namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelQuota;

impl ProjectQuota for KernelQuota {
    fn is_enforced(&self, place: &Path) -> io::Result<bool> {
        match sys::quota::is_enforced(open(place, libc::O_PATH)?.as_fd()) {
            // Kernels and filesystems without quotas, or without those of projects; what a container's filter hides.
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::ESRCH | Errno::EINVAL | Errno::EPERM | Errno::ENODEV) => {
                Ok(false)
            }
            told => Ok(told?),
        }
    }

    fn project_of(&self, file: &Path) -> io::Result<u32> {
        match sys::quota::attributes(&open(file, 0)?) {
            // A filesystem without attributes has no projects either.
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(0),
            found => Ok(found?.project),
        }
    }

    fn set_project(&self, file: &Path, project: u32) -> io::Result<()> {
        let opened = open(file, 0)?;
        let mut attributes = sys::quota::attributes(&opened)?;
        attributes.project = project;
        // Only a directory may have the flag.
        match project != 0 && opened.metadata()?.is_dir() {
            true => attributes.flags |= INHERIT,
            false => attributes.flags &= !INHERIT,
        }
        Ok(sys::quota::set_attributes(&opened, &attributes)?)
    }

    fn usage(&self, place: &Path, project: u32) -> io::Result<ProjectUsage> {
        match sys::quota::entry(open(place, libc::O_PATH)?.as_fd(), project) {
            Err(Errno::ENOENT) => Ok(ProjectUsage::default()),
            entry => Ok(entry?.into()),
        }
    }

    fn limit(&self, place: &Path, project: u32, bytes: u64) -> io::Result<()> {
        Ok(sys::quota::set_limit(open(place, libc::O_PATH)?.as_fd(), project, bytes.div_ceil(UNIT))?)
    }

    fn next(&self, place: &Path, project: u32) -> io::Result<Option<(u32, ProjectUsage)>> {
        match sys::quota::next(open(place, libc::O_PATH)?.as_fd(), project) {
            Err(Errno::ENOENT) => Ok(None),
            entry => entry.map(|entry| Some((entry.project, entry.into()))).map_err(io::Error::from),
        }
    }
}

impl From<Entry> for ProjectUsage {
    fn from(entry: Entry) -> Self {
        Self { bytes: entry.bytes, inodes: entry.inodes, limit: entry.hard_limit.saturating_mul(UNIT) }
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    File::options().read(true).custom_flags(flags | libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_without_quotas_has_no_projects() {
        // The kernel's own, which has neither.
        let place = Path::new("/proc");
        assert!(!KernelQuota.is_enforced(place).unwrap());
        assert_eq!(KernelQuota.project_of(place).unwrap(), 0);
        assert!(KernelQuota.usage(place, 1).is_err() && KernelQuota.set_project(place, 1).is_err());
        assert_eq!(KernelQuota.is_enforced(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

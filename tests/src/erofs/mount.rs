//! Mounts of images.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::mount::MsFlags;

use super::Content;
use super::Entry;
use crate::git;

/// How the kernel reads an image and its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As files.
    Files,
    /// As block devices: read-only loop devices.
    LoopDevices,
}

/// A mounted image, unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
}

impl Way {
    /// Whether this kernel has such mounts, tried with an image that needs no device.
    pub fn works(self, image: &Path, target: &Path) -> bool {
        match self.mount(image, &[], target) {
            Ok(_) => true,
            // Without EROFS, and before Linux 6.12 or on a filesystem that cannot carry an image.
            Err(Errno::ENODEV | Errno::ENOTBLK) => false,
            Err(error) => panic!("mount {} as {self:?}: {error}", image.display()),
        }
    }

    /// Mounts an image with its devices on a directory, in the thread's mount namespace.
    pub fn mount(self, image: &Path, devices: &[PathBuf], target: &Path) -> nix::Result<Mounted> {
        match self {
            Self::Files => mount(image, devices, target),
            Self::LoopDevices => {
                let image = LoopDevice::new(image);
                let devices: Vec<_> = devices.iter().map(|file| LoopDevice::new(file)).collect();
                let paths: Vec<_> = devices.iter().map(|device| device.path.clone()).collect();
                // Each is freed with its last user, which is the mount.
                mount(&image.path, &paths, target)
            }
        }
    }
}

fn mount(image: &Path, devices: &[PathBuf], target: &Path) -> nix::Result<Mounted> {
    let options: Vec<_> = devices.iter().map(|device| format!("device={}", device.display())).collect();
    let options = options.join(",");
    // The kernel cuts longer ones.
    assert!(options.len() < 4096, "{} bytes of options", options.len());
    nix::mount::mount(Some(image), target, Some("erofs"), MsFlags::MS_RDONLY, Some(&*options))?;
    Ok(Mounted { target: target.to_owned() })
}

impl Mounted {
    /// The root of the image.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// All entries by their path; that of the root is empty.
    pub fn entries(&self) -> BTreeMap<Vec<u8>, Entry> {
        let mut entries = BTreeMap::new();
        let mut unread = vec![Vec::new()];
        while let Some(path) = unread.pop() {
            let entry = entry(&self.target.join(OsStr::from_bytes(&path)));
            if entry.content == Content::Directory {
                for child in fs::read_dir(self.target.join(OsStr::from_bytes(&path))).unwrap() {
                    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    unread.push([&path, separator, child.unwrap().file_name().as_bytes()].concat());
                }
            }
            assert_eq!(entries.insert(path, entry), None);
        }
        entries
    }
}

fn entry(path: &Path) -> Entry {
    let found = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!((found.mtime_nsec(), found.atime(), found.ctime()), (0, found.mtime(), found.mtime()));
    let content = match found.file_type() {
        kind if kind.is_dir() => Content::Directory,
        kind if kind.is_symlink() => {
            let target = fs::read_link(path).unwrap().into_os_string().into_vec();
            assert_eq!(found.len(), target.len() as u64);
            Content::Symlink(target)
        }
        kind => {
            assert!(kind.is_file(), "{}", path.display());
            Content::File { size: found.len(), place: None }
        }
    };
    let (mode, links) = (found.mode(), found.nlink());
    Entry { mode, uid: found.uid(), gid: found.gid(), links, mtime: found.mtime(), content }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, because a failed test may have left open files. An error here would hide the panic that led here.
        let _ = nix::mount::umount2(&self.target, MntFlags::MNT_DETACH);
    }
}

/// A read-only loop device, freed when it is dropped and no mount uses it.
struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    fn new(file: &Path) -> Self {
        let path = git::line(Command::new("losetup").args(["--read-only", "--find", "--show"]).arg(file));
        Self { path: path.into() }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // An error here would hide the panic that led here.
        drop(Command::new("losetup").arg("--detach").arg(&self.path).status());
    }
}

//! Makes the filesystem of an overlay.

use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::FsFlags;
use nix::sys::statvfs::statvfs;

use super::Layers;
use crate::error::Cause;
use crate::mount::CONTEXT;
use crate::mount::Explained;
use crate::mount::OVERLAY;
use crate::mount::hidden;
use crate::mount::hidden::Hidden;
use crate::mount::hidden::messages;
use crate::mount::kernel_log::KernelLog;
use crate::mount::linux::LinuxMounter;
use crate::mount::linux::Strategy;
use crate::mount::private_directory::FailedStep;
use crate::mount::private_directory::PrivateDirectory;
use crate::sys;

/// What overlays can do here beyond the kernel's default: a directory of the lower layer can be renamed, and a change of
/// an owner or a mode copies no data.
const FEATURES: [(&CStr, &CStr); 3] = [(c"redirect_dir", c"on"), (c"metacopy", c"on"), (c"xino", c"auto")];

/// Whether the kernel shall refuse a second overlay over the same upper layer, and a layer whose lower one is another
/// than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    On,
    Off,
}

/// Kernels refuse a longer value of one option to fsconfig(2), but not to mount(2).
const VALUE: usize = 255;

/// The space for the options of mount(2), with a zero byte at the end. The kernel ignores what is beyond.
const LENGTH: usize = 4096;

impl Hidden {
    /// Mounts an overlay.
    pub(super) fn mount_overlay(
        mounter: &LinuxMounter,
        layers: &Layers<'_>,
        read_only: bool,
    ) -> Result<Self, FailedStep> {
        match mount(mounter, layers, read_only, Index::On) {
            // The lower layer was made anew, with the same content: what is in the upper one refers to it by path. No other
            // overlay has the upper layer: the kernel looks for one before it compares the lower one.
            Err((_, error)) if Explained::system_error(&error).raw_os_error() == Some(libc::ESTALE) => {
                tracing::debug!(upper = %layers.upper.display(), "a layer is mounted over another lower one than before");
                mount(mounter, layers, read_only, Index::Off)
            }
            mounted => mounted,
        }
    }

    /// Fails if the kernel made the overlay read-only. It does so, and reports success, if it cannot make the directory for
    /// its work, as on a full disk.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        if statvfs(&self.root())?.flags().contains(FsFlags::ST_RDONLY) {
            let text = "the kernel had no room for its own directory, and would show the volume read-only";
            return Err(Explained::wrap(text, Errno::ENOSPC.into()));
        }
        Ok(())
    }
}

fn mount(mounter: &LinuxMounter, layers: &Layers<'_>, read_only: bool, index: Index) -> Result<Hidden, FailedStep> {
    let options = options(layers, index).map_err(|error| ("write the options", error.into()))?;
    let fits = options.iter().all(|(_, value)| value.count_bytes() <= VALUE);
    match mounter.strategy() {
        Strategy::Detached if fits => detached(&options, read_only).map(Hidden::Detached),
        Strategy::Detached | Strategy::PrivateDirectory => {
            let options = joined(&options).map_err(|error| ("write the options", error.into()))?;
            let directory = PrivateDirectory::make(mounter.workdir())?;
            let log = KernelLog::from_now_on(OVERLAY);
            match directory.mount_new(OVERLAY, Path::new(OVERLAY), &options, read_only) {
                Ok(()) => Ok(Hidden::InDirectory(directory)),
                Err(error) => Err(("mount", explained(error, || log.complaints()))),
            }
        }
    }
}

fn options(layers: &Layers<'_>, index: Index) -> nix::Result<Vec<(&'static CStr, CString)>> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let mut options = vec![
        (c"lowerdir", path(layers.lower)?),
        (c"upperdir", path(layers.upper)?),
        (c"workdir", path(layers.work)?),
        (c"index", if index == Index::On { c"on" } else { c"off" }.to_owned()),
    ];
    options.extend(layers.label.map(|label| (CONTEXT, label.as_c_str().to_owned())));
    options.extend(FEATURES.map(|(key, value)| (key, value.to_owned())));
    Ok(options)
}

/// Returns options as mount(2) wants them. No value contains a comma.
fn joined(options: &[(&CStr, CString)]) -> nix::Result<CString> {
    let options = options.iter().map(|(key, value)| [key.to_bytes(), value.to_bytes()].join(&b'='));
    let joined = options.collect::<Vec<_>>().join(&b',');
    if joined.len() >= LENGTH {
        return Err(Errno::ENAMETOOLONG);
    }
    CString::new(joined).map_err(|_| Errno::EINVAL)
}

fn detached(options: &[(&CStr, CString)], read_only: bool) -> Result<OwnedFd, FailedStep> {
    let log = KernelLog::from_now_on(OVERLAY);
    let filesystem = sys::mount::open_filesystem(c"overlay").map_err(|error| ("fsopen", explained(error, || None)))?;
    let mounted = (|| {
        sys::mount::set_option(filesystem.as_fd(), c"source", c"overlay")
            .map_err(|error| ("fsconfig: source", error))?;
        for (key, value) in options {
            sys::mount::set_option(filesystem.as_fd(), key, value).map_err(|error| ("fsconfig: options", error))?;
        }
        if read_only {
            sys::mount::set_flag(filesystem.as_fd(), c"ro").map_err(|error| ("fsconfig: ro", error))?;
        }
        sys::mount::create_filesystem(filesystem.as_fd()).map_err(|error| ("fsconfig: create", error))?;
        let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        if read_only {
            attributes |= libc::MOUNT_ATTR_RDONLY;
        }
        sys::mount::mount_filesystem(filesystem.as_fd(), attributes).map_err(|error| ("fsmount", error))
    })();
    mounted.map_err(|(step, error)| (step, explained(error, || messages(filesystem).or_else(|| log.complaints()))))
}

fn explained(error: Errno, said: impl FnOnce() -> Option<Cause>) -> io::Error {
    hidden::explained(error, Errno::EBUSY, "overlayfs (CONFIG_OVERLAY_FS)", said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Label;

    #[test]
    fn options_are_joined_for_mount_as_long_as_they_fit() {
        let layers = Layers { lower: Path::new("/l"), upper: Path::new("/u"), work: Path::new("/w"), label: None };
        let options = joined(&options(&layers, Index::On).unwrap()).unwrap();
        let expected = c"lowerdir=/l,upperdir=/u,workdir=/w,index=on,redirect_dir=on,metacopy=on,xino=auto";
        assert_eq!(options.as_c_str(), expected);
        let label = Some(&Label::of_containers());
        let labelled = joined(&super::options(&Layers { label, ..layers }, Index::On).unwrap()).unwrap();
        assert!(labelled.to_str().unwrap().contains(",context=system_u:object_r:container_file_t:s0,"), "{labelled:?}");
        assert_eq!(joined(&[(c"lowerdir", CString::new(vec![b'a'; 4086]).unwrap())]).unwrap().count_bytes(), 4095);
        assert_eq!(joined(&[(c"lowerdir", CString::new(vec![b'a'; 4087]).unwrap())]), Err(Errno::ENAMETOOLONG));
    }
}

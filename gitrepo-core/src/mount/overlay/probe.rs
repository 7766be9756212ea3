//! Whether overlays can be mounted over layers in a directory: tries it.
//!
//! It depends on the kernel and on the filesystem: an overlay is refused as the upper layer of another, and a filesystem
//! may lack what the kernel needs to know that a layer is in use.

use std::fs;
use std::io;
use std::path::Path;

use super::Layers;
use crate::mount::MountError;
use crate::mount::hidden::Hidden;
use crate::mount::linux::LinuxMounter;
use crate::mount::private_directory::FailedStep;

const FILE: &str = "a";

/// Fails if no overlay can be mounted with its layers in `directory`, or if the kernel would mount a second one over the
/// same layer. What it makes there stays.
pub(in crate::mount) fn try_in(mounter: &LinuxMounter, directory: &Path) -> Result<(), MountError> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| directory.join(name));
    let layers = Layers { lower: &lower, upper: &upper, work: &work, label: None };
    let failed = |(step, source)| MountError::NoOverlays { directory: directory.into(), step, source };
    for path in [&lower, &upper, &work] {
        fs::create_dir(path).map_err(|error| failed(("make layers", error)))?;
    }
    layers.check()?;
    try_layers(mounter, &layers).map_err(failed)
}

fn try_layers(mounter: &LinuxMounter, layers: &Layers<'_>) -> Result<(), FailedStep> {
    fs::write(layers.lower.join(FILE), "lower").map_err(|error| ("write a file", error))?;
    let overlay = Hidden::mount_overlay(mounter, layers, false)?;
    overlay.check_writable().map_err(|error| ("mount an overlay to write", error))?;
    let shown = overlay.root().join(FILE);
    fs::write(&shown, "upper").map_err(|error| ("write a file in an overlay", error))?;
    let read = |path: &Path| fs::read(path).map_err(|error| ("read a file of an overlay", error));
    if (read(&shown)?, read(&layers.upper.join(FILE))?) != (b"upper".to_vec(), b"upper".to_vec()) {
        return Err(("read a file of an overlay", io::Error::new(io::ErrorKind::InvalidData, "it has other content")));
    }
    match Hidden::mount_overlay(mounter, layers, false) {
        Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        Err(failed) => Err(failed),
        Ok(_second) => {
            let text = "the kernel does not notice that a layer is in use";
            Err(("mount a second overlay over one layer", io::Error::new(io::ErrorKind::Unsupported, text)))
        }
    }
}

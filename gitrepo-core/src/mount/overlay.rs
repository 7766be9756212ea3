//! Attaches overlays: a layer that takes all changes, over a directory that stays as it is.
//!
//! The kernel does not define what two overlays over one layer do, and by default only warns. With `index=on` it refuses
//! the second one, also from another mount namespace. So the second target of a layer gets a copy of the mount on the
//! first, and if this mount namespace shows none, it is the kernel that tells whether there is one elsewhere.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::Mount;
use super::MountError;
use super::MountPoint;
use super::OVERLAY;
use super::Role;
use super::directory;
use super::hidden::Hidden;
use super::linux::LinuxMounter;
use super::same_file::is_same;
use super::visible;
use super::visible::root_of;
use crate::spec::Label;

mod filesystem;
mod freeze;
mod probe;

pub(super) use freeze::freeze;
pub(super) use probe::try_in;

/// The directories of an overlay, and the SELinux label of all its files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) lower: &'a Path,
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) label: Option<&'a Label>,
}

/// How many components at the end of a path name a layer wherever its store is: `volumes/<hash>/shared/upper`, or more
/// than is needed of `volumes/<hash>/targets/<hash>/upper`.
const COMPONENTS_OF_NAME: usize = 4;

/// How many components at the end of a path are below the root of every store, wherever that is.
const COMPONENTS_IN_STORE: usize = 3;

/// How long to try again while a layer is in use although no mount shows it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// The options of a mount that this makes, whether it is read-only or not.
const OPTIONS: [&str; 3] = ["nosuid", "nodev", "relatime"];

/// Attaches an overlay to the mount's target.
pub(super) fn attach(mounter: &LinuxMounter, mount: &Mount, layers: &Layers<'_>) -> Result<(), MountError> {
    layers.check()?;
    let target = directory::open(&mount.target, Role::Target)?;
    let is_usable = |shown: &MountPoint| is_usable(shown, layers.upper, mount.read_only);
    let copy_visible = || visible::copy(mounter, target.as_fd(), mount.read_only, is_usable, root_of);
    let failed = |(step, error)| {
        let source = mount.explained((step, error));
        MountError::Attach { mount: Box::new(mount.clone()), step, source }
    };
    let begun = Instant::now();
    // Another thread or process may be faster.
    while !copy_visible()? {
        match Hidden::mount_overlay(mounter, layers, mount.read_only) {
            Ok(overlay) => {
                if !mount.read_only {
                    let refused = |source| MountError::LayerReadOnly { upper: layers.upper.into(), source };
                    overlay.check_writable().map_err(refused)?;
                }
                return overlay.attach(target.as_fd()).map_err(failed);
            }
            // An overlay that was just unmounted leaves the mount table before it leaves its layer.
            Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => {
                if begun.elapsed() >= PATIENCE {
                    return Err(MountError::LayerInUse { upper: layers.upper.into(), source: error });
                }
                thread::sleep(PAUSE);
            }
            Err(failure) => return Err(failed(failure)),
        }
    }
    Ok(())
}

impl Layers<'_> {
    /// Checks that they are directories that the kernel will find by their paths.
    pub(crate) fn check(&self) -> Result<(), MountError> {
        for (path, role) in [(self.lower, Role::Source), (self.upper, Role::Layer), (self.work, Role::Layer)] {
            // Kernels differ in how they read escapes.
            if path.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte)) {
                return Err(MountError::OverlayPath { path: path.into() });
            }
            drop(directory::open(path, role)?);
        }
        Ok(())
    }
}

/// Whether a mount shows the overlay of this upper layer, and the whole of it; `false` if the layer is gone.
pub(super) fn is_shown_by(mount: &MountPoint, upper: &Path) -> bool {
    upper.is_dir() && is_of(mount, upper) && root_of(mount).is_some()
}

/// Whether a mount of an overlay refuses writes, alone or with all mounts of its filesystem.
pub(super) fn is_read_only(mount: &MountPoint) -> bool {
    mount.is_read_only() || mount.is_frozen()
}

/// Returns an option of the overlay that a mount shows, which is a path.
pub(super) fn layer(mount: &MountPoint, option: &str) -> Option<PathBuf> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    if mount.filesystem != OVERLAY {
        return None;
    }
    let options = mount.filesystem_options.iter().map(|option| option.as_bytes());
    let value = options.filter_map(|set| set.strip_prefix(option.as_bytes())).next()?;
    // What somebody else mounted may have escapes. Ours has none.
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next().unwrap_or(&byte) } else { byte });
    }
    Some(OsString::from_vec(plain).into())
}

fn is_of(mount: &MountPoint, upper: &Path) -> bool {
    // Most overlays of a node are of containers. Their layers, on whatever disk, are not examined.
    let name = |path: &Path| path.components().rev().take(COMPONENTS_IN_STORE).collect::<PathBuf>();
    let is_alike = |shown: &Path| name(shown) == name(upper);
    mount.root == Path::new("/")
        && mount.upper().is_some_and(|shown| is_alike(&shown) && is_same(&shown, upper, COMPONENTS_OF_NAME))
}

/// Whether a mount of this layer may be copied: nobody added flags to it, and one that is to be written is no copy of a
/// frozen one.
fn is_usable(mount: &MountPoint, upper: &Path, read_only: bool) -> bool {
    let is_allowed = |option: &str| OPTIONS.contains(&option) || option == "rw" || (option == "ro" && read_only);
    is_of(mount, upper) && (read_only || !mount.is_frozen()) && mount.options.iter().all(|option| is_allowed(option))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::mountinfo;

    fn mount(options: &[&str]) -> MountPoint {
        let table = format!("1 0 0:44 / /pod rw - overlay overlay {}\n", options.join(","));
        mountinfo::parse(table.as_bytes()).remove(0)
    }

    #[test]
    fn the_layers_of_an_overlay_are_read_from_its_options() {
        let ours =
            mount(&["rw", "lowerdir=/s/lowers/a", "upperdir=/s/volumes/b/targets/c/upper", "workdir=/s/w", "index=on"]);
        assert_eq!(ours.upper().unwrap(), Path::new("/s/volumes/b/targets/c/upper"));
        assert_eq!(ours.lower().unwrap(), Path::new("/s/lowers/a"));
        assert!(!ours.is_frozen() && mount(&["ro", "upperdir=/u"]).is_frozen());
        let odd = mount(&["rw", r"lowerdir=/a\134:b", r"upperdir=/with\134\054\040\134\134all"]);
        assert_eq!(odd.upper().unwrap(), Path::new(r"/with, \all"));
        assert_eq!(odd.lower().unwrap(), Path::new("/a:b"));
    }

    #[test]
    fn only_an_overlay_with_such_a_layer_has_one() {
        assert_eq!(mount(&["ro", "lowerdir=/a:/b"]).upper(), None);
        assert_eq!(MountPoint { filesystem: "ext4".into(), ..mount(&["rw", "upperdir=/u"]) }.upper(), None);
    }

    #[test]
    fn a_frozen_overlay_is_read_only_whatever_the_flags_of_its_mount() {
        for (option, expected) in [("rw", false), ("ro", true)] {
            let mount = mount(&[option, "upperdir=/u"]);
            assert!(!mount.is_read_only());
            assert_eq!(is_read_only(&mount), expected, "{option}");
        }
    }
}

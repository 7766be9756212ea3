//! Target paths of volumes.

use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;

use crate::failure::CallFailure;

/// Longest volume id, in bytes: far beyond the 128 bytes that CSI suggests, and short enough for a record.
const LONGEST_ID: usize = 16 << 10;

/// Checks a volume's id, which is required.
pub fn check_id(volume_id: &str) -> Result<(), CallFailure> {
    match volume_id.len() {
        0 => Err(CallFailure::invalid("volume_id is missing")),
        length if length > LONGEST_ID => Err(CallFailure::invalid("volume_id is longer than 16 KiB")),
        _ => Ok(()),
    }
}

/// Returns the target of a publish. It must be below the kubelet's directory: mounts elsewhere do not reach the pods.
pub fn check(target: &str, kubelet_dir: &Path) -> Result<PathBuf, CallFailure> {
    if target.is_empty() {
        return Err(CallFailure::invalid("target_path is missing"));
    }
    let path = Path::new(target);
    if !is_below(path, kubelet_dir) {
        return Err(CallFailure::invalid(format!(
            "target_path {target:?} is not below {}: start the driver with the --kubelet-dir of this node",
            kubelet_dir.display()
        )));
    }
    Ok(path.to_owned())
}

/// Removes the directory of a target that no longer has a volume. Keeps a target that is not empty or not a directory:
/// it is not ours.
///
/// # Errors
///
/// `Busy` if something is still mounted there.
pub fn remove(target: &Path, kubelet_dir: &Path) -> Result<(), CallFailure> {
    if !is_below(target, kubelet_dir) {
        return Ok(());
    }
    match std::fs::remove_dir(target) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::ResourceBusy => Err(CallFailure::new(
                Kind::Busy,
                format!("a mount that this driver did not make is on {}", target.display()),
            )),
            _ => {
                tracing::warn!(target_path = %target.display(), %error, "cannot remove the target directory");
                Ok(())
            }
        },
    }
}

/// Whether a path is below a directory. Compares them as text.
fn is_below(path: &Path, directory: &Path) -> bool {
    is_clean(path) && path.starts_with(directory) && path != directory
}

/// Whether a path means the same everywhere: absolute, and without `..`.
pub fn is_clean(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_a_target_must_be_below_the_kubelets_directory() {
        let kubelet = Path::new("/var/lib/kubelet");
        let good = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/v/mount";
        assert_eq!(check(good, kubelet), Ok(PathBuf::from(good)));
        for bad in [
            "",
            "/",
            "/etc",
            "/var/lib/kubelet",
            "/var/lib/kubelet/",
            "/var/lib/kubelet2/pods",
            "/var/lib/kubelet/pods/../../../../etc",
            "var/lib/kubelet/pods",
        ] {
            assert_eq!(check(bad, kubelet).unwrap_err().kind, Kind::InvalidRequest, "{bad:?}");
        }
    }

    #[test]
    fn only_an_empty_directory_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        for _ in 0..2 {
            remove(&target, place.path()).unwrap();
            std::fs::create_dir_all(&target).unwrap();
            remove(&target, place.path()).unwrap();
            assert!(!target.exists());
        }
        std::fs::create_dir_all(target.join("precious")).unwrap();
        remove(&target, place.path()).unwrap();
        assert!(target.join("precious").exists());
        remove(&target.join("precious"), Path::new("/elsewhere")).unwrap();
        assert!(target.join("precious").exists(), "not ours to remove");
    }

    #[test]
    fn a_volume_id_must_be_neither_empty_nor_too_long() {
        assert_eq!(check_id("").unwrap_err().kind, Kind::InvalidRequest);
        assert_eq!(check_id(&"x".repeat(20_000)).unwrap_err().kind, Kind::InvalidRequest);
        for id in ["../../x", "a/b", "ünï\n", &"x".repeat(4096)] {
            check_id(id).unwrap();
        }
    }
}

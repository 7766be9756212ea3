//! Detects the end of a pod in the kubelet's directory.
//!
//! The driver has no access to the API, and the kubelet does not unpublish a volume while its own publish call runs.
//! But when a pod is deleted, the kubelet tears its volumes down one by one as soon as it has no containers, and a pod
//! whose volume is still being published has none. So the volumes that the kubelet makes itself disappear from the
//! pod's directory (nearly every pod has one with the service account's token). While a pod lives, none of them
//! disappears.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// The kinds of volumes that the kubelet makes itself. Other volumes may disappear earlier: the directory of a CSI
/// volume is removed after each failed attempt.
const KINDS: [&str; 5] = ["projected", "secret", "configmap", "downward-api", "empty-dir"];

/// The other volumes of a target's pod.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// `<kubelet>/pods/<uid>/volumes`.
    directory: PathBuf,
    last: BTreeSet<PathBuf>,
}

impl Neighbours {
    /// Returns the neighbours of a target `<kubelet>/pods/<uid>/volumes/<plugin>/<name>/mount`.
    pub(super) fn of(target: &Path) -> Option<Self> {
        let directory = target.ancestors().nth(3)?;
        let is_named = |path: &Path, name: &str| path.file_name().is_some_and(|last| last == name);
        let is_a_pods = is_named(directory, "volumes") && is_named(directory.ancestors().nth(2)?, "pods");
        is_a_pods.then(|| Self { directory: directory.to_owned(), last: BTreeSet::new() })
    }

    /// Whether a volume has disappeared since the last look.
    pub(super) fn look(&mut self) -> bool {
        let Ok(present) = self.present() else { return false };
        let is_ending = !self.last.is_subset(&present);
        self.last = present;
        is_ending
    }

    fn present(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut present = BTreeSet::new();
        for kind in KINDS {
            match fs::read_dir(self.directory.join(format!("kubernetes.io~{kind}"))) {
                Ok(volumes) => {
                    for volume in volumes {
                        present.insert(volume?.path());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_ending_when_a_volume_made_by_the_kubelet_disappears() {
        let place = tempfile::tempdir().unwrap();
        let pod = place.path().join("pods/1/volumes");
        let target = pod.join("kubernetes.io~csi/v/mount");
        let volume = |path: &str| pod.join(path);
        let mut neighbours = Neighbours::of(&target).unwrap();
        assert!(!neighbours.look(), "no volume yet");
        for path in ["kubernetes.io~csi/v/mount", "kubernetes.io~csi/w", "kubernetes.io~projected/token"] {
            fs::create_dir_all(volume(path)).unwrap();
        }
        assert!(!neighbours.look());
        fs::create_dir_all(volume("kubernetes.io~empty-dir/late")).unwrap();
        assert!(!neighbours.look(), "a new volume");
        fs::remove_dir(volume("kubernetes.io~csi/w")).unwrap();
        assert!(!neighbours.look(), "another driver's attempt failed");
        fs::remove_dir(volume("kubernetes.io~projected/token")).unwrap();
        assert!(neighbours.look());
        assert!(!neighbours.look(), "reported once");
        fs::remove_dir(volume("kubernetes.io~empty-dir/late")).unwrap();
        fs::remove_dir(volume("kubernetes.io~empty-dir")).unwrap();
        assert!(neighbours.look(), "the directory of the kind may disappear as well");
    }

    #[test]
    fn other_targets_have_no_neighbours() {
        for target in
            ["/pods/a", "/x/pods/1/mount", "/x/pods/1/volumes/mount", "/x/1/volumes/kubernetes.io~csi/v/mount"]
        {
            assert!(Neighbours::of(Path::new(target)).is_none(), "{target}");
        }
    }
}

//! Detects the end of a pod in the kubelet's directory.
//!
//! The driver has no access to the API, and the kubelet does not unpublish while its own publish call runs. But it
//! tears a pod's volumes down one by one as soon as the pod has no containers, and a pod whose volume is still being
//! published has none. So while ours is being published, the volumes that the kubelet makes itself disappear from the
//! pod's directory (nearly every pod has one with the service account's token). A living pod never loses one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// The kinds of volumes that the kubelet makes itself, once it has their content. Others come and go: the directory of
/// a CSI volume is removed after each failed attempt.
const KINDS: [&str; 5] = ["projected", "secret", "configmap", "downward-api", "empty-dir"];

/// The other volumes of a target's pod.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// `<kubelet>/pods/<uid>/volumes`.
    directory: PathBuf,
    seen: BTreeSet<PathBuf>,
}

impl Neighbours {
    /// For a target `<kubelet>/pods/<uid>/volumes/<plugin>/<name>/mount`.
    pub(super) fn of(target: &Path) -> Option<Self> {
        let directory = target.ancestors().nth(3)?;
        let is_named = |path: &Path, name: &str| path.file_name().is_some_and(|last| last == name);
        let is_a_pods = is_named(directory, "volumes") && is_named(directory.ancestors().nth(2)?, "pods");
        is_a_pods.then(|| Self { directory: directory.to_owned(), seen: BTreeSet::new() })
    }

    /// Whether a volume has disappeared since the last look.
    pub(super) fn look(&mut self) -> bool {
        let Ok(there) = self.there() else { return false };
        let is_ending = !self.seen.is_subset(&there);
        self.seen = there;
        is_ending
    }

    fn there(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut there = BTreeSet::new();
        for kind in KINDS {
            match fs::read_dir(self.directory.join(format!("kubernetes.io~{kind}"))) {
                Ok(volumes) => {
                    for volume in volumes {
                        there.insert(volume?.path());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_ends_when_a_volume_goes_that_the_kubelet_made() {
        let place = tempfile::tempdir().unwrap();
        let pod = place.path().join("pods/1/volumes");
        let target = pod.join("kubernetes.io~csi/v/mount");
        let volume = |path: &str| pod.join(path);
        let mut neighbours = Neighbours::of(&target).unwrap();
        assert!(!neighbours.look(), "there is nothing yet");
        for path in ["kubernetes.io~csi/v/mount", "kubernetes.io~csi/w", "kubernetes.io~projected/token"] {
            fs::create_dir_all(volume(path)).unwrap();
        }
        assert!(!neighbours.look());
        fs::create_dir_all(volume("kubernetes.io~empty-dir/late")).unwrap();
        assert!(!neighbours.look(), "one more is no end");
        fs::remove_dir(volume("kubernetes.io~csi/w")).unwrap();
        assert!(!neighbours.look(), "another driver's attempt failed");
        fs::remove_dir(volume("kubernetes.io~projected/token")).unwrap();
        assert!(neighbours.look());
        assert!(!neighbours.look(), "told once");
        fs::remove_dir(volume("kubernetes.io~empty-dir/late")).unwrap();
        fs::remove_dir(volume("kubernetes.io~empty-dir")).unwrap();
        assert!(neighbours.look(), "the directory of the kind may go as well");
    }

    #[test]
    fn only_a_pods_directory_tells() {
        for target in
            ["/pods/a", "/x/pods/1/mount", "/x/pods/1/volumes/mount", "/x/1/volumes/kubernetes.io~csi/v/mount"]
        {
            assert!(Neighbours::of(Path::new(target)).is_none(), "{target}");
        }
    }
}

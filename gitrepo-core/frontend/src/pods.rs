//! What the kubelet's directories say about a pod.

use std::path::Path;

/// The file in a pod's directory that says how its ids are mapped.
pub const USER_NAMESPACE: &str = "userns";

/// Whether the pod of a target has a user namespace of its own (`hostUsers: false`). Its container runtime then maps the
/// ids of every volume.
///
/// The kubelet writes `<pods>/<uid>/userns` when it makes the pod's sandbox: that is after it has asked for the volumes of
/// a new pod, and before it asks again, say after its own restart.
pub fn have_user_namespace(target: &Path) -> bool {
    // A volume of the pod may have this name, too.
    let mut volumes = target.ancestors().filter(|directory| directory.ends_with("volumes"));
    volumes.any(|volumes| volumes.with_file_name(USER_NAMESPACE).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_a_user_namespace_is_known_by_the_kubelets_file() {
        let place = tempfile::tempdir().unwrap();
        let pod = place.path().join("pods/1-2");
        std::fs::create_dir_all(&pod).unwrap();
        let targets = ["volumes/kubernetes.io~csi/volumes/mount", "volumes/example.org~git/data"];
        let have = || targets.map(|target| have_user_namespace(&pod.join(target)));
        assert_eq!(have(), [false; 2]);
        std::fs::write(pod.join("userns"), "{}").unwrap();
        assert_eq!(have(), [true; 2]);
        assert!(!have_user_namespace(&place.path().join("pods/3/volumes/a/b")));
        assert!(!have_user_namespace(Path::new("/mnt/data")));
    }
}

//! Finds the kubelet's directory of pods from the target of a volume.

use std::path::Path;

/// Returns the directory of all pods if the target has the kubelet's layout, `<pods>/<uid>/volumes/<driver>/<volume>`.
pub fn directory(target: &Path) -> Option<&Path> {
    let mut above = target.ancestors().skip(2);
    let volumes = above.next()?;
    let pods = above.nth(1)?;
    (volumes.ends_with("volumes") && pods.ends_with("pods")).then_some(pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_pods_is_found_if_the_target_has_the_kubelets_layout() {
        let pods = |target: &str| directory(Path::new(target)).map(Path::to_owned);
        let volume = "volumes/example.org~git/data";
        let expected = Some("/var/lib/kubelet/pods".into());
        assert_eq!(pods(&format!("/var/lib/kubelet/pods/1-2/{volume}")), expected);
        for other in ["/tmp/gitrepo-mnt/pv", "/pods", "/", "/var/lib/kubelet/pods/1-2/volume-subpaths/a/b"] {
            assert_eq!(pods(other), None, "{other}");
        }
        assert_eq!(pods(&format!("/srv/other/1-2/{volume}")), None);
    }
}

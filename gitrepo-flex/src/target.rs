//! The directory of a call.

use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Kind;
use gitrepo_flex::pods;
use gitrepo_frontend::path;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The path is not absolute, or contains `..`.
    #[error("{target:?} is not an absolute path of a directory without `..`")]
    Path {
        /// As given.
        target: PathBuf,
    },
    /// The directory is none of a pod's volumes.
    #[error(
        "{target:?} is not a directory that the kubelet makes for a pod's volume: \
         <the kubelet's directory>/pods/<uid>/volumes/<driver>/<volume>, without links below pods/"
    )]
    NotOfAPod {
        /// As given.
        target: PathBuf,
    },
    /// The path cannot be resolved.
    #[error("cannot resolve the path of the directory {}", target.display())]
    Resolve {
        /// As given.
        target: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl TargetError {
    /// The kind of this failure.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Path { .. } | Self::NotOfAPod { .. } => Kind::InvalidRequest,
            Self::Resolve { .. } => Kind::FailedPrecondition,
        }
    }
}

/// Resolves the links in the parents of the directory, as in the mount table. An admin may have moved the kubelet's
/// directory and left a link; below `pods/` every directory is the kubelet's own. Does not follow the last component.
/// Keeps missing components: a volume can be unmounted although its directory is gone.
pub(crate) fn resolve(target: &Path) -> Result<PathBuf, TargetError> {
    let clean = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let (true, true, Some(parent), Some(name)) = (clean, target.is_absolute(), target.parent(), target.file_name())
    else {
        return Err(TargetError::Path { target: target.to_owned() });
    };
    let parent = path::resolve(parent);
    Ok(parent.map_err(|source| TargetError::Resolve { target: target.to_owned(), source })?.join(name))
}

/// Resolves the directory like [`resolve`], and checks that it is one that the kubelet makes for a pod's volume. The
/// kubelet's directory may be anywhere, since it can be configured. There is no link below `pods`, so the path leads
/// nowhere else.
pub(crate) fn of_a_pod(target: &Path) -> Result<PathBuf, TargetError> {
    let resolved = resolve(target)?;
    let leads_there = |pods: &Path| {
        let volume = target.strip_prefix(pods).unwrap_or(target);
        path::resolve(pods).is_ok_and(|pods| pods.join(volume) == resolved)
    };
    match pods::directory(target).is_some_and(leads_there) {
        true => Ok(resolved),
        false => Err(TargetError::NotOfAPod { target: target.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_in_parents_are_resolved_and_missing_components_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join("real")).unwrap();
        symlink("real", home.join("link")).unwrap();
        for (given, expected) in [
            ("real/volume", "real/volume"),
            ("link/volume/", "real/volume"),
            ("link/a/b", "real/a/b"),
            ("link", "link"),
        ] {
            assert_eq!(resolve(&home.join(given)).unwrap(), home.join(expected), "{given}");
        }
    }

    #[test]
    fn a_pods_volume_is_below_any_directory_of_pods_without_links() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let volumes = "pods/1-2/volumes/example.org~git";
        fs::create_dir_all(home.join("data").join(volumes)).unwrap();
        symlink("data", home.join("kubelet")).unwrap();
        fs::create_dir(home.join("moved")).unwrap();
        symlink("../data/pods", home.join("moved/pods")).unwrap();
        symlink("1-2", home.join("data/pods/link")).unwrap();
        let expected = home.join("data").join(volumes).join("v");
        for root in ["data", "kubelet", "moved", "kubelet/."] {
            assert_eq!(of_a_pod(&home.join(root).join(volumes).join("v")).unwrap(), expected, "{root}");
        }
        // The kubelet's directory may be gone when it unmounts.
        of_a_pod(&home.join("gone").join(volumes).join("v")).unwrap();
        for other in [
            "data/pods/link/volumes/example.org~git/v",
            "data/pods/1-2/volumes/example.org~git",
            "data/pods/1-2/volumes/example.org~git/v/w",
            "data/pods/1-2/volume-subpaths/example.org~git/v",
            "data/plugins/1-2/volumes/example.org~git/v",
            "data",
        ] {
            assert!(matches!(of_a_pod(&home.join(other)), Err(TargetError::NotOfAPod { .. })), "{other}");
        }
    }

    #[test]
    fn anything_but_an_absolute_path_is_refused() {
        for target in ["", "a/b", "/", "/a/../b", "/a/..", "{}", "./a"] {
            assert!(matches!(resolve(Path::new(target)), Err(TargetError::Path { .. })), "{target}");
        }
    }
}

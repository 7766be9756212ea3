//! Whether a pod can have written to the layer of its volume.
//!
//! Before the kubelet starts a container, it makes the directory of a `subPath` that the volume does not have (kubelet
//! `pkg/volume/util/subpath`). So directories with nothing else in them say nothing of the pod.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;

/// Most directories that somebody else than the pod has made.
const MOST: usize = 1000;

/// Whether a layer has nothing but directories, and few of them.
pub(super) fn has_only_directories(upper: &Path) -> io::Result<bool> {
    let mut left = vec![upper.to_owned()];
    let mut seen = 0;
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            seen += 1;
            if !entry.file_type()?.is_dir() || seen > MOST {
                return Ok(false);
            }
            left.push(entry.path());
        }
    }
    Ok(true)
}

/// Makes the directories of a layer in a copy of what is below it, with their owners and modes.
pub(super) fn add_directories(upper: &Path, copy: &Path) -> io::Result<()> {
    let mut left: Vec<_> = vec![(upper.to_owned(), copy.to_owned())];
    while let Some((directory, into)) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let made = into.join(entry.file_name());
            // A directory that is in the tree, too, is there for what was made in it.
            if made.symlink_metadata().is_err() {
                let found = entry.metadata()?;
                fs::create_dir(&made)?;
                chown(&made, Some(found.uid()), Some(found.gid()))?;
                fs::set_permissions(&made, fs::Permissions::from_mode(found.mode() & 0o7777))?;
            }
            left.push((entry.path(), made));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_alone_are_not_written_and_are_made_in_a_copy() {
        let place = tempfile::tempdir().unwrap();
        let [upper, copy] = ["upper", "copy"].map(|name| place.path().join(name));
        fs::create_dir_all(copy.join("a")).unwrap();
        assert!(has_only_directories(&place.path().join("missing")).is_err());
        fs::create_dir_all(upper.join("a/new")).unwrap();
        fs::create_dir_all(upper.join("b/c")).unwrap();
        fs::set_permissions(upper.join("b"), fs::Permissions::from_mode(0o2770)).unwrap();
        assert!(has_only_directories(&upper).unwrap());
        add_directories(&upper, &copy).unwrap();
        assert!(copy.join("a/new").is_dir() && copy.join("b/c").is_dir());
        assert_eq!(copy.join("b").metadata().unwrap().mode() & 0o7777, 0o2770);
        for written in ["file", "b/c/file"] {
            fs::write(upper.join(written), "").unwrap();
            assert!(!has_only_directories(&upper).unwrap(), "{written}");
            fs::remove_file(upper.join(written)).unwrap();
        }
        std::os::unix::fs::symlink("a", upper.join("link")).unwrap();
        assert!(!has_only_directories(&upper).unwrap());
        fs::remove_file(upper.join("link")).unwrap();
        (0..MOST).for_each(|number| fs::create_dir(upper.join(format!("d{number}"))).unwrap());
        assert!(!has_only_directories(&upper).unwrap());
    }
}

//! Recognises a file that the mount table names.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Whether a path in the mount table means this file or directory. Whoever mounted it may see its store elsewhere: then
/// the last components, as many as name it in every store, tell.
pub(super) fn is_same(shown: &Path, wanted: &Path, components: usize) -> bool {
    if shown == wanted {
        return true;
    }
    match (shown.metadata(), wanted.metadata()) {
        (Ok(shown), Ok(wanted)) => (shown.dev(), shown.ino()) == (wanted.dev(), wanted.ino()),
        _ => {
            let name = |path: &Path| path.components().rev().take(components).collect::<PathBuf>();
            name(shown) == name(wanted)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_known_by_its_inode_or_else_by_the_end_of_its_path() {
        let place = tempfile::tempdir().unwrap();
        let [one, two] = ["one/a/upper", "two/a/upper"].map(|name| place.path().join(name));
        fs::create_dir_all(&one).unwrap();
        assert!(is_same(&one, &one, 2) && is_same(Path::new("/absent/a/upper"), &one, 2));
        assert!(!is_same(Path::new("/absent/b/upper"), &one, 2));
        fs::create_dir_all(&two).unwrap();
        assert!(!is_same(&one, &two, 2), "both exist");
        std::os::unix::fs::symlink(place.path().join("two"), place.path().join("other")).unwrap();
        assert!(is_same(&place.path().join("other/a/upper"), &two, 3));
    }
}

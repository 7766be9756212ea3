//! Paths that a caller gives to a program.

use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Resolves the symlinks of an absolute path, as core requires and as in the mount table. Keeps components that do not
/// exist: a volume can be unmounted although directories on its path are missing.
///
/// # Errors
/// If a component that exists cannot be resolved.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    for existing in path.ancestors() {
        match existing.canonicalize() {
            Ok(resolved) => {
                let missing = path.strip_prefix(existing).unwrap_or(Path::new(""));
                return Ok(resolved.components().chain(missing.components()).collect());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_resolved_and_missing_components_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir(home.join("real")).unwrap();
        symlink("real", home.join("link")).unwrap();
        symlink("nowhere", home.join("dangling")).unwrap();
        for (given, expected) in [
            ("real/", "real"),
            ("link", "real"),
            ("link/target", "real/target"),
            ("link/gone/target", "real/gone/target"),
            ("dangling", "dangling"),
        ] {
            assert_eq!(resolve(&home.join(given)).unwrap(), home.join(expected), "{given}");
        }
    }
}

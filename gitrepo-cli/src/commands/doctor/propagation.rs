//! Whether mounts below a directory reach other mount namespaces, from the mount table.

use std::path::Path;
use std::path::PathBuf;

/// The mount that a path is on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct On {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The type of its filesystem.
    pub(super) filesystem: String,
    /// Whether mounts below it propagate to other mount namespaces.
    pub(super) shared: bool,
}

/// Finds the mount of an absolute path in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(super) fn mount_of(path: &Path, table: &str) -> Option<On> {
    let mounts = table.lines().filter_map(parse).filter(|on| path.starts_with(&on.mount));
    // Of several mounts on one directory, the last one is visible.
    mounts.max_by_key(|on| on.mount.components().count())
}

fn parse(line: &str) -> Option<On> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(4);
    let mount = PathBuf::from(unescaped(fields.next()?));
    let shared = fields.skip(1).any(|field| field.starts_with("shared:"));
    Some(On { mount, filesystem: filesystem.split(' ').next()?.to_owned(), shared })
}

/// Replaces the kernel's escapes of space, tab, line break and backslash.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
        22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        23 22 0:5 / /var/lib/kubelet rw master:7 - xfs /dev/sdb rw\n\
        24 22 0:6 / /var/lib/with\\040space rw - tmpfs none rw\n\
        25 23 0:7 / /var/lib/kubelet rw shared:9 - overlay none rw\n";

    #[test]
    fn the_innermost_and_latest_mount_counts() {
        let found = |path: &str| mount_of(Path::new(path), TABLE).unwrap();
        let root = On { mount: "/".into(), filesystem: "ext4".to_owned(), shared: true };
        assert_eq!(found("/var/lib/kubeletx"), root);
        assert_eq!(
            (found("/var/lib/kubelet/pods").filesystem, found("/var/lib/kubelet").shared),
            ("overlay".into(), true)
        );
        assert_eq!(
            (found("/var/lib/with space/a").filesystem, found("/var/lib/with space").shared),
            ("tmpfs".into(), false)
        );
        assert_eq!(mount_of(Path::new("/a"), "nonsense\n"), None);
    }
}

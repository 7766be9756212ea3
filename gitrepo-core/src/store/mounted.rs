//! Finds the tree of a store that a line of the mount table shows.
//!
//! The mount table gives a path inside a filesystem ([`MountPoint::root`]), and a store may be anywhere in one. So a
//! path is recognised by its tail, which begins with a name that only stores have. The kernel appends `//deleted` to
//! the path of a deleted directory.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::mount::MountPoint;

use super::Store;
use super::digest::is_hex;

impl Store {
    /// Returns the tree of this store that a mount may show. Another store may have a tree of the same name: only a
    /// comparison of the directories themselves tells them apart.
    pub fn shown_by(&self, mount: &MountPoint) -> Option<PathBuf> {
        let names: Vec<_> = mount.root.components().collect();
        let tails = (0..names.len()).rev().map(|at| names[at..].iter().collect::<PathBuf>());
        let places = [self.layout.snapshots(), self.layout.volumes()];
        tails.map(|tail| self.root().join(tail)).find(|path| places.iter().any(|place| path.starts_with(place)))
    }

    /// Whether a mount shows this tree of the store, or did before it was deleted.
    pub fn is_mount_of(&self, mount: &MountPoint, tree: &Path) -> bool {
        let inside = tree.strip_prefix(self.root()).unwrap_or(tree);
        mount.root.ends_with(inside) || mount.root.ends_with(inside.join("deleted"))
    }
}

/// Whether a mount with this root shows a tree of any store.
pub fn is_from_a_store(root: &Path) -> bool {
    let names: Vec<_> = root.components().collect();
    names.windows(2).any(|pair| {
        let [Component::Normal(place), Component::Normal(name)] = pair else { return false };
        (*place == "snapshots" || *place == "volumes") && name.to_str().is_some_and(|name| is_hex(name, 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_store_are_recognised_by_their_paths() {
        let hash = "a".repeat(64);
        for (root, is_ours) in [
            (format!("/snapshots/{hash}/root"), true),
            (format!("/var/lib/gitrepo/volumes/{hash}/shared/tree"), true),
            (format!("/var/lib/docker/overlay2/{hash}"), false),
            ("/snapshots/1/fs".to_owned(), false),
            ("/".to_owned(), false),
        ] {
            assert_eq!(is_from_a_store(Path::new(&root)), is_ours, "{root}");
        }
    }
}

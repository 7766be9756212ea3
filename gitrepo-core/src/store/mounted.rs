//! Finds the tree of a store that a line of the mount table shows.
//!
//! For a directory, the mount table gives its path inside a filesystem ([`MountPoint::root`]), and a store may be
//! anywhere in one. For an image, it gives the path of the file as seen by whoever mounted it ([`MountPoint::image`]),
//! and for an overlay in the same way that of the layer ([`MountPoint::upper`]).
//! So a path is recognised by its tail, which begins with a name that only stores have. The kernel appends `//deleted`
//! to the path of a deleted directory.

use std::borrow::Cow;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::mount::MountPoint;
use crate::snapshot;

use super::Store;
use super::snapshot_id::SnapshotId;
use crate::digest::is_hex;

impl Store {
    /// Returns the tree, or the image of one, of this store that a mount may show. Another store may have a tree of the
    /// same name: only a comparison of the directories or files themselves tells them apart.
    pub fn shown_by(&self, mount: &MountPoint) -> Option<PathBuf> {
        self.tree_at(&shown(mount))
    }

    /// Returns the tree of this store that has this path wherever the store is seen.
    fn tree_at(&self, path: &Path) -> Option<PathBuf> {
        let names: Vec<_> = path.components().collect();
        let tails = (0..names.len()).rev().map(|at| names[at..].iter().collect::<PathBuf>());
        let places = [self.layout.snapshots(), self.layout.volumes()];
        tails.map(|tail| self.root().join(tail)).find(|path| places.iter().any(|place| path.starts_with(place)))
    }

    /// Returns every tree of this store that a mount needs: what it shows, and what is under a layer.
    pub fn needed_by(&self, mount: &MountPoint) -> Vec<PathBuf> {
        let lower = layer(mount).and_then(|_| mount.lower());
        // An image is under a layer by its lower mount, and the kernel keeps its files.
        let lower = lower.and_then(|lower| self.tree_at(&lower).or_else(|| self.snapshot_of_lower(&lower)));
        self.shown_by(mount).into_iter().chain(lower).collect()
    }

    /// Whether a mount shows the snapshot with this id, or did before that was deleted. Then nothing else tells its
    /// format.
    pub fn is_mount_of_snapshot(&self, mount: &MountPoint, id: &SnapshotId) -> bool {
        let path = self.snapshot_path(id);
        snapshot::FORMATS.iter().any(|format| self.is_mount_of(mount, format.attachment(&path).path()))
    }

    /// Whether a mount shows this tree of the store, a directory or an image, or did before that was deleted.
    pub fn is_mount_of(&self, mount: &MountPoint, tree: &Path) -> bool {
        let inside = tree.strip_prefix(self.root()).unwrap_or(tree);
        // A mount of an image may also show a mere directory in it.
        let is_whole = (mount.image().is_none() && layer(mount).is_none()) || mount.root == Path::new("/");
        let shown = shown(mount);
        is_whole && (shown.ends_with(inside) || shown.ends_with(inside.join("deleted")))
    }
}

/// Returns the directory, image or layer that a mount shows.
fn shown(mount: &MountPoint) -> Cow<'_, Path> {
    match layer(mount) {
        Some(layer) => layer.into(),
        None => mount.image().unwrap_or(&mount.root).into(),
    }
}

/// Returns the layer of a store that a mount of an overlay shows. A store may also be inside an overlay, such as that of
/// a container: then a mount of one of its directories names a layer, too, but one of no store.
fn layer(mount: &MountPoint) -> Option<PathBuf> {
    mount.upper().filter(|upper| names_a_tree(upper))
}

/// Whether a mount shows a tree of any store.
pub fn is_from_a_store(mount: &MountPoint) -> bool {
    names_a_tree(&shown(mount))
}

fn names_a_tree(path: &Path) -> bool {
    let names: Vec<_> = path.components().collect();
    names.windows(2).any(|pair| {
        let [Component::Normal(place), Component::Normal(name)] = pair else { return false };
        (*place == "snapshots" || *place == "volumes") && name.to_str().is_some_and(|name| is_hex(name, 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(root: &str) -> MountPoint {
        MountPoint {
            target: "/pod".into(),
            root: root.into(),
            device: "8:1".into(),
            filesystem: "ext4".into(),
            source: "/dev/sda1".into(),
            options: vec!["ro".into()],
            filesystem_options: Vec::new(),
        }
    }

    fn image(source: &str) -> MountPoint {
        MountPoint { filesystem: "erofs".into(), source: source.into(), ..directory("/") }
    }

    #[test]
    fn mounts_of_a_store_are_recognised_by_their_paths() {
        let hash = "a".repeat(64);
        for (mount, is_ours) in [
            (directory(&format!("/snapshots/{hash}/root")), true),
            (directory(&format!("/var/lib/gitrepo/volumes/{hash}/shared/tree")), true),
            (directory(&format!("/var/lib/docker/overlay2/{hash}")), false),
            (directory("/snapshots/1/fs"), false),
            (directory("/"), false),
            (image(&format!("/var/lib/gitrepo/snapshots/{hash}/image")), true),
            (image(&format!("/snapshots/{hash}/image//deleted")), true),
            (overlay("/", &format!("/host/var/lib/gitrepo/volumes/{hash}/shared/upper")), true),
            (overlay("/", &format!("/var/lib/docker/overlay2/{hash}/diff")), false),
            (overlay(&format!("/store/snapshots/{hash}/root"), "/docker/diff"), true),
            (image("/dev/sda1"), false),
            (image("/usr/share/system.erofs"), false),
        ] {
            assert_eq!(is_from_a_store(&mount), is_ours, "{mount:?}");
        }
    }

    fn overlay(root: &str, upper: &str) -> MountPoint {
        let filesystem_options = ["rw", "lowerdir=/lower", &format!("upperdir={upper}")].map(Into::into).into();
        MountPoint { filesystem: "overlay".into(), filesystem_options, ..directory(root) }
    }

    #[test]
    fn a_layer_is_recognised_from_any_mount_namespace_and_also_in_a_store_on_an_overlay() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let (volume, target) = ("a".repeat(64), "b".repeat(64));
        let upper = format!("volumes/{volume}/targets/{target}/upper");
        let path = store.root().join(&upper);
        for prefix in [store.root().to_str().unwrap(), "/host/var/lib/gitrepo"] {
            let mount = overlay("/", &format!("{prefix}/{upper}"));
            assert_eq!(store.shown_by(&mount), Some(path.clone()), "{mount:?}");
            assert!(store.is_mount_of(&mount, &path) && !store.is_mount_of(&mount, &path.with_file_name("copy")));
            let part = MountPoint { root: "/src".into(), ..mount };
            assert_eq!(store.shown_by(&part), Some(path.clone()), "in use");
            assert!(!store.is_mount_of(&part, &path), "but not the volume");
        }
        let tree = store.root().join("snapshots").join(&volume).join("root");
        let inside = overlay(&format!("/store/snapshots/{volume}/root"), "/docker/diff");
        assert!(store.is_mount_of(&inside, &tree) && store.shown_by(&inside) == Some(tree));
    }

    #[test]
    fn an_overlay_needs_its_layer_and_what_is_below_it() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let [volume, target, id] = ["a", "b", "c"].map(|letter| letter.repeat(64));
        let upper = store.root().join(format!("volumes/{volume}/targets/{target}/upper"));
        let snapshot = store.root().join("snapshots").join(&id);
        for (lower, needed) in [
            (format!("/host/store/snapshots/{id}/root"), Some(snapshot.join("root"))),
            (format!("/host/store/lowers/{id}"), Some(snapshot)),
            ("/elsewhere".to_owned(), None),
        ] {
            let options = ["rw", &format!("lowerdir={lower}"), &format!("upperdir={}", upper.display())];
            let mount = MountPoint { filesystem_options: options.map(Into::into).into(), ..overlay("/", "/") };
            let expected: Vec<_> = [upper.clone()].into_iter().chain(needed).collect();
            assert_eq!(store.needed_by(&mount), expected, "{lower}");
        }
        let tree = store.root().join("snapshots").join(&id).join("root");
        assert_eq!(store.needed_by(&directory(&format!("/snapshots/{id}/root"))), [tree]);
    }

    #[test]
    fn an_image_is_recognised_from_any_mount_namespace_deleted_or_not() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("store")).unwrap();
        let hash = "a".repeat(64);
        let path = store.root().join("snapshots").join(&hash).join("image");
        let other = store.root().join("snapshots").join("b".repeat(64)).join("image");

        for prefix in [store.root().to_str().unwrap(), "/host/var/lib/gitrepo", ""] {
            let mount = image(&format!("{prefix}/snapshots/{hash}/image"));
            assert_eq!(store.shown_by(&mount), Some(path.clone()), "{mount:?}");
            assert!(store.is_mount_of(&mount, &path) && !store.is_mount_of(&mount, &other), "{mount:?}");
        }
        let deleted = image(&format!("/snapshots/{hash}/image//deleted"));
        assert!(store.is_mount_of(&deleted, &path) && !store.is_mount_of(&deleted, &other));
        assert!(store.shown_by(&deleted).is_some_and(|shown| shown.starts_with(path.parent().unwrap())));

        let part = MountPoint { root: "/src".into(), ..image(&format!("/snapshots/{hash}/image")) };
        assert_eq!(store.shown_by(&part), Some(path.clone()), "in use");
        assert!(!store.is_mount_of(&part, &path), "but not the volume");
        // The root of a filesystem of another type says nothing about its source.
        let covered = MountPoint { filesystem: "ext4".into(), ..image(&format!("/snapshots/{hash}/image")) };
        assert_eq!(store.shown_by(&covered), None);
    }
}

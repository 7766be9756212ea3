//! `hostTarget` selects one of the stores that the node's admin has listed, and does nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::volumes::entries;
use serde_json::json;

use super::Scene;

impl Scene {
    /// A read-only volume with `hostTarget: path`.
    fn with_host_target(&self, path: &Path) -> Volume {
        self.inline("v").read_only().with_option("hostTarget", path.to_str().unwrap())
    }

    fn assert_set_up_from(&self, store: &Path, volume: &Volume) {
        let (pod, target) = self.start_pod("pod", volume);
        self.assert_shown_on(&target);
        assert_eq!(entries(&store.join("snapshots")).len(), 1, "{}", store.display());
        self.kubelet().must_tear_down(&pod, volume);
        assert!(!target.exists());
        self.node.assert_nothing_set_up();
    }
}

fn has_snapshots(store: &Path) -> bool {
    !entries(&store.join("snapshots")).is_empty()
}

#[test]
fn a_listed_root_holds_the_snapshots_of_its_volumes() {
    let Some(scene) = Scene::new() else { return };
    let root = scene.node.home().join("images");
    scene.node.configure(&json!({"hostTargetRoots": [root]}));
    // A node that had the bash driver has its clones there; they stay.
    fs::create_dir(&root).unwrap();
    fs::create_dir(root.join("git-server-user-repo-git")).unwrap();
    let store = root.join(".gitrepo");
    scene.assert_set_up_from(&store, &scene.with_host_target(&root));
    assert!(!has_snapshots(&scene.node.store()));
    assert!(root.join("git-server-user-repo-git").is_dir());
    assert_eq!(store.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    // The part after the root is ignored and logged.
    scene.assert_set_up_from(&store, &scene.with_host_target(&root.join("some/where")));
    assert!(!root.join("some").exists());
    assert!(scene.node.log().contains("some/where"), "{}", scene.node.log());
    assert_eq!(scene.server.packs(), 1);
}

#[test]
fn the_longest_root_wins_and_whole_components_are_compared() {
    let Some(scene) = Scene::new() else { return };
    let outer = scene.node.directory("images");
    let inner = outer.join("fast");
    scene.node.configure(&json!({"hostTargetRoots": [outer, inner]}));
    scene.assert_set_up_from(&inner.join(".gitrepo"), &scene.with_host_target(&inner.join("x")));
    assert!(!has_snapshots(&outer.join(".gitrepo")));
    scene.assert_set_up_from(&outer.join(".gitrepo"), &scene.with_host_target(&outer.join("faster")));
    let beside = scene.node.home().join("images2");
    scene.assert_fails(&scene.with_host_target(&beside), &["hostTarget", outer.to_str().unwrap()]);
    assert!(!beside.exists());
}

#[test]
fn the_main_store_may_be_selected_too() {
    let Some(scene) = Scene::new() else { return };
    scene.assert_set_up_from(&scene.node.store(), &scene.with_host_target(&scene.node.store()));
    assert!(!scene.node.store().join(".gitrepo").exists());
}

#[test]
fn an_unlisted_root_is_refused_and_not_created() {
    let Some(scene) = Scene::new() else { return };
    let root = scene.node.directory("images");
    scene.node.configure(&json!({"hostTargetRoots": [root]}));
    let listed = root.to_str().unwrap();
    for path in ["/etc", "/", "/var/lib/kubelet", "/no/such", "images", "/var/lib/gitrepo/../kubelet"] {
        scene.assert_fails(&scene.with_host_target(Path::new(path)), &["hostTarget", listed]);
    }
    scene.assert_fails(&scene.with_host_target(&root.join("../etc")), &["hostTarget"]);
    assert!(entries(&root).is_empty() && !Path::new("/no").exists());
}

#[test]
fn a_root_that_other_users_could_redirect_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let real = scene.node.directory("real");
    let link = scene.node.home().join("link");
    symlink(&real, &link).unwrap();
    let open = scene.node.directory("open");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let theirs = scene.node.directory("theirs");
    std::os::unix::fs::chown(&theirs, Some(1000), None).unwrap();
    let sticky = scene.node.directory("sticky");
    fs::set_permissions(&sticky, PermissionsExt::from_mode(0o1777)).unwrap();
    let [below_link, below_open, below_theirs] = [&link, &open, &theirs].map(|parent| parent.join("images"));
    let good = sticky.join("images");
    scene.node.configure(&json!({"hostTargetRoots": [link, below_link, open, below_open, theirs, below_theirs, good]}));
    for (root, words) in [
        (&link, "symbolic link"),
        (&below_link, "symbolic link"),
        (&open, "others may write"),
        (&below_open, "others may write"),
        (&theirs, "belongs to uid 1000"),
        (&below_theirs, "belongs to uid 1000"),
    ] {
        scene.assert_fails(&scene.with_host_target(root), &[words]);
        assert!(!root.join(".gitrepo").exists(), "{}", root.display());
    }
    scene.assert_set_up_from(&good.join(".gitrepo"), &scene.with_host_target(&good));
}

/// Each store keeps its own content; all share the proofs of access.
#[test]
fn a_proof_of_access_is_valid_for_all_stores_but_for_no_other_credential() {
    let closed = |server: HttpServerBuilder| server.accept(Credential::Bearer("right"));
    let Some(scene) = Scene::serving(closed) else { return };
    let root = scene.node.directory("images");
    scene.node.configure(&json!({"hostTargetRoots": [root]}));
    let volume = scene.with_host_target(&root);
    let right = volume.clone().with_secret(&[("token", "right")]);
    scene.assert_set_up_from(&root.join(".gitrepo"), &right);
    scene.assert_fails(&volume, &["token"]);
    scene.assert_fails(&volume.with_secret(&[("token", "wrong")]), &[]);
}

#[test]
fn volumes_are_torn_down_after_their_roots_are_reordered() {
    let Some(scene) = Scene::new() else { return };
    let [one, other] = ["one", "other"].map(|name| scene.node.directory(name));
    scene.node.configure(&json!({"hostTargetRoots": [one, other]}));
    let volumes = [&one, &other].map(|root| scene.with_host_target(root));
    let pods = volumes.each_ref().map(|volume| scene.start_pod("pod", volume).0);
    scene.node.reboot();
    for (pod, volume) in pods.iter().zip(&volumes) {
        scene.kubelet().must_set_up(pod, volume);
    }
    scene.node.configure(&json!({"hostTargetRoots": [other, one]}));
    for (pod, volume) in pods.iter().zip(&volumes) {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_volume_from_a_root_is_torn_down_even_if_the_main_store_cannot_be_opened() {
    let Some(scene) = Scene::new() else { return };
    let root = scene.node.directory("images");
    scene.node.configure(&json!({"hostTargetRoots": [root]}));
    let volume = scene.with_host_target(&root);
    let (pod, target) = scene.start_pod("pod", &volume);
    let version = scene.node.store().join("VERSION");
    fs::write(&version, "99\n").unwrap();
    scene.kubelet().must_tear_down(&pod, &volume);
    assert!(!target.exists());
    fs::write(&version, "1\n").unwrap();
    scene.node.assert_nothing_set_up();
}

//! One volume of one pod, in every flavour.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::kubelet::flex::Volume;
use gitrepo_tests::tree::assert_owner;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;

use super::Scene;

const SECRET: [(&str, &str); 2] = [("username", "alice"), ("password", "pass:word")];

/// PersistentVolume and inline, read-only and read-write, with and without secret, with and without fsGroup.
fn flavours(url: &str) -> Vec<(Pod, Volume)> {
    let mut flavours = Vec::new();
    for (number, make) in [Volume::inline, Volume::persistent].into_iter().enumerate() {
        for read_only in [true, false] {
            for secret in [true, false] {
                for group in [None, Some(2000)] {
                    let name = format!("v-{number}-{read_only}-{secret}-{}", group.is_some());
                    let volume = make(&name, &[("repository", url)]);
                    let volume = if read_only { volume.read_only() } else { volume };
                    let volume = if secret { volume.with_secret(&SECRET) } else { volume };
                    flavours.push((Pod { fs_group: group, ..Pod::new("pod") }, volume));
                }
            }
        }
    }
    flavours
}

#[test]
fn every_flavour_of_volume_is_set_up_and_torn_down() {
    let Some(scene) = Scene::new() else { return };
    let flavours = flavours(&scene.url());
    assert_eq!(flavours.len(), 16);
    for (pod, volume) in &flavours {
        let target = scene.kubelet().must_set_up(pod, volume);
        assert_eq!(scene.node.mounts_on(&target), 1, "{volume:?}");
        assert_eq!(fs::read(target.join("README.md")).unwrap(), b"# Small\n");
        assert_eq!(entries(&target), [target.join("README.md")], "no .git, no marker");
        let written = File::create(target.join("new"));
        match written {
            Ok(_) => assert!(!volume.is_read_only(), "{volume:?}"),
            Err(error) => assert_eq!((volume.is_read_only(), error.kind()), (true, io::ErrorKind::ReadOnlyFilesystem)),
        }
    }
    // The server is asked anew by each credential, and fetched from once.
    assert_eq!(scene.server.packs(), 1);
    for (pod, volume) in &flavours {
        scene.kubelet().must_tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_volume_shows_exactly_the_commits_tree() {
    let Some(scene) = Scene::with_disk(1 << 30) else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let url = scene.server.url(&everything.repository);
    let volume = Volume::persistent("everything", &[("repository", &url), ("revision", "v3")]);
    for volume in [volume.clone().read_only(), volume] {
        let (pod, target) = scene.start_pod("pod", &volume);
        assert_same_tree(&everything.repository, &everything.commit, ".", &target);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

#[test]
fn options_of_the_vocabulary_work() {
    let Some(scene) = Scene::with_disk(1 << 30) else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let url = scene.server.url(&everything.repository);
    let options = [("repository", &*url), ("revision", &everything.parent), ("directory", "a/b")];
    let volume = Volume::inline("v", &options).read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    assert_same_tree(&everything.repository, &everything.parent, ".", &target.join("a/b"));
    scene.kubelet().must_tear_down(&pod, &volume);
    let options = [("repository", &*url), ("subdirectory", "bin"), ("writable", "private"), ("uid", "1234")];
    let volume = Volume::inline("v", &options);
    let (pod, target) = scene.start_pod("pod", &volume);
    assert_same_tree(&everything.repository, &everything.commit, "bin", &target);
    assert_owner(&target, 1234);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_secret_opens_a_private_repository_and_nobody_else_gets_it() {
    let open = |server: gitrepo_tests::http::HttpServerBuilder| {
        server.accept(Credential::Basic("alice", "pass:word")).accept(Credential::Bearer("token-1"))
    };
    let Some(scene) = Scene::serving(open) else { return };
    for secret in [&SECRET[..], &[("token", "token-1")]] {
        let volume = scene.inline("v").read_only().with_secret(secret);
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.kubelet().must_tear_down(&pod, &volume);
    }
    scene.assert_fails(&scene.inline("v").read_only(), &["username", "token"]);
    scene.assert_fails(&scene.inline("v").with_secret(&[("token", "token-2")]), &["refuse"]);
}

/// As the kubelet itself would change them where `fsGroup` is supported.
#[test]
fn files_of_a_writable_volume_belong_to_the_fs_group() {
    let Some(scene) = Scene::with_disk(1 << 30) else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let volume = Volume::inline("v", &[("repository", &scene.server.url(&everything.repository))]);
    let pod = Pod::new("pod").with_fs_group(3000);
    let target = scene.kubelet().must_set_up(&pod, &volume);
    let mut modes = BTreeMap::new();
    walk(&target, &mut |path, metadata| {
        assert_eq!(metadata.gid(), 3000, "{}", path.display());
        let mode = metadata.mode() & 0o7777;
        let kind = if metadata.is_dir() { "directory" } else { "file" };
        if !metadata.is_symlink() {
            *modes.entry((kind, mode)).or_insert(0) += 1;
        }
    });
    let modes: Vec<_> = modes.into_keys().collect();
    let [directory, file, executable] = [("directory", 0o2775), ("file", 0o664), ("file", 0o775)];
    assert_eq!(modes, [directory, file, executable], "{modes:?}");
    // What is made in it is the group's, too.
    File::create(target.join("bin/new")).unwrap().write_all(b"new").unwrap();
    assert_eq!(target.join("bin/new").metadata().unwrap().gid(), 3000);
    scene.kubelet().must_tear_down(&pod, &volume);

    let read_only = volume.read_only();
    let target = scene.kubelet().must_set_up(&pod, &read_only);
    walk(&target, &mut |path, metadata| assert_eq!(metadata.gid(), 0, "{}", path.display()));
    assert_same_tree(&everything.repository, &everything.commit, ".", &target);
    scene.kubelet().must_tear_down(&pod, &read_only);
    scene.node.assert_nothing_set_up();
}

fn walk(place: &Path, see: &mut impl FnMut(&PathBuf, fs::Metadata)) {
    for path in entries(place) {
        let metadata = path.symlink_metadata().unwrap();
        let is_directory = metadata.is_dir();
        see(&path, metadata);
        if is_directory {
            walk(&path, see);
        }
    }
}

#[test]
fn a_volume_that_is_set_up_stays_on_its_commit() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.inline("v").read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    let files = gitrepo_tests::repository::Files::new().file("README.md", "# Moved\n");
    scene.repository.commit("main", &files);
    // The kubelet does not ask for what it finds mounted; whoever asks all the same moves nothing.
    let calls = scene.kubelet().calls().len();
    scene.kubelet().must_set_up(&pod, &volume);
    assert_eq!(scene.kubelet().calls().len(), calls);
    let arguments = ["mount", target.to_str().unwrap(), &volume.json(&pod)];
    scene.kubelet().plugin().call(arguments).assert_success();
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
}

#[test]
fn duplicates_of_mount_and_unmount_change_nothing() {
    let Some(scene) = Scene::new() else { return };
    for (name, volume) in [("ro", scene.inline("v").read_only()), ("rw", scene.persistent("p"))] {
        let (pod, target) = scene.start_pod(name, &volume);
        let path = target.to_str().unwrap();
        for _ in 0..5 {
            scene.kubelet().plugin().call(["mount", path, &volume.json(&pod)]).assert_success();
            scene.assert_shown_on(&target);
        }
        for _ in 0..3 {
            scene.kubelet().plugin().call(["unmount", path]).assert_success();
            assert_eq!(scene.node.mounts_on(&target), 0);
        }
        // As the kubelet has it after a restart: the directory may be there, or not.
        scene.kubelet().must_tear_down(&pod, &volume);
        scene.kubelet().plugin().call(["unmount", path]).assert_success();
    }
    scene.kubelet().plugin().call(["unmount", "/var/lib/kubelet/pods/unknown/volumes/x~y/v"]).assert_success();
    scene.node.assert_nothing_set_up();
}

#[test]
fn a_restarted_kubelet_calls_nothing_for_what_is_mounted() {
    let Some(scene) = Scene::new() else { return };
    let volume = scene.persistent("p");
    let (pod, target) = scene.start_pod("pod", &volume);
    scene.kubelet().restart();
    scene.kubelet().must_set_up(&pod, &volume);
    assert_eq!(scene.kubelet().calls(), ["init", "mount", "init"]);
    scene.assert_shown_on(&target);
    scene.kubelet().must_tear_down(&pod, &volume);
    scene.node.assert_nothing_set_up();
}

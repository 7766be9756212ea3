//! One volume of one pod, in every combination of options.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::mount::mountinfo;
use gitrepo_tests::file_capability;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::Credential;
use gitrepo_tests::http::HttpServerBuilder;
use gitrepo_tests::kubelet::Driver;
use gitrepo_tests::kubelet::Manifest;
use gitrepo_tests::kubelet::Pod;
use gitrepo_tests::loopfs::LoopFs;
use gitrepo_tests::require;
use gitrepo_tests::tree::assert_owner;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::tree::assert_same_tree_of_group;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::working_repository::assert_clean;
use gitrepo_tests::working_repository::assert_whole;
use gitrepo_tests::working_repository::git;
use gitrepo_tests::working_repository::line;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use nix::sys::stat::makedev;
use nix::sys::stat::mknod;
use serde_json::json;
use tonic::Code;

use super::Scene;
use super::read;

const SECRET: [(&str, &str); 2] = [("username", "alice"), ("password", "pass:word")];

/// Every combination of inline or persistent, read-only or writable, with or without a secret, and with or without
/// fsGroup.
fn kinds<D: Driver>(scene: &Scene<D>) -> Vec<(Pod, D::Volume)> {
    let kind = |number: u8| {
        let [persistent, read_only, secret, fs_group] = [1, 2, 4, 8].map(|bit| number & bit != 0);
        let name = format!("v-{number}");
        let volume = if persistent { scene.persistent(&name) } else { scene.inline(&name) };
        let volume = if read_only { volume.read_only() } else { volume };
        let volume = if secret { volume.with_secret(&SECRET) } else { volume };
        (Pod { fs_group: fs_group.then_some(2000), ..Pod::new("pod") }, volume)
    };
    (0..16).map(kind).collect()
}

pub(super) fn every_kind_of_volume_is_set_up_and_torn_down<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let kinds = kinds(&scene);
    for (pod, volume) in &kinds {
        let target = scene.set_up(pod, volume);
        assert_eq!(scene.node.mounts_on(&target), 1, "{volume:?}");
        assert_eq!(read(target.join("README.md")), "# Small\n");
        assert_eq!(entries(&target), [target.join("README.md")], "neither .git nor a marker");
        let beside = target.parent().unwrap();
        assert_eq!(entries(beside).len(), D::BESIDE_TARGET, "only the kubelet's files");
        assert_eq!(beside.metadata().unwrap().mode() & 0o777, 0o750, "the kubelet's directory stays as it was");
        match File::create(target.join("new")) {
            Ok(_) => assert!(!volume.is_read_only(), "{volume:?}"),
            Err(error) => assert_eq!((volume.is_read_only(), error.kind()), (true, io::ErrorKind::ReadOnlyFilesystem)),
        }
    }
    // Each credential asks the server, but only one fetches.
    assert_eq!(scene.server.packs(), 1);
    for (pod, volume) in &kinds {
        scene.tear_down(pod, volume);
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn every_kind_of_volume_can_be_a_working_repository<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let [inline, persistent] = [scene.inline("inline"), scene.persistent("persistent")];
    for (name, volume) in [
        ("inline", scene.inline("inline-read-only").read_only()),
        ("persistent", scene.persistent("persistent-read-only").read_only()),
        ("inline-writable", inline),
        ("persistent-writable", persistent),
    ] {
        let volume = volume.with("gitDir", "keep").with("depth", "0");
        let pod = Pod::new(name);
        let target = scene.set_up(&pod, &volume);
        assert_clean(&target);
        assert_whole(&target, &scene.repository, &scene.commit, 0);
        if !volume.is_read_only() {
            fs::write(target.join("README.md"), "changed").unwrap();
            gitrepo_tests::git::output(&mut git(&target, &["commit", "--all", "--quiet", "--message=ours"]));
            assert_eq!(line(&target, &["rev-parse", "HEAD~1"]), scene.commit);
        }
        scene.node.tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_volume_shows_exactly_the_commits_tree<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let url = scene.server.url(&everything.repository);
    let directory = D::default_directory(&everything.repository);
    for make in [D::inline, D::persistent] {
        let volume = make("v", &[("repository", &url), ("revision", "v3")]);
        for volume in [volume.clone().read_only(), volume] {
            let (pod, target) = scene.start_pod("pod", &volume);
            assert_same_tree(&everything.repository, &everything.commit, ".", &target.join(directory));
            scene.tear_down(&pod, &volume);
        }
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn common_options_work<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    let everything = fixtures::everything();
    let (repository, parent, commit) = (&everything.repository, &everything.parent, &everything.commit);
    scene.server.add(repository);
    let url = scene.server.url(repository);
    let options = [("repository", &*url), ("revision", parent), ("directory", "a/b")];
    let volume = D::inline("v", &options).read_only();
    let (pod, target) = scene.start_pod("pod", &volume);
    assert_same_tree(repository, parent, ".", &target.join("a/b"));
    scene.tear_down(&pod, &volume);

    let options = [("repository", &*url), ("subdirectory", "bin"), ("uid", "1234")];
    for (volume, writable, directory) in [
        (D::inline("v", &options), "private", D::default_directory(repository)),
        (D::persistent("v", &options).with("directory", "a/b"), "copy", "a/b"),
    ] {
        let volume = volume.with("writable", writable);
        let (pod, target) = scene.start_pod("pod", &volume);
        assert_same_tree(repository, commit, "bin", &target.join(directory));
        assert_owner(&target.join(directory), 1234);
        scene.tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn an_empty_value_means_the_same_as_a_missing_one<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    for volume in [scene.inline("v"), scene.persistent("v")] {
        let empty = ["revision", "subdirectory", "depth", "symlinks", "writable", "uid", "refresh", "lfs"];
        let volume = empty.iter().fold(volume.read_only(), |volume, key| volume.with(key, ""));
        let volume = volume.with_secret(&[("token", ""), ("username", "\n"), ("ca.crt", "")]);
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.tear_down(&pod, &volume);
    }
    let failed = scene.assert_not_set_up(&D::inline("v", &[("repository", "")]), &["repository is missing"]);
    D::assert_code(&failed, Code::InvalidArgument);
}

pub(super) fn a_mistake_in_a_url_or_a_key_is_named_with_what_to_write<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    for (url, words) in [
        ("git@host.example:7999/group/repo", "ssh://git@host.example:7999/group/repo"),
        ("https://host.example/a\n", "ends with a line break"),
    ] {
        let failed = scene.assert_not_set_up(&D::inline("v", &[("repository", url)]), &[words]);
        D::assert_code(&failed, Code::InvalidArgument);
    }
    for (key, words) in [("branch", "did you mean revision?"), ("subPath", "did you mean subdirectory?")] {
        let failed = scene.assert_not_set_up(&scene.inline("v").with(key, "x"), &[words]);
        D::assert_code(&failed, Code::InvalidArgument);
    }
    let failed = scene.assert_not_set_up(&scene.inline("v").with("identity", "canary"), &["ssh-privatekey"]);
    assert!(!failed.to_string().contains("canary"), "{failed}");
}

pub(super) fn names_of_hexadecimal_digits_are_branches_and_tags<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    scene.repository.set_branch("deadbeef", &scene.commit);
    scene.repository.tag("20240101", &scene.commit);
    for revision in ["deadbeef", "20240101"] {
        let volume = scene.inline("v").with("revision", revision);
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.tear_down(&pod, &volume);
    }
    let volume = scene.inline("v").with("revision", &scene.commit[..12]);
    let failed = scene.assert_not_set_up(&volume, &["abbreviated commit id", "all 40 digits"]);
    D::assert_code(&failed, Code::NotFound);
    scene.node.assert_nothing_set_up();
}

pub(super) fn a_private_repository_needs_the_right_secret<D: Driver>() {
    let open = |server: HttpServerBuilder| {
        server.accept(Credential::Basic("alice", "pass:word")).accept(Credential::Bearer("token-1"))
    };
    let Some(scene) = Scene::<D>::serving(open) else { return };
    for secret in [&SECRET[..], &[("token", "token-1")]] {
        let volume = scene.inline("v").read_only().with_secret(secret);
        let (pod, target) = scene.start_pod("pod", &volume);
        scene.assert_shown_on(&target);
        scene.tear_down(&pod, &volume);
    }
    let wrong = scene.inline("v").with_secret(&[("token", "token-2")]);
    for failed in [
        scene.assert_not_set_up(&scene.inline("v").read_only(), &["username", "token"]),
        scene.assert_not_set_up(&wrong, &["refuse"]),
    ] {
        D::assert_code(&failed, Code::Unauthenticated);
    }
}

/// The driver sets what the kubelet would set, so the kubelet changes no file.
pub(super) fn files_of_a_writable_volume_belong_to_the_fs_group<D: Driver>() {
    let directories = json!({ "snapshotFormat": "directory" });
    let Some(scene) = Scene::<D>::configured(&directories, |server| server) else { return };
    let everything = fixtures::everything();
    scene.server.add(&everything.repository);
    let options = [("repository", &*scene.server.url(&everything.repository)), ("directory", ".")];
    let pod = Pod::new("pod").with_fs_group(3000);
    for volume in [D::inline("v", &options), D::persistent("v", &options)] {
        let target = scene.set_up(&pod, &volume);
        let mut modes = BTreeSet::new();
        walk(&target, &mut |path, metadata| {
            assert_eq!(metadata.gid(), 3000, "{}", path.display());
            if !metadata.is_symlink() {
                modes.insert((metadata.is_dir(), metadata.mode() & 0o7777));
            }
        });
        assert_eq!(modes, BTreeSet::from([(true, 0o2775), (false, 0o664), (false, 0o775)]), "{modes:?}");
        for new in ["new", "bin/new"] {
            fs::write(target.join(new), "new").unwrap();
            assert_eq!(target.join(new).metadata().unwrap().gid(), 3000, "new files belong to the group, too");
        }
        scene.tear_down(&pod, &volume);

        let read_only = volume.read_only();
        let target = scene.set_up(&pod, &read_only);
        walk(&target, &mut |path, metadata| assert_eq!(metadata.gid(), 0, "{}", path.display()));
        assert_same_tree(&everything.repository, &everything.commit, ".", &target);
        scene.tear_down(&pod, &read_only);
    }
    scene.node.assert_nothing_set_up();
}

/// Calls `see` for a place and everything below it.
fn walk(place: &Path, see: &mut impl FnMut(&Path, &Metadata)) {
    let metadata = place.symlink_metadata().unwrap();
    see(place, &metadata);
    if metadata.is_dir() {
        entries(place).iter().for_each(|entry| walk(entry, see));
    }
}

pub(super) fn repeating_publish_and_unpublish_changes_nothing<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    for volume in [scene.inline("v").read_only(), scene.persistent("p")] {
        let (pod, target) = scene.start_pod("pod", &volume);
        for _ in 0..5 {
            scene.node.call_publish(&pod, &volume);
            scene.assert_shown_on(&target);
        }
        for _ in 0..3 {
            scene.node.call_unpublish(&pod, &volume);
        }
        scene.node.tear_down(&pod, &volume);
        assert!(!target.exists(), "{} is still there", target.display());
        scene.node.call_unpublish(&pod, &volume);
        scene.node.call_unpublish(&Pod::new("unknown"), &volume);
    }
    scene.node.assert_nothing_set_up();
}

/// A pod's root makes what it may make anywhere: an overlay also asks for the capabilities of the driver that mounted it.
pub(super) fn devices_and_file_capabilities_can_be_made_in_a_writable_volume<D: Driver>() {
    let Some(scene) = Scene::<D>::new() else { return };
    for kind in ["private", "copy"] {
        let volume = D::inline(kind, &[("repository", &scene.url()), ("directory", "."), ("writable", kind)]);
        let pod = Pod::new(kind);
        let target = scene.set_up(&pod, &volume);
        mknod(&target.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
        let program = target.join("program");
        fs::write(&program, "").unwrap();
        file_capability::set_net_raw(&program).unwrap();
        scene.tear_down(&pod, &volume);
    }
    scene.node.assert_nothing_set_up();
}

pub(super) fn read_only_volumes_are_images_if_the_configuration_says_so<D: Driver>() {
    let Some(place) = LoopFs::if_possible(16 << 20) else { return };
    let supported = LinuxMounter::new(place.path().join("mounting")).check_images(place.path()).is_ok();
    drop(place);
    if !require::feature(supported, "images of 512-byte blocks") {
        return;
    }
    let Some(scene) = Scene::<D>::configured(&json!({ "snapshotFormat": "image" }), |server| server) else { return };
    let filesystem = |target: &Path| {
        let mounts = mountinfo::read().unwrap().into_iter().filter(|mount| mount.target == target);
        mounts.map(|mount| mount.filesystem).collect::<Vec<_>>()
    };
    let pods = ["one", "two"].map(Pod::new);
    let [image, layer] = [scene.inline("image").read_only(), scene.inline("layer")];
    for pod in &pods {
        let target = scene.set_up(pod, &image);
        scene.assert_shown_on(&target);
        assert_eq!(filesystem(&target), ["erofs"]);
    }
    let member = Pod::new("member").with_fs_group(70_000);
    let target = scene.set_up(&member, &image);
    assert_eq!(filesystem(&target), ["erofs"]);
    assert_same_tree_of_group(&scene.repository, &scene.commit, &target, (0, 70_000));
    let target = scene.set_up(&pods[0], &layer);
    scene.assert_shown_on(&target);
    assert_eq!(filesystem(&target), ["overlay"]);
    fs::write(target.join("new"), "mine").unwrap();
    let target = scene.set_up(&member, &layer);
    assert_eq!(filesystem(&target), ["overlay"]);
    assert!(!target.join("new").exists(), "it has a layer of its own");
    let modes = [&target, &target.join("README.md")].map(|path| {
        let found = fs::metadata(path).unwrap();
        (found.gid(), found.mode() & 0o7777)
    });
    assert_eq!(modes, [(70_000, 0o2775), (70_000, 0o664)]);

    for pod in [&pods[0], &member] {
        scene.tear_down(pod, &layer);
    }
    for pod in pods.iter().chain([&member]) {
        scene.tear_down(pod, &image);
    }
    scene.node.assert_nothing_set_up();
}

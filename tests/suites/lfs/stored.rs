//! Objects in the store: kept once for a repository, shown in every format, and only to who may read the commit.

use std::path::PathBuf;

use gitrepo_tests::http::Credential;
use gitrepo_tests::lfs::Fault;
use gitrepo_tests::lfs::batches;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::lfs::oid;
use gitrepo_tests::repository::Files;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;

use super::FLAG;
use super::Scene;
use super::content;

const DISK: u64 = 64 << 20;

fn assert_shown(scene: &Scene, target: &std::path::Path) {
    assert!(std::fs::read(target.join("a.bin")).unwrap() == scene.a, "a.bin is another file");
    assert!(std::fs::read(target.join("dir/b.bin")).unwrap() == scene.b, "dir/b.bin is another file");
}

#[test]
fn every_format_shows_the_content_and_it_is_downloaded_once() {
    for format in [Format::Image, Format::Directory] {
        let Some(shell) = Shell::new_with(DISK, format) else { return };
        let scene = Scene::new();
        let targets: Vec<PathBuf> = ["plain", "private", "copy", "owned"].map(|name| shell.target(name)).into();
        for (target, more) in
            targets.iter().zip([&[][..], &["--writable=private"], &["--writable=copy"], &["--subdirectory=."]])
        {
            shell.mount(&scene.url(), target, &[&[FLAG], more].concat()).assert_success();
            assert_shown(&scene, target);
        }
        std::fs::write(targets[1].join("a.bin"), "written").unwrap();
        assert_shown(&scene, &targets[0]);
        assert_eq!(downloads(&scene.server).len(), 2);
        assert_eq!(batches(&scene.server).len(), 1, "a tree that is in the store asks nobody");
        // Pointers are another tree of the same commit.
        let pointers = shell.target("pointers");
        shell.mount(&scene.url(), &pointers, &[]).assert_success();
        assert!(std::fs::read_to_string(pointers.join("a.bin")).unwrap().starts_with("version "));
        shell.run(&["cache", "verify"]).assert_success();
        for target in targets.iter().chain([&pointers]) {
            shell.unmount(target).assert_success();
        }
        assert_eq!(shell.leftovers(), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_image_takes_other_owners_and_another_part_without_a_download() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let scene = Scene::new();
    shell.mount(&scene.url(), &shell.target("root"), &[FLAG]).assert_success();
    let owned = shell.target("owned");
    shell.mount(&scene.url(), &owned, &[FLAG, "--uid=1000", "--group=2000"]).assert_success();
    assert_shown(&scene, &owned);
    let part = shell.target("part");
    shell.mount(&scene.url(), &part, &[FLAG, "--subdirectory=dir"]).assert_success();
    assert!(std::fs::read(part.join("b.bin")).unwrap() == scene.b);
    assert_eq!((batches(&scene.server).len(), downloads(&scene.server).len()), (1, 2));
}

#[test]
fn a_later_commit_brings_only_what_is_new() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let scene = Scene::new();
    shell.mount(&scene.url(), &shell.target("first"), &[FLAG]).assert_success();
    let new = content(3, 7000);
    let commit =
        scene.repository.commit("main", &scene.lfs.file(Files::new().file("plain.txt", "other\n"), "c.bin", &new));
    let second = shell.target("second");
    shell.mount(&scene.url(), &second, &[FLAG, "--revision", &commit]).assert_success();
    assert_shown(&scene, &second);
    assert!(std::fs::read(second.join("c.bin")).unwrap() == new);
    let last = downloads(&scene.server).into_iter().skip(2).map(|request| request.path.clone()).collect::<Vec<_>>();
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(last[0].ends_with(&oid(&new)));
}

#[test]
fn what_came_before_a_failure_is_not_downloaded_again() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let scene = Scene::new();
    scene.lfs.spoil(&scene.b, Fault::Status(404));
    let target = shell.target("pod");
    let refused = shell.mount(&scene.url(), &target, &[FLAG]).assert_code(66);
    assert!(refused.stderr.contains("dir/b.bin"), "{}", refused.stderr);
    assert_eq!(shell.mounts_on(&target), 0);
    let (packs, before) = (scene.server.packs(), downloads(&scene.server).len());
    scene.lfs.repair();
    shell.mount(&scene.url(), &target, &[FLAG]).assert_success();
    assert_shown(&scene, &target);
    let again: Vec<_> = downloads(&scene.server).into_iter().skip(before).map(|request| request.path.clone()).collect();
    assert!(again.len() == 1 && again[0].ends_with(&oid(&scene.b)), "{again:?}");
    assert_eq!(scene.server.packs(), packs);
}

#[test]
fn a_mount_killed_during_a_download_is_repeated() {
    let Some(shell) = Shell::new_with(DISK, Format::Directory) else { return };
    let scene = Scene::new();
    let gate = scene.server.hold(|request| request.path.contains("/storage/"));
    let target = shell.target("pod");
    let running = shell.spawn_mount(&scene.url(), &target, &[FLAG]);
    gate.wait_for(1);
    running.kill();
    gate.open();
    shell.mount(&scene.url(), &target, &[FLAG]).assert_success();
    assert_shown(&scene, &target);
    assert_eq!(scene.server.packs(), 1, "the pack that was received before the kill is not fetched again");
}

#[test]
fn s23_a_credential_that_may_not_read_the_commit_gets_no_object() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let scene = Scene::with(|builder| builder.accept(Credential::Basic("me", "right")));
    scene.lfs.authorize("Authorization", &Credential::Basic("me", "right").header());
    shell.configure(r#"{"credentialsOverHttp": true, "cache": {"reserveBytes": "0"}}"#);
    let secret = scene.person.secret(&[("username", "me"), ("password", "right")]);
    let target = shell.target("mine");
    shell.mount(&scene.url(), &target, &[FLAG, &secret]).assert_success();
    assert_shown(&scene, &target);
    let others =
        [scene.person.secret(&[("username", "me"), ("password", "wrong")]), "--pull-policy=IfNotPresent".to_owned()];
    for other in &others {
        let target = shell.target("other");
        shell.mount(&scene.url(), &target, &[FLAG, other]).assert_code(77);
        assert_eq!(shell.mounts_on(&target), 0);
    }
}

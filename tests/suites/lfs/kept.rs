//! A download that this node ends, in whatever way, goes on with what is missing. What a full disk ends is in the suite
//! `full_disk`.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use gitrepo_tests::lfs::Fault;
use gitrepo_tests::lfs::asked;
use gitrepo_tests::lfs::downloads;
use gitrepo_tests::lfs::oid;
use gitrepo_tests::repository::Files;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::volumes::entries;
use nix::sys::signal::Signal;

use super::FLAG;
use super::Scene;
use super::content;

const DISK: u64 = 512 << 20;

/// More than what is kept together.
const LARGE: usize = 66 << 20;

/// Adds an object that is downloaded after all others.
fn add_last(scene: &Scene) -> Vec<u8> {
    let last = content(9, 9);
    scene.repository.commit("main", &scene.lfs.file(Files::new(), "z/last.bin", &last));
    last
}

/// Mounts, and fails unless only these objects are asked for, and no pack.
fn assert_only_brings(scene: &Scene, shell: &Shell, target: &Path, expected: &[&[u8]]) {
    let (packs, before) = (scene.server.packs(), (asked(&scene.server).len(), downloads(&scene.server).len()));
    shell.mount(&scene.url(), target, &[FLAG]).assert_success();
    let expected: Vec<_> = expected.iter().map(|content| oid(content)).collect();
    assert_eq!(asked(&scene.server).split_off(before.0), expected);
    let downloaded = downloads(&scene.server).split_off(before.1);
    let downloaded: Vec<_> = downloaded.iter().map(|request| request.path.rsplit_once('/').unwrap().1).collect();
    assert_eq!(downloaded, expected);
    assert_eq!(scene.server.packs(), packs);
    assert!(std::fs::read(target.join("a.bin")).unwrap() == scene.a);
    assert!(std::fs::read(target.join("dir/b.bin")).unwrap() == scene.b);
    shell.run(&["cache", "verify"]).assert_success();
}

#[test]
fn a_download_that_goes_silent_or_takes_too_long_goes_on_with_the_rest() {
    for (limits, code) in [(r#"{"stall": "1s"}"#, 69), (r#"{"timeout": "10s", "stall": "60s"}"#, 75)] {
        let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
        let scene = Scene::new();
        let last = add_last(&scene);
        scene.lfs.spoil(&last, Fault::Silent);
        shell.configure(&format!(r#"{{"cache": {{"reserveBytes": "0"}}, "limits": {limits}}}"#));
        let target = shell.target("pod");
        shell.mount(&scene.url(), &target, &[FLAG]).assert_code(code);
        scene.lfs.repair();
        assert_only_brings(&scene, &shell, &target, &[&last]);
    }
}

#[test]
fn a_download_that_is_given_up_goes_on_with_the_rest() {
    let Some(shell) = Shell::new_with(DISK, Format::Directory) else { return };
    let scene = Scene::new();
    let last = add_last(&scene);
    let of_last = oid(&last);
    let gate = scene.server.hold(move |request| request.path.ends_with(&of_last));
    let target = shell.target("pod");
    let running = shell.spawn_mount(&scene.url(), &target, &[FLAG]);
    gate.wait_for(1);
    running.signal(Signal::SIGTERM);
    assert!(!running.wait().status.success());
    gate.open();
    assert_only_brings(&scene, &shell, &target, &[&last]);
}

/// The list of objects in the staging directory of a fetch.
fn noted(shell: &Shell) -> PathBuf {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let staging = entries(&shell.store().join("staging"));
        if let Some(path) = staging.iter().map(|path| path.join("repository.git/lfs")).find(|path| path.exists()) {
            return path;
        }
        assert!(Instant::now() < patience, "no object is noted");
        std::thread::yield_now();
    }
}

#[test]
fn a_download_that_is_killed_goes_on_behind_its_last_portion() {
    // The commit comes with the objects, or was there before.
    for is_known in [false, true] {
        let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
        let scene = Scene::new();
        let large = vec![7; LARGE];
        scene.repository.commit("main", &scene.lfs.file(Files::new(), "e/large.bin", &large));
        let last = add_last(&scene);
        if is_known {
            shell.mount(&scene.url(), &shell.target("pointers"), &[]).assert_success();
        }
        let of_last = oid(&last);
        let gate = scene.server.hold(move |request| request.path.ends_with(&of_last));
        let target = shell.target("pod");
        let running = shell.spawn_mount(&scene.url(), &target, &[FLAG]);
        gate.wait_for(1);
        noted(&shell);
        running.kill();
        gate.open();
        assert_only_brings(&scene, &shell, &target, &[&last]);
        assert_eq!(scene.server.packs(), 1);
        assert!(std::fs::read(target.join("e/large.bin")).unwrap() == large);
        shell.unmount(&target).assert_success();
        shell.run(&["sweep"]).assert_success();
    }
}

#[test]
fn the_pack_and_the_objects_may_be_as_large_as_the_limit_each() {
    let scene = Scene::new();
    let large = content(3, 3_600_000);
    let files = Files::new().file("noise", gitrepo_tests::fixtures::noise(1, 3_600_000));
    scene.repository.commit("main", &scene.lfs.file(files, "large.bin", &large));
    let configuration = scene.person.configuration(r#"{"limits": {"fetchBytes": "4Mi"}}"#);
    scene.person.clone(&scene.url(), &[FLAG, &configuration]).assert_success();
    scene.assert_cloned();
}

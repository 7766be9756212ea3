//! Trees with submodules as images and as directories, mounted as root.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::volumes::entries;
use nix::sys::signal::Signal;

use super::Family;
use super::RECURSIVE;
use super::packs_of;

const DISK: u64 = 64 << 20;

#[test]
fn both_formats_and_a_copy_show_what_git_checks_out() {
    let family = Family::new();
    let server = family.serve();
    let url = server.url(&family.super_project);
    let expected = cloned_by_git(&url);
    for format in [Format::Image, Format::Directory] {
        let Some(shell) = Shell::new_with(DISK, format) else { return };
        let before = packs_of(&server, "leaf");
        let (target, copy) = (shell.target("pod"), shell.target("copy"));
        shell.mount(&url, &target, &[RECURSIVE]).assert_success();
        assert_eq!(contents(&target), expected);
        shell.mount(&url, &copy, &[RECURSIVE, "--writable=private"]).assert_success();
        assert_eq!(contents(&copy), expected);
        assert_eq!(packs_of(&server, "leaf"), before + 2, "two commits, fetched once");
        shell.run(&["cache", "verify"]).assert_success();
        shell.run(&["cache", "ls"]).assert_success();
        for target in [&target, &copy] {
            shell.unmount(target).assert_success();
        }
        assert_eq!(shell.leftovers(), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_image_with_submodules_takes_other_owners_without_a_fetch() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let family = Family::new();
    let server = family.serve();
    let url = server.url(&family.super_project);
    shell.mount(&url, &shell.target("root"), &[RECURSIVE]).assert_success();
    let packs = server.packs();
    let target = shell.target("owned");
    shell.mount(&url, &target, &[RECURSIVE, "--uid=1000", "--group=2000"]).assert_success();
    let file = target.join("lib/vendor/leaf/bin/run").metadata().unwrap();
    assert_eq!((file.uid(), file.gid(), server.packs()), (1000, 2000, packs));
}

#[test]
fn what_the_store_evicts_a_mounted_tree_keeps() {
    let Some(shell) = Shell::new_with(DISK, Format::Image) else { return };
    let family = Family::new();
    let server = family.serve();
    let url = server.url(&family.super_project);
    let expected = cloned_by_git(&url);
    let target = shell.target("pod");
    shell.mount(&url, &target, &[RECURSIVE]).assert_success();
    let parts = || {
        let metas = entries(&shell.store().join("snapshots")).into_iter().map(|snapshot| snapshot.join("meta.json"));
        metas.filter(|meta| std::fs::read_to_string(meta).unwrap().contains("\"part\"")).count()
    };
    assert_eq!(parts(), 4);
    shell.run(&["sweep", "--unreferenced"]).assert_success();
    assert_eq!((parts(), contents(&target)), (0, expected.clone()));
    // Its parts are gone, and what is mounted serves the next pod.
    let packs = server.packs();
    shell.mount(&url, &shell.target("next"), &[RECURSIVE]).assert_success();
    assert_eq!(server.packs(), packs);
    assert_eq!(contents(&shell.target("next")), expected);
}

#[test]
fn a_mount_killed_while_it_fetches_a_submodule_is_repeated() {
    let Some(shell) = Shell::new_with(DISK, Format::Directory) else { return };
    let family = Family::new();
    let server = family.serve();
    let url = server.url(&family.super_project);
    let expected = cloned_by_git(&url);
    let gate = server.hold(|request| request.path.starts_with("/leaf.git") && request.is_upload_pack());
    let target = shell.target("pod");
    let before = packs_of(&server, "super");
    let running = shell.spawn_mount(&url, &target, &[RECURSIVE]);
    gate.wait_for(1);
    running.kill();
    gate.open();
    shell.mount(&url, &target, &[RECURSIVE]).assert_success();
    assert_eq!(contents(&target), expected);
    assert_eq!(packs_of(&server, "super"), before + 1, "what was brought before the kill is not fetched again");
    shell.unmount(&target).assert_success();
    shell.run(&["sweep"]).assert_success();
    assert_eq!(shell.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_mount_that_is_interrupted_in_a_submodule_leaves_nothing() {
    let Some(shell) = Shell::new_with(DISK, Format::Directory) else { return };
    let family = Family::new();
    let server = family.serve();
    let gate = server.hold(|request| request.path.starts_with("/middle.git"));
    let target = shell.target("pod");
    let running = shell.spawn_mount(&server.url(&family.super_project), &target, &[RECURSIVE]);
    gate.wait_for(1);
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().code(), 130);
    gate.open();
    assert!(!target.exists());
    assert_eq!(shell.leftovers(), Vec::<PathBuf>::new());
}

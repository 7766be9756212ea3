//! Content of a submodule that a disk damaged is fetched anew, whatever is made of it.

use gitrepo_core::spec::Submodules;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::submodules::cloned_by_git;
use gitrepo_tests::submodules::contents;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;

use super::Family;
use super::RECURSIVE;
use super::access::ALL;
use super::access::Scene;
use super::packs_of;
use crate::cache::damage_segments;

const DISK: u64 = 64 << 20;

#[test]
fn r4_a_damaged_tree_is_composed_again_of_content_that_was_read() {
    for format in [Format::Image, Format::Directory] {
        let Some(shell) = Shell::new_with(DISK, format) else { return };
        let family = Family::new();
        let server = family.serve();
        let (url, target) = (server.url(&family.super_project), shell.target("pod"));
        let expected = cloned_by_git(&url);
        let before = packs_of(&server, "leaf");
        shell.mount(&url, &target, &[RECURSIVE]).assert_success();
        shell.unmount(&target).assert_success();
        damage_segments(&shell.store());
        // Nobody asks for the repositories of the submodules to be read.
        let report = shell.run(&["cache", "verify", "--repair", &url]).assert_success();
        assert!(report.stdout.contains("damaged: snapshot"), "{}", report.stdout);
        shell.mount(&url, &target, &[RECURSIVE]).assert_success();
        assert_eq!(contents(&target), expected);
        if format == Format::Image {
            assert_eq!(packs_of(&server, "leaf"), before + 4, "two commits, fetched again");
        }
        shell.run(&["cache", "verify", &url]).assert_success();
    }
}

#[test]
fn r4_a_tree_that_cannot_be_copied_of_damaged_content_has_it_fetched_anew() {
    let Some(shell) = Shell::new_with(DISK, Format::Directory) else { return };
    let family = Family::new();
    let server = family.serve();
    let (url, target) = (server.url(&family.super_project), shell.target("pod"));
    let expected = cloned_by_git(&url);
    shell.mount(&url, &target, &[RECURSIVE]).assert_success();
    shell.unmount(&target).assert_success();
    damage_segments(&shell.store());
    // Another tree of the same parts.
    shell.mount(&url, &target, &[RECURSIVE, "--directory=below"]).assert_success();
    assert_eq!(contents(&target.join("below")), expected);
}

#[test]
fn r4_damaged_content_of_a_submodule_is_fetched_anew_for_the_next_tree() {
    let scene = Scene::new(|_| {});
    scene.node.publish_as(&scene.request(0, "first"), &token(Some(ALL))).unwrap();
    assert!(damage_segments(scene.node.store()) > 0);
    for pod in ["second", "third"] {
        let request = with(scene.request(1, pod), |request| request.spec.tree.submodules = Submodules::Recursive);
        scene.node.publish_as(&request, &token(Some(ALL))).unwrap();
        let shown = scene.node.shown(&scene.node.target(pod)).join("lib/sub/secret");
        assert_eq!(std::fs::read_to_string(shown).unwrap(), "secret\n", "{pod}");
    }
    assert_eq!(packs_of(&scene.server, "sub"), 2);
}

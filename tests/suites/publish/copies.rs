//! Private, writable copies.

use std::fs;
use std::os::unix::fs::MetadataExt;

use gitrepo_core::error::Kind;
use gitrepo_core::spec::Writable;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::require;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;

use super::Bench;
use super::shared::assert_owner_and_modes;

pub(super) fn writes_to_a_copy_are_not_visible_elsewhere(bench: &Bench) {
    let (one, two) = (bench.node.target("one"), bench.node.target("two"));
    let shared = bench.node.target("shared");
    for request in [writable(&bench.url(), &one, 0), writable(&bench.url(), &two, 0), read_only(&bench.url(), &shared)]
    {
        bench.node.publish(&request).unwrap();
    }
    let written = bench.node.shown(&one);
    fs::write(written.join("README.md"), "changed").unwrap();
    fs::write(written.join("new"), "new").unwrap();
    fs::remove_file(written.join("run")).unwrap();
    delete(&written.join("a"));

    bench.assert_shows(&two, &bench.commit);
    bench.assert_shows(&shared, &bench.commit);
    let later = bench.node.target("later");
    bench.node.publish(&writable(&bench.url(), &later, 0)).unwrap();
    bench.assert_shows(&later, &bench.commit);
    assert_eq!(fs::read_to_string(bench.node.shown(&one).join("README.md")).unwrap(), "changed");
}

pub(super) fn a_copy_is_removed_with_its_volume(bench: &Bench) {
    let request = writable(&bench.url(), &bench.node.target("pod"), 0);
    for _ in 0..2 {
        bench.node.publish(&request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
        fs::write(bench.node.shown(&request.target).join("written"), "by the pod").unwrap();
        bench.node.unpublish(&request);
        bench.node.assert_nothing_published();
    }
}

pub(super) fn writes_to_a_copy_survive_a_reboot(bench: &Bench) {
    let request = writable(&bench.url(), &bench.node.target("pod"), 0);
    bench.node.publish(&request).unwrap();
    fs::write(bench.node.shown(&request.target).join("written"), "by the pod").unwrap();
    bench.node.publish(&request).unwrap();
    bench.node.reboot();
    bench.node.publish(&request).unwrap();
    let written = bench.node.shown(&request.target).join("written");
    assert_eq!(fs::read_to_string(written).unwrap(), "by the pod");
    assert_eq!(bench.node.mounts_on(&request.target), 1);
}

pub(super) fn a_copy_is_private_by_default(bench: &Bench) {
    let mut request = writable(&bench.url(), &bench.node.target("pod"), 0);
    let mut other =
        with(writable(&bench.url(), &request.target, 0), |request| request.target = bench.node.target("other"));
    bench.node.publish(&request).unwrap();
    fs::write(bench.node.shown(&request.target).join("written"), "by the pod").unwrap();
    for word in [None, Some(Writable::Private), Some(Writable::Copy)] {
        request.spec.writable = word;
        assert_eq!(bench.node.publish(&request).unwrap().outcome, Outcome::AlreadyPublished, "{word:?}");
        other.spec.writable = word;
        bench.node.publish(&other).unwrap();
        bench.assert_shows(&other.target, &bench.commit);
        bench.node.unpublish(&other);
    }
    request.spec.writable = Some(Writable::Shared);
    assert_eq!(bench.node.publish(&request).unwrap_err().kind(), Kind::AlreadyExists);
}

pub(super) fn a_copy_belongs_to_the_requested_group(bench: &Bench) {
    if !require::root("to give files away") {
        return;
    }
    let with_group =
        |group| with(writable(&bench.url(), &bench.node.target("pod"), 4711), |request| request.group = group);
    bench.node.publish(&with_group(Some(4712))).unwrap();
    let shown = bench.node.shown(&bench.node.target("pod"));
    assert_owner_and_modes(&shown);
    fs::write(shown.join("a/new"), "").unwrap();
    assert_eq!(fs::metadata(shown.join("a/new")).unwrap().gid(), 4712, "new files belong to the group too");

    for other in [None, Some(4713)] {
        let error = bench.node.publish(&with_group(other)).unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists, "{error}");
    }
    assert_eq!(bench.node.publish(&with_group(Some(4712))).unwrap().outcome, Outcome::AlreadyPublished);
}

pub(super) fn a_copy_belongs_to_the_requested_user(bench: &Bench) {
    if !require::root("to give files away") {
        return;
    }
    let request = writable(&bench.url(), &bench.node.target("pod"), 4711);
    assert_eq!(request.spec.writable, Some(Writable::Copy));
    bench.node.publish(&request).unwrap();
    let shown = bench.node.shown(&request.target);
    for name in ["", "README.md", "run", "a", "a/b", "a/b/c"] {
        let metadata = shown.join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4711), "{name:?}");
    }
}

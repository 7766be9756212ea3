//! One writable copy for all targets of a volume on the node.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::spec::Writable;
use gitrepo_core::testing::Verb;
use gitrepo_core::volume::Abandoned;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::http::Credential;
use gitrepo_tests::repository::Files;
use gitrepo_tests::require;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::delete;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::shared;
use gitrepo_tests::volumes::token;
use gitrepo_tests::volumes::with;
use gitrepo_tests::volumes::writable;

use super::Bench;

const WRITTEN: &str = "by the pod";

fn requests<const N: usize>(bench: &Bench, pods: [&str; N]) -> [VolumeRequest; N] {
    pods.map(|pod| shared(&bench.url(), "volume", &bench.node.target(pod)))
}

fn publish_and_write(bench: &Bench, request: &VolumeRequest) {
    bench.node.publish(request).unwrap();
    write(bench, request);
}

fn write(bench: &Bench, request: &VolumeRequest) {
    fs::write(bench.node.shown(&request.target).join("written"), WRITTEN).unwrap();
}

fn written(bench: &Bench, request: &VolumeRequest) -> Option<String> {
    fs::read_to_string(bench.node.shown(&request.target).join("written")).ok()
}

fn sweep(bench: &Bench) {
    let report =
        bench.node.volumes.sweep(&Abandoned::Unmounted { origin: volumes::PERSON }, Duration::from_secs(60)).unwrap();
    assert!(report.failures.is_empty() && !report.incomplete, "{report:?}");
}

/// The directory of the only volume.
fn volume_directory(bench: &Bench) -> PathBuf {
    let volumes = entries(&bench.node.store().join("volumes"));
    assert_eq!(volumes.len(), 1);
    volumes[0].clone()
}

pub(super) fn targets_of_a_volume_share_a_copy_until_the_last_is_gone(bench: &Bench) {
    let [one, two, three] = requests(bench, ["one", "two", "three"]);
    let first = bench.node.publish(&one).unwrap();
    bench.assert_shows(&one.target, &bench.commit);
    publish_and_write(bench, &two);
    assert_eq!(written(bench, &one).as_deref(), Some(WRITTEN));

    bench.node.unpublish(&one);
    sweep(bench);
    assert_eq!(written(bench, &two).as_deref(), Some(WRITTEN));
    let pushed = bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    let third = bench.node.publish(&three).unwrap();
    assert_eq!((third.commit, &third.reference), (first.commit, &first.reference), "a copy shows one commit");
    assert_eq!(written(bench, &three).as_deref(), Some(WRITTEN));
    assert_eq!(bench.node.publish(&three).unwrap().outcome, Outcome::AlreadyPublished);

    bench.node.unpublish(&two);
    assert_eq!(written(bench, &three).as_deref(), Some(WRITTEN));
    bench.node.unpublish(&three);
    bench.node.assert_nothing_published();

    let again = at(one, "refs/heads/main");
    assert_eq!(bench.node.publish(&again).unwrap().commit.to_string(), pushed);
    bench.assert_shows(&again.target, &pushed);
    bench.node.unpublish(&again);
    bench.node.assert_nothing_published();
}

pub(super) fn other_volumes_and_private_copies_do_not_show_a_shared_copy(bench: &Bench) {
    let [one] = requests(bench, ["one"]);
    publish_and_write(bench, &one);
    let others = [
        shared(&bench.url(), "another", &bench.node.target("another")),
        with(writable(&bench.url(), &bench.node.target("copy"), 0), |request| request.volume_id = "volume".to_owned()),
        with(read_only(&bench.url(), &bench.node.target("read")), |request| request.volume_id = "volume".to_owned()),
    ];
    for other in &others {
        bench.node.publish(other).unwrap();
        bench.assert_shows(&other.target, &bench.commit);
    }
    bench.node.unpublish(&one);
    for other in &others {
        bench.assert_shows(&other.target, &bench.commit);
        bench.node.unpublish(other);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_shared_copy_and_its_data_survive_a_reboot(bench: &Bench) {
    let requests = requests(bench, ["one", "two"]);
    for request in &requests {
        publish_and_write(bench, request);
    }
    bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    bench.node.reboot();
    sweep(bench);
    for request in &requests {
        assert_eq!(bench.node.publish(request).unwrap().commit.to_string(), bench.commit);
        assert_eq!(written(bench, request).as_deref(), Some(WRITTEN));
        assert_eq!(bench.node.mounts_on(&request.target), 1);
    }
    let [one, two] = requests;
    bench.node.reboot();
    bench.node.unpublish(&one);
    bench.node.publish(&two).unwrap();
    assert_eq!(written(bench, &two).as_deref(), Some(WRITTEN), "one of two was unpublished after a reboot");
    bench.node.unpublish(&two);
    bench.node.assert_nothing_published();
}

pub(super) fn different_content_is_refused_while_a_shared_copy_exists(bench: &Bench) {
    let [one, two] = requests(bench, ["one", "two"]);
    publish_and_write(bench, &one);
    let target = || two.target.clone();
    let with = |change: fn(&mut VolumeRequest)| {
        let mut request = shared(&bench.url(), "volume", &target());
        change(&mut request);
        request
    };
    let others = [
        (at(shared(&bench.url(), "volume", &target()), &bench.first), "revision HEAD and not"),
        (shared(&bench.server.url_at("another.git"), "volume", &target()), "another.git"),
        (with(|request| request.spec.uid = 4711), "uid 0 and not 4711"),
        (with(|request| request.group = Some(7)), "group none and not 7"),
    ];
    for (other, words) in &others {
        let asked = bench.server.requests().len();
        let error = bench.node.publish(other).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
        let message = error.to_string();
        assert!(message.contains(words) && message.contains("unpublish all of them"), "{message}");
        assert_eq!(bench.server.requests().len(), asked, "refused before the remote is asked");
        assert!(!other.target.exists());
    }
    assert_eq!(written(bench, &one).as_deref(), Some(WRITTEN));
    bench.node.unpublish(&one);
    let (other, _) = &others[0];
    bench.node.publish(other).unwrap();
    bench.assert_shows(&other.target, &bench.first);
    bench.node.unpublish(other);
    bench.node.assert_nothing_published();
}

pub(super) fn a_shared_copy_is_refused_to_credentials_that_could_not_fetch_it(bench: &Bench) {
    bench.server.accept_only(&[Credential::Bearer("right")]);
    let [one, two] = requests(bench, ["one", "two"]);
    let right = token(Some("right"));
    bench.node.publish_as(&one, &right).unwrap();
    write(bench, &one);
    for wrong in [None, Some("wrong")] {
        let error = bench.node.publish_as(&two, &token(wrong)).unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
        assert!(!two.target.exists());
    }
    bench.node.publish_as(&two, &right).unwrap();
    assert_eq!(written(bench, &two).as_deref(), Some(WRITTEN));
}

pub(super) fn a_target_that_fails_to_join_leaves_the_shared_copy_alone(bench: &Bench) {
    let [one, two] = requests(bench, ["one", "two"]);
    publish_and_write(bench, &one);
    for verb in [Verb::Attach, Verb::List, Verb::Shows, Verb::Unmount] {
        for nth in 1.. {
            if bench.failing(verb, nth).publish(&two).is_ok() {
                break;
            }
            assert_eq!(bench.node.mounts_on(&two.target), 0, "{verb:?} {nth}");
            assert!(!two.target.exists(), "{verb:?} {nth}");
            assert_eq!(bench.node.volumes.list().unwrap().len(), 1);
            assert_eq!(written(bench, &one).as_deref(), Some(WRITTEN));
        }
        assert_eq!(written(bench, &two).as_deref(), Some(WRITTEN));
        bench.node.unpublish(&two);
    }
    bench.node.unpublish(&one);
    bench.node.assert_nothing_published();
}

/// The state after a process dies with the copy on disk but no record, in a publish or an unpublish.
pub(super) fn a_shared_copy_without_a_record_is_never_shown_again(bench: &Bench) {
    let [one, two] = requests(bench, ["one", "two"]);
    let leave = || {
        publish_and_write(bench, &one);
        delete(bench.node.record_file().parent().unwrap());
        bench.mounter.unmount(&one.target).unwrap();
        fs::remove_dir(&one.target).unwrap();
    };
    leave();
    bench.node.publish(&two).unwrap();
    bench.assert_shows(&two.target, &bench.commit);
    bench.node.unpublish(&two);
    bench.node.assert_nothing_published();

    leave();
    let other = at(shared(&bench.url(), "volume", &two.target), &bench.first);
    bench.node.publish(&other).unwrap();
    bench.assert_shows(&other.target, &bench.first);
    bench.node.unpublish(&other);

    leave();
    bench.node.unpublish(&one);
    assert_eq!(entries(&bench.node.store().join("trash")), [] as [PathBuf; 0]);
    assert!(!volume_directory_has(bench, "shared"), "a repeated unpublish removes the copy");

    leave();
    sweep(bench);
    bench.node.assert_nothing_published();
}

fn volume_directory_has(bench: &Bench, name: &str) -> bool {
    entries(&bench.node.store().join("volumes")).iter().any(|volume| volume.join(name).exists())
}

pub(super) fn a_mounted_shared_copy_outlives_a_lost_record(bench: &Bench) {
    let [one, two] = requests(bench, ["one", "two"]);
    publish_and_write(bench, &one);
    fs::write(bench.node.record_file(), "").unwrap();
    sweep(bench);
    bench.node.publish(&two).unwrap();
    assert_eq!(written(bench, &two).as_deref(), Some(WRITTEN));
    bench.node.unpublish(&two);
    assert_eq!(written(bench, &one).as_deref(), Some(WRITTEN), "the copy is still mounted, though it has no record");

    assert_eq!(bench.node.unpublish(&one).mounts, 1);
    fs::remove_dir(&one.target).unwrap();
    sweep(bench);
    bench.node.assert_nothing_published();
}

/// The state after a process dies with a record but no copy, or after somebody deletes the copy.
pub(super) fn a_lost_shared_copy_is_made_again_from_the_same_commit(bench: &Bench) {
    let [one, two] = requests(bench, ["one", "two"]);
    publish_and_write(bench, &one);
    bench.repository.commit("main", &Files::new().file("README.md", "# Third\n"));
    bench.node.reboot();
    delete(&volume_directory(bench).join("shared"));
    for request in [&two, &one] {
        assert_eq!(bench.node.publish(request).unwrap().commit.to_string(), bench.commit);
        bench.assert_shows(&request.target, &bench.commit);
    }
    for request in [&one, &two] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_shared_copy_belongs_to_the_requested_user_and_group(bench: &Bench) {
    if !require::root("to give files away") {
        return;
    }
    let requests = requests(bench, ["one", "two"]).map(|mut request| {
        request.spec.uid = 4711;
        with(request, |request| request.group = Some(4712))
    });
    for request in &requests {
        assert_eq!(request.spec.writable, Some(Writable::Shared));
        bench.node.publish(request).unwrap();
        assert_owner_and_modes(&bench.node.shown(&request.target));
    }
}

/// Checks owners and modes of the bench's second commit, for user 4711 and group 4712.
pub(super) fn assert_owner_and_modes(shown: &Path) {
    for (name, mode) in
        [("", 0o2775), ("README.md", 0o664), ("run", 0o775), ("a", 0o2775), ("a/b", 0o2775), ("a/b/c", 0o664)]
    {
        let metadata = shown.join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{name:?}");
        assert_eq!(metadata.mode() & 0o7777, mode, "{name:?}");
    }
}

//! Owners of read-only volumes: other images over the same content.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::policy::SnapshotChoice;
use gitrepo_core::store::Eviction;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::tree::assert_same_tree_of_group;
use gitrepo_tests::volumes;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::with;

use super::Bench;
use super::images::every_fixture;
use super::images::image_on;

/// A group beyond the 16 bits of a compact inode.
const LARGE: u32 = 70_000;

fn of_group(request: VolumeRequest, uid: u32, group: u32) -> VolumeRequest {
    with(request, |request| {
        request.spec.uid = uid;
        request.group = Some(group);
    })
}

/// The same node, but it serves directories.
fn directories(bench: &Bench) -> Node {
    bench.configured(|config| config.snapshot_format = SnapshotChoice::Directory)
}

/// The snapshot that a target shows.
fn shown(bench: &Bench, target: &Path) -> PathBuf {
    image_on(bench, target).image().unwrap().parent().unwrap().to_owned()
}

/// The inode numbers of a snapshot's devices.
fn devices(snapshot: &Path) -> Vec<u64> {
    let paths = (0..).map(|number: usize| snapshot.join(number.to_string())).take_while(|path| path.exists());
    paths.map(|path| fs::metadata(path).unwrap().ino()).collect()
}

pub(super) fn every_fixture_belongs_to_the_owners_that_were_asked_for(bench: &Bench) {
    for (number, repository) in every_fixture().iter().enumerate() {
        let server = HttpServer::start(repository);
        let commit = repository.resolve("main");
        let target = |owner: &str| bench.node.target(&format!("{owner}-{number}"));
        let plain = |owner: &str| read_only(&server.url(repository), &target(owner));
        // The first is fetched, the others are not.
        let groups = [(0, 2000), (0, LARGE), (LARGE + 1, 2000), (1000, 0)];
        let requests = groups.map(|(uid, gid)| of_group(plain(&format!("{uid}-{gid}")), uid, gid));
        for (request, owner) in requests.iter().zip(groups) {
            bench.node.publish(request).unwrap();
            assert_same_tree_of_group(repository, &commit, &request.target, owner);
        }
        assert_eq!(server.packs(), 1);
        // A user without a group has the group of the same number, and the modes of git.
        let user = with(plain("user"), |request| request.spec.uid = 1000);
        bench.node.publish(&user).unwrap();
        assert_same_tree(repository, &commit, ".", &user.target);
        let found = fs::metadata(&user.target).unwrap();
        assert_eq!((found.uid(), found.gid()), (1000, 1000));
        for request in requests.iter().chain([&user]) {
            bench.node.unpublish(request);
        }
    }
    bench.node.assert_nothing_published();
}

pub(super) fn groups_of_one_commit_share_its_segments(bench: &Bench) {
    let plain = read_only(&bench.url(), &bench.node.target("plain"));
    let [one, two, again] = [("one", 2000), ("two", 3000), ("again", 2000)]
        .map(|(pod, group)| of_group(read_only(&bench.url(), &bench.node.target(pod)), 0, group));
    for request in [&plain, &one, &two, &again] {
        bench.node.publish(request).unwrap();
    }
    bench.assert_shows(&plain.target, &bench.commit);
    for (request, group) in [(&one, 2000), (&two, 3000), (&again, 2000)] {
        assert_same_tree_of_group(&bench.repository, &bench.commit, &request.target, (0, group));
        let refused = File::create(request.target.join("new")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    let [all, of_one, of_two, of_again] = [&plain, &one, &two, &again].map(|request| shown(bench, &request.target));
    assert_eq!(BTreeSet::from([&all, &of_one, &of_two]).len(), 3);
    assert_eq!(of_one, of_again);
    assert!(!devices(&all).is_empty());
    for view in [&of_one, &of_two] {
        assert_eq!(devices(view), devices(&all), "no content is copied");
    }
    let [one_mount, again_mount] = [&one, &again].map(|request| image_on(bench, &request.target));
    assert_eq!(one_mount.device, again_mount.device, "one filesystem for one view");
    assert_eq!((bench.server.packs(), bench.node.snapshots().len()), (1, 3));

    assert_eq!(bench.node.publish(&one).unwrap().outcome, Outcome::AlreadyPublished);
    let other = of_group(read_only(&bench.url(), &one.target), 0, 3000);
    assert_eq!(bench.node.publish(&other).unwrap_err().kind(), Kind::AlreadyExists);
    for request in [&plain, &one, &two, &again] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_view_is_made_without_remote_and_repository(bench: &Bench) {
    // Its link must not be looked for where it came from.
    let commit = bench.repository.commit("main", &Files::new().file("a", "content\n").symlink("b/link", "../a"));
    let plain = at(read_only(&bench.url(), &bench.node.target("plain")), &commit);
    bench.node.publish(&plain).unwrap();
    let asked = bench.server.requests().len();
    for repository in volumes::entries(&bench.node.store().join("repositories")) {
        volumes::delete(&repository);
    }
    let view = of_group(at(read_only(&bench.url(), &bench.node.target("view")), &commit), 0, 2000);
    assert_eq!(bench.node.publish(&view).unwrap().outcome, Outcome::Hit);
    assert_eq!(bench.server.requests().len(), asked);
    assert_same_tree_of_group(&bench.repository, &commit, &view.target, (0, 2000));
    for request in [&plain, &view] {
        bench.node.unpublish(request);
    }
}

pub(super) fn a_view_is_kept_and_the_same_again_after_a_reboot(bench: &Bench) {
    let request = of_group(read_only(&bench.url(), &bench.node.target("pod")), 0, 2000);
    bench.node.publish(&request).unwrap();
    let view = shown(bench, &request.target);
    let asked = bench.server.requests().len();
    bench.node.reboot();
    bench.node.publish(&request).unwrap();
    assert_eq!((shown(bench, &request.target), bench.server.requests().len()), (view.clone(), asked));
    // The next target with this owner finds it, too.
    bench.node.unpublish(&request);
    assert_eq!(bench.node.publish(&request).unwrap().outcome, Outcome::Hit);
    assert_eq!(shown(bench, &request.target), view);
    // Made anew, it is the same, byte for byte.
    bench.node.unpublish(&request);
    let image = fs::read(view.join("image")).unwrap();
    volumes::delete(&view);
    bench.node.publish(&request).unwrap();
    assert_eq!(fs::read(view.join("image")).unwrap(), image);
    bench.node.unpublish(&request);
}

pub(super) fn a_view_outlives_the_snapshot_that_it_was_made_of(bench: &Bench) {
    let request = of_group(read_only(&bench.url(), &bench.node.target("pod")), 0, 2000);
    bench.node.publish(&request).unwrap();
    let store = bench.node.volumes.store();
    let shown_now = || Some(bench.mounter.list().unwrap().iter().filter_map(|mount| store.shown_by(mount)).collect());
    let evict = || store.evict(Eviction::Unreferenced, &shown_now, Duration::from_secs(60)).unwrap().snapshots;
    assert_eq!(evict(), 1, "the one of root, which nobody shows");
    assert_same_tree_of_group(&bench.repository, &bench.commit, &request.target, (0, 2000));
    bench.node.reboot();
    bench.node.publish(&request).unwrap();
    assert_same_tree_of_group(&bench.repository, &bench.commit, &request.target, (0, 2000));
    bench.node.unpublish(&request);
    assert_eq!(evict(), 1);
    assert!(bench.node.snapshots().is_empty());
}

/// Does something to a snapshot.
type Damage = Box<dyn Fn(&Path) -> io::Result<()>>;

fn cut(name: &'static str) -> Damage {
    Box::new(move |snapshot| File::options().write(true).open(snapshot.join(name))?.set_len(512))
}

fn gone(name: &'static str) -> Damage {
    Box::new(move |snapshot| fs::remove_file(snapshot.join(name)))
}

/// A commit with a file of several blocks and a link.
fn large(bench: &Bench) -> String {
    bench.repository.commit("main", &Files::new().file("large", fixtures::text(1, 5000)).symlink("link", "large"))
}

pub(super) fn a_damaged_view_is_made_again_from_the_store(bench: &Bench) {
    let commit = large(bench);
    let request = of_group(at(read_only(&bench.url(), &bench.node.target("pod")), &commit), 0, 2000);
    bench.node.publish(&request).unwrap();
    let packs = bench.server.packs();
    for (what, damage) in [("image cut", cut("image")), ("image gone", gone("image")), ("device gone", gone("0"))] {
        for reboots in [false, true] {
            let view = shown(bench, &request.target);
            match reboots {
                true => bench.node.reboot(),
                false => drop(bench.node.unpublish(&request)),
            }
            damage(&view).unwrap();
            bench.node.publish(&request).unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
            assert_ne!(shown(bench, &request.target), view, "{what}");
            assert_same_tree_of_group(&bench.repository, &commit, &request.target, (0, 2000));
            assert_eq!(bench.server.packs(), packs, "{what}");
        }
    }
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn a_view_of_a_damaged_snapshot_is_fetched(bench: &Bench) {
    let commit = large(bench);
    let plain = at(read_only(&bench.url(), &bench.node.target("plain")), &commit);
    let other_manifest = |snapshot: &Path| {
        let manifest = fs::read_to_string(snapshot.join("manifest"))?;
        fs::write(snapshot.join("manifest"), manifest.replace("large\0", "forged\0"))
    };
    let damages: [(&str, Damage); 7] = [
        ("manifest gone", gone("manifest")),
        ("manifest cut", cut("manifest")),
        ("another manifest", Box::new(other_manifest)),
        ("targets gone", gone("links")),
        ("image gone", gone("image")),
        ("device gone", gone("0")),
        ("device cut", cut("0")),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        bench.node.publish(&plain).unwrap();
        let fetched = shown(bench, &plain.target);
        bench.node.unpublish(&plain);
        damage(&fetched).unwrap();
        let group = 2000 + u32::try_from(number).unwrap();
        let view = of_group(at(read_only(&bench.url(), &bench.node.target("view")), &commit), 0, group);
        bench.node.publish(&view).unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_same_tree_of_group(&bench.repository, &commit, &view.target, (0, group));
        bench.node.publish(&plain).unwrap();
        assert_ne!(shown(bench, &plain.target), fetched, "{what}");
        bench.assert_shows(&plain.target, &commit);
        for request in [&plain, &view] {
            bench.node.unpublish(request);
        }
    }
    bench.node.assert_nothing_published();
}

/// An upgrade must not break pods with an fsGroup: a driver's earlier versions ignored it for read-only volumes.
pub(super) fn a_volume_of_a_version_without_owners_stays_as_it_is(bench: &Bench) {
    let request = of_group(read_only(&bench.url(), &bench.node.target("pod")), 0, 2000);
    bench.node.publish(&read_only(&bench.url(), &request.target)).unwrap();
    assert_eq!(bench.node.publish(&request).unwrap_err().kind(), Kind::AlreadyExists);
    let file = bench.node.record_file();
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(record.as_object_mut().unwrap().remove("ownership").is_some());
    fs::write(&file, record.to_string()).unwrap();
    assert_eq!(bench.node.publish(&request).unwrap().outcome, Outcome::AlreadyPublished);
    bench.node.reboot();
    for outcome in [Outcome::Hit, Outcome::AlreadyPublished] {
        assert_eq!(bench.node.publish(&request).unwrap().outcome, outcome);
        bench.assert_shows(&request.target, &bench.commit);
    }
    bench.node.unpublish(&request);
}

pub(super) fn a_directory_takes_no_owners(bench: &Bench) {
    let node = directories(bench);
    let target = node.target("pod");
    let request = of_group(read_only(&bench.url(), &target), 1000, 2000);
    node.publish(&request).unwrap();
    bench.assert_shows(&target, &bench.commit);
    let found = fs::metadata(bench.node.shown(&target).join("a/b/c")).unwrap();
    let us = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    assert_eq!((found.uid(), found.gid()), us);
    for group in [Some(2001), None] {
        let other = with(read_only(&bench.url(), &target), |request| {
            request.spec.uid = 1000;
            request.group = group;
        });
        assert_eq!(node.publish(&other).unwrap().outcome, Outcome::AlreadyPublished);
    }
    node.unpublish(&request);
}

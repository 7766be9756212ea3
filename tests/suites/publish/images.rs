//! Read-only volumes as images.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::mount::MountPoint;
use gitrepo_core::mount::Mounter;
use gitrepo_core::mount::linux::LinuxMounter;
use gitrepo_core::spec::RelativePath;
use gitrepo_core::store::Eviction;
use gitrepo_core::testing::Overridden;
use gitrepo_core::volume::Outcome;
use gitrepo_tests::erofs::tools;
use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::loopfs::loop_devices_below;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::tree::assert_times;
use gitrepo_tests::volumes::Node;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::read_only;
use gitrepo_tests::volumes::writable;

use nix::sys::statvfs::statvfs;

use super::Bench;
use super::config;
use super::formats::WithoutImages;

/// The mount of an image on a target, which must be the only one there.
pub(super) fn image_on(bench: &Bench, target: &Path) -> MountPoint {
    let mounts = bench.mounter.list().unwrap();
    let mut mounts = mounts.into_iter().filter(|mount| mount.target == target);
    let (Some(mount), None) = (mounts.next(), mounts.next()) else { panic!("one mount on {}", target.display()) };
    assert!(mount.image().is_some() && mount.is_read_only(), "{mount:?}");
    mount
}

/// The only snapshot.
fn snapshot(bench: &Bench) -> PathBuf {
    let [snapshot] = &bench.node.snapshots()[..] else { panic!("one snapshot") };
    snapshot.clone()
}

/// A repository for each kind of tree.
pub(super) fn every_fixture() -> [Repository; 4] {
    let everything = fixtures::everything().repository;
    [everything, fixtures::empty_tree(), fixtures::empty_directories(), fixtures::many(3000)]
}

pub(super) fn every_fixture_is_shown_as_git_has_it(bench: &Bench) {
    for (number, repository) in every_fixture().iter().enumerate() {
        let server = HttpServer::start(repository);
        let commit = repository.resolve("main");
        let whole = read_only(&server.url(repository), &bench.node.target(&format!("whole-{number}")));
        bench.node.publish(&whole).unwrap();
        let mount = image_on(bench, &whole.target);
        assert_same_tree(repository, &commit, ".", &whole.target);
        assert_tools_accept(mount.image().unwrap());

        let mut below = read_only(&server.url(repository), &bench.node.target(&format!("below-{number}")));
        below.spec.tree.directory = RelativePath::parse("x/y").unwrap();
        bench.node.publish(&below).unwrap();
        assert_eq!(gitrepo_tests::volumes::entries(&below.target), [below.target.join("x")]);
        assert_same_tree(repository, &commit, ".", &below.target.join("x/y"));
        for request in [&whole, &below] {
            bench.node.unpublish(request);
        }
    }
    let everything = fixtures::everything();
    let server = HttpServer::start(&everything.repository);
    let old = at(read_only(&server.url(&everything.repository), &bench.node.target("old")), &everything.parent);
    bench.node.publish(&old).unwrap();
    assert_same_tree(&everything.repository, &everything.parent, ".", &old.target);
    assert_times(&old.target, everything.repository.commit_time(&everything.parent));
    let refused = File::create(old.target.join("new")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    bench.node.unpublish(&old);
    bench.node.assert_nothing_published();
}

/// Asserts that erofs-utils accept the image of a snapshot, unless they are too old.
fn assert_tools_accept(image: &Path) {
    if tools::has_tools() && tools::take_small_blocks() {
        let device = |number: usize| image.with_file_name(number.to_string());
        let devices: Vec<_> = (0..).map(device).take_while(|path| path.exists()).collect();
        tools::assert_accepted(image, &devices);
    }
}

pub(super) fn targets_share_one_filesystem_and_the_second_fetches_nothing(bench: &Bench) {
    let [first, second] = ["first", "second"].map(|pod| read_only(&bench.url(), &bench.node.target(pod)));
    assert!(matches!(bench.node.publish(&first).unwrap().outcome, Outcome::Fetched { .. }));
    let packs = bench.server.packs();
    assert_eq!(bench.node.publish(&second).unwrap().outcome, Outcome::Hit);
    assert_eq!(bench.server.packs(), packs);
    let [one, two] = [&first, &second].map(|request| image_on(bench, &request.target));
    assert_eq!(one.device, two.device, "one filesystem, one page cache");
    bench.node.unpublish(&first);
    bench.assert_shows(&second.target, &bench.commit);
    bench.node.unpublish(&second);
    bench.node.assert_nothing_published();
}

pub(super) fn a_new_commit_is_another_image_over_old_and_new_segments(bench: &Bench) {
    let before = at(read_only(&bench.url(), &bench.node.target("before")), &bench.first);
    bench.node.publish(&before).unwrap();
    let old = snapshot(bench);
    let after = read_only(&bench.url(), &bench.node.target("after"));
    bench.node.publish(&after).unwrap();
    let new = bench.node.snapshots().into_iter().find(|snapshot| *snapshot != old).unwrap();
    let devices = |snapshot: &Path| {
        let paths = (0..).map(|number: usize| snapshot.join(number.to_string())).take_while(|path| path.exists());
        paths.map(|path| fs::metadata(path).unwrap().ino()).collect::<Vec<_>>()
    };
    assert!(devices(&new).len() == 2 && devices(&new).contains(&devices(&old)[0]), "a/b/c is where it was");
    bench.assert_shows(&before.target, &bench.first);
    bench.assert_shows(&after.target, &bench.commit);
    for request in [&before, &after] {
        bench.node.unpublish(request);
    }
}

pub(super) fn an_unpublish_leaves_neither_mount_nor_loop_device(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
    // The kernel frees a device a moment after its last user is gone.
    let start = Instant::now();
    while !loop_devices_below(&bench.home).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", loop_devices_below(&bench.home));
        std::thread::yield_now();
    }
}

pub(super) fn a_mounted_image_survives_eviction_of_all_else(bench: &Bench) {
    let request = read_only(&bench.url(), &bench.node.target("pod"));
    bench.node.publish(&request).unwrap();
    let store = bench.node.volumes.store();
    let shown = || Some(bench.mounter.list().unwrap().iter().filter_map(|mount| store.shown_by(mount)).collect());
    let evict = || store.evict(Eviction::Unreferenced, &shown, Duration::from_secs(60)).unwrap();
    assert_eq!(evict().snapshots, 0);
    // Its content does not go with the repository.
    gitrepo_tests::volumes::entries(&store.root().join("repositories"))
        .iter()
        .for_each(|repository| gitrepo_tests::volumes::delete(repository));
    bench.assert_shows(&request.target, &bench.commit);
    let other = read_only(&bench.url(), &bench.node.target("other"));
    assert_eq!(bench.node.publish(&other).unwrap().outcome, Outcome::Hit);
    bench.assert_shows(&other.target, &bench.commit);
    // Nor is it lost in a reboot.
    bench.node.reboot();
    bench.node.publish(&request).unwrap();
    bench.assert_shows(&request.target, &bench.commit);
    for request in [&request, &other] {
        bench.node.unpublish(request);
    }
    assert_eq!(evict().snapshots, 1);
    bench.node.assert_nothing_published();
}

pub(super) fn an_eviction_frees_what_was_foretold(bench: &Bench) {
    const SIZE: u64 = 1 << 20;
    let noise = |seed| fixtures::noise(seed, usize::try_from(SIZE).unwrap());
    let one = bench.repository.commit("main", &Files::new().file("one", noise(1)));
    let two = bench.repository.commit("main", &Files::new().file("one", noise(1)).file("two", noise(2)));
    let [older, newer] = [one, two].map(|commit| at(read_only(&bench.url(), &bench.node.target(&commit)), &commit));
    let volumes = &bench.node.volumes;
    for request in [&older, &newer] {
        bench.node.publish(request).unwrap();
    }
    // Two segments: of the first content, which both images use, and of the second.
    let usage = volumes.store().usage().unwrap();
    let about = |bytes: u64, segments: u64| (segments * SIZE..segments * SIZE + (256 << 10)).contains(&bytes);
    assert!(usage.snapshots == 2 && about(usage.bytes, 2), "{usage:?}");

    let space = || {
        let space = statvfs(&bench.home).unwrap();
        space.blocks_free() * space.fragment_size()
    };
    let evict = |segments: u64| {
        let foretold = volumes.evictable(Eviction::Unreferenced).unwrap();
        assert!(about(foretold.bytes, segments), "{segments}: {foretold:?}");
        let before = space();
        assert_eq!(volumes.evict(Eviction::Unreferenced, Duration::from_secs(60)).unwrap(), foretold, "{segments}");
        let freed = space() - before;
        assert!(freed >= foretold.bytes && about(freed, segments), "{segments}: {freed} {foretold:?}");
    };
    evict(0);
    // What the other image and the repository use is not freed.
    bench.node.unpublish(&older);
    evict(0);
    bench.assert_shows(&newer.target, &newer.spec.revision.to_string());
    bench.node.unpublish(&newer);
    evict(2);
    assert_eq!(bench.node.snapshots(), [] as [PathBuf; 0]);
    bench.node.assert_nothing_published();
}

pub(super) fn a_writable_volume_is_a_copy_of_files(bench: &Bench) {
    let image = read_only(&bench.url(), &bench.node.target("image"));
    let copy = writable(&bench.url(), &bench.node.target("copy"), 1000);
    for request in [&image, &copy] {
        bench.node.publish(request).unwrap();
        bench.assert_shows(&request.target, &bench.commit);
    }
    image_on(bench, &image.target);
    fs::write(copy.target.join("new"), "mine").unwrap();
    let formats = bench.node.snapshots().into_iter().map(|snapshot| {
        (snapshot.join("image").exists(), snapshot.join("root").exists(), snapshot.join("seal").exists())
    });
    let mut formats: Vec<_> = formats.collect();
    formats.sort_unstable();
    assert_eq!(formats, [(false, true, true), (true, false, true)]);
    for request in [&image, &copy] {
        bench.node.unpublish(request);
    }
}

#[test]
fn a_shell_mounts_an_image_if_the_configuration_says_so() {
    let Some(shell) = Shell::new_with(64 << 20, Format::Image) else { return };
    let mounter = LinuxMounter::new(shell.home().join("mounting"));
    let (repository, commit) = fixtures::small();
    let server = HttpServer::start(&repository);
    let targets = ["one", "two"].map(|pod| shell.target(pod));
    for target in &targets {
        shell.mount(&server.url(&repository), target, &[]).assert_success();
        assert_same_tree(&repository, &commit, ".", target);
    }
    // A node may have others.
    let is_ours = |mount: &MountPoint| mount.image().is_some() && mount.target.starts_with(shell.home());
    let images = |mounter: &LinuxMounter| mounter.list().unwrap().iter().filter(|mount| is_ours(mount)).count();
    assert_eq!((images(&mounter), server.packs()), (2, 1));
    for target in &targets {
        shell.unmount(target).assert_success();
    }
    assert_eq!(images(&mounter), 0);
}

pub(super) fn a_node_without_images_says_so(bench: &Bench) {
    let mounter = Arc::new(Overridden(WithoutImages::new(&bench.mounter)));
    let node = Node::new(&bench.home, config(bench.format), Arc::clone(&bench.worker), mounter);
    let request = read_only(&bench.url(), &node.target("pod"));
    let error = node.publish(&request).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
    let message = chain(&error);
    assert!(message.contains("snapshotFormat") && message.contains("Linux 6.4"), "{message}");
    assert_eq!(bench.server.packs(), 0, "found out before the fetch");
    node.assert_nothing_published();
    let copy = writable(&bench.url(), &node.target("copy"), 0);
    node.publish(&copy).unwrap();
    node.unpublish(&copy);
}

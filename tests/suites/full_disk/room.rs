//! To make room, only content that no volume uses is removed.

use std::path::PathBuf;
use std::sync::Barrier;

use gitrepo_tests::fixtures;
use gitrepo_tests::http::HttpServer;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::shell::Shell;
use gitrepo_tests::snapshot_format::Format;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::files_below;
use nix::sched::CloneFlags;
use nix::sys::statvfs::statvfs;
use serde_json::Value;

use super::fill_blocks;
use super::in_each_format;

/// Three repositories of this size fill the disk up to the reserve.
const SIZE: usize = 8 << 20;
const DISK: u64 = 48 << 20;
const RESERVE: &str = r#"{"cache": {"reserveBytes": "16Mi"}}"#;
const ALL: &str = r#"{"cache": {"reserveBytes": "1Ti"}}"#;

/// A directory takes its content twice: in the segment and in the tree.
fn size_of_content(format: Format) -> usize {
    match format {
        Format::Directory => SIZE / 2,
        Format::Image => SIZE,
    }
}

/// A shell, and a server with some repositories of incompressible content.
struct Scene {
    shell: Shell,
    server: HttpServer,
    repositories: Vec<Repository>,
}

impl Scene {
    fn new(format: Format, names: &[&str]) -> Option<Self> {
        let shell = Shell::new_with(DISK, format)?;
        let mut server = None;
        let mut repositories = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let repository = Repository::new(name);
            let seed = u64::try_from(number).unwrap() + 1;
            repository.commit("main", &Files::new().file("noise", fixtures::noise(seed, size_of_content(format))));
            server.get_or_insert_with(|| HttpServer::start(&repository)).add(&repository);
            repositories.push(repository);
        }
        Some(Self { shell, server: server.unwrap(), repositories })
    }

    fn mount(&self, number: usize, pod: &str) -> PathBuf {
        let target = self.shell.target(pod);
        self.shell.mount(&self.url(number), &target, &[]).assert_success();
        assert_same_tree(&self.repositories[number], "main", ".", &target);
        target
    }

    fn url(&self, number: usize) -> String {
        self.server.url(&self.repositories[number])
    }

    /// Mounts and unmounts a volume: its content stays in the store, unused.
    fn use_once(&self, number: usize) {
        let target = self.mount(number, "once");
        self.shell.unmount(&target).assert_success();
    }

    fn sweep(&self, more: &[&str]) -> Value {
        let words: Vec<_> = ["sweep", "--json"].into_iter().chain(more.iter().copied()).collect();
        serde_json::from_str(&self.shell.run(&words).assert_success().stdout).unwrap()
    }

    fn count(&self, place: &str) -> usize {
        entries(&self.shell.store().join(place)).len()
    }

    /// Whether mounting it again needs a fetch.
    fn is_gone(&self, number: usize) -> bool {
        let packs = self.server.packs();
        self.use_once(number);
        self.server.packs() > packs
    }
}

fn a_cached_volume_is_published_below_the_reserve_and_nothing_is_removed_for_it(format: Format) {
    let Some(scene) = Scene::new(format, &["cached", "other"]) else { return };
    (0..2).for_each(|number| scene.use_once(number));
    // No sweep runs meanwhile, and content in use is not removed.
    let _used = scene.mount(1, "used");
    scene.shell.configure(ALL);
    let packs = scene.server.packs();
    let target = scene.mount(0, "pod");
    assert_eq!(scene.server.packs(), packs);
    scene.shell.unmount(&target).assert_success();
}

fn a_publish_below_the_reserve_makes_room_and_succeeds(format: Format) {
    let Some(scene) = Scene::new(format, &["first", "second", "third", "fourth", "fifth"]) else { return };
    scene.shell.configure(RESERVE);
    let used = scene.mount(0, "used");
    (1..5).for_each(|number| scene.use_once(number));
    assert_same_tree(&scene.repositories[0], "main", ".", &used);
    assert!(scene.count("snapshots") < 5, "some are removed");
    assert!(!scene.is_gone(4), "the last one is still cached");
    scene.shell.unmount(&used).assert_success();
    assert!(!scene.is_gone(0), "the used one is still cached");
}

fn a_refusal_says_what_was_removed_and_what_to_do(format: Format) {
    let Some(scene) = Scene::new(format, &["unused", "new"]) else { return };
    scene.use_once(0);
    scene.shell.configure(ALL);
    let refused = scene.shell.mount(&scene.url(1), &scene.shell.target("pod"), &[]).assert_code(73).stderr;
    for words in ["1 unused snapshots and 1 unused repositories", "unpublish volumes", "cache.reserveBytes"] {
        assert!(refused.contains(words), "{words} is not in {refused}");
    }
    assert_eq!((scene.count("snapshots"), scene.count("repositories")), (0, 0));
}

fn a_sweep_frees_the_reserve_oldest_first_and_keeps_used_content(format: Format) {
    let Some(scene) = Scene::new(format, &["first", "second", "third"]) else { return };
    let used = scene.mount(0, "used");
    (1..3).for_each(|number| scene.use_once(number));
    // This use makes the third one the oldest.
    scene.use_once(1);
    let free = statvfs(scene.shell.home()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    scene.shell.configure(&format!(r#"{{"cache": {{"reserveBytes": "{}"}}}}"#, free + (1 << 20)));

    let planned = scene.sweep(&["--dry-run"]);
    assert_eq!((&planned["snapshots"], &planned["dryRun"]), (&1.into(), &true.into()), "{planned}");
    assert_eq!(scene.count("snapshots"), 3);
    let swept = scene.sweep(&[]);
    // The content of an image is freed with its last name, which the repository has.
    let repositories = usize::from(format == Format::Image);
    assert_eq!((&swept["snapshots"], &swept["repositories"]), (&1.into(), &repositories.into()), "{swept}");
    let freed = swept["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap();
    assert!((size_of_content(format)..size_of_content(format) + (64 << 10)).contains(&freed), "{swept}");
    for number in ["snapshots", "repositories", "bytes"] {
        assert_eq!(planned[number], swept[number], "{number}");
    }
    let oldest = scene.repositories[2].resolve("main");
    let is_left = entries(&scene.shell.store().join("snapshots")).iter().any(|snapshot| {
        let meta = std::fs::read_to_string(snapshot.join("meta.json")).unwrap();
        meta.contains(&oldest)
    });
    assert!(!is_left, "another one was removed");
    assert_same_tree(&scene.repositories[0], "main", ".", &used);
    scene.shell.configure(r#"{"cache": {"reserveBytes": "0"}}"#);
    assert_eq!(scene.sweep(&[])["snapshots"], 0, "there is room");

    let swept = scene.sweep(&["--unreferenced"]);
    assert_eq!((&swept["snapshots"], &swept["repositories"]), (&1.into(), &(2 - repositories).into()), "{swept}");
    assert_eq!((scene.count("snapshots"), scene.count("repositories")), (1, 1));
    assert_same_tree(&scene.repositories[0], "main", ".", &used);
    scene.shell.unmount(&used).assert_success();
}

fn content_mounted_in_another_namespace_is_kept(format: Format) {
    let Some(scene) = Scene::new(format, &["first", "second"]) else { return };
    scene.use_once(1);
    let (scene, step) = (&scene, &Barrier::new(2));
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let target = scene.shell.target("elsewhere");
            let mounted = scene.shell.mount(&scene.url(0), &target, &[]);
            step.wait();
            step.wait();
            mounted.assert_success();
            assert_same_tree(&scene.repositories[0], "main", ".", &target);
            scene.shell.unmount(&target).assert_success();
        });
        step.wait();
        let swept = scene.sweep(&["--unreferenced"]);
        step.wait();
        elsewhere.join().unwrap();
        assert_eq!((&swept["snapshots"], &swept["repositories"]), (&1.into(), &1.into()), "{swept}");
    });
}

fn a_refused_repository_leaves_no_content(format: Format) {
    let Some(scene) = Scene::new(format, &["kept", "refused"]) else { return };
    let used = scene.mount(0, "used");
    let bytes = || files_below(&scene.shell.store()).iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    scene.shell.configure(r#"{"cache": {"reserveBytes": "0"}, "limits": {"treeBytes": "1Mi"}}"#);
    let before = bytes();
    for _ in 0..2 {
        scene.shell.mount(&scene.url(1), &scene.shell.target("pod"), &[]).assert_code(73);
    }
    // The store's own small files: the remote's answer and locks.
    let after = bytes();
    assert!(after < before + 8192, "{before} {after}");
    assert_eq!((scene.count("repositories"), scene.count("snapshots")), (1, 1));
    assert_same_tree(&scene.repositories[0], "main", ".", &used);
    scene.shell.unmount(&used).assert_success();
}

fn a_hit_on_a_full_disk_frees_space_for_its_record(format: Format) {
    let Some(scene) = Scene::new(format, &["cached", "unused"]) else { return };
    [1, 0].into_iter().for_each(|number| scene.use_once(number));
    scene.shell.configure(ALL);
    let _filler = fill_blocks(scene.shell.home());
    // The record and its directories need a block each: unused content is removed for them.
    let packs = scene.server.packs();
    let target = scene.mount(0, "pod");
    assert_eq!(scene.server.packs(), packs, "no fetch is needed");
    scene.shell.unmount(&target).assert_success();
}

fn a_hit_on_a_full_disk_is_published_though_nothing_is_unused(format: Format) {
    let Some(scene) = Scene::new(format, &["cached"]) else { return };
    let used = scene.mount(0, "used");
    // Sets space for records aside.
    scene.sweep(&[]);
    let _filler = fill_blocks(scene.shell.home());
    let packs = scene.server.packs();
    let targets = ["one", "two"].map(|pod| scene.mount(0, pod));
    assert_eq!(scene.server.packs(), packs, "no fetch is needed");
    for target in targets.iter().chain([&used]) {
        scene.shell.unmount(target).assert_success();
    }
    assert_eq!(scene.shell.leftovers(), [] as [PathBuf; 0]);
}

in_each_format! {
    a_cached_volume_is_published_below_the_reserve_and_nothing_is_removed_for_it
    a_publish_below_the_reserve_makes_room_and_succeeds
    a_refusal_says_what_was_removed_and_what_to_do
    a_sweep_frees_the_reserve_oldest_first_and_keeps_used_content
    content_mounted_in_another_namespace_is_kept
    a_refused_repository_leaves_no_content
    a_hit_on_a_full_disk_frees_space_for_its_record
    a_hit_on_a_full_disk_is_published_though_nothing_is_unused
}

//! Images and segments that others truncated, changed, exchanged or deleted.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use gitrepo_core::error::chain;
use gitrepo_core::volume::Outcome;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::watch::Watch;
use gitrepo_tests::git;
use gitrepo_tests::repository::Files;
use gitrepo_tests::repository::Repository;
use gitrepo_tests::tree::assert_same_tree;
use gitrepo_tests::volumes::at;
use gitrepo_tests::volumes::entries;
use gitrepo_tests::volumes::read_only;

use super::Bench;
use super::images::image_on;

/// More than a block, so that there is something to cut.
const LENGTH: usize = 700;

/// A repository of three commits, of which each adds a file of the same length.
struct Scene<'a> {
    bench: &'a Bench,
    repository: Repository,
    commits: [String; 3],
    /// The store's copy of it.
    stored: PathBuf,
}

impl<'a> Scene<'a> {
    /// Fetches the first two commits, so that there are two segments of the same length.
    fn new(bench: &'a Bench, name: &str) -> Self {
        let repository = Repository::new(name);
        let commits = [b'a', b'b', b'c'].map(|letter| {
            let name = char::from(letter).to_string();
            let files = (b'a'..=letter).fold(Files::new(), |files, earlier| {
                files.file(char::from(earlier).to_string(), vec![earlier; LENGTH])
            });
            repository.commit("main", &files.file(format!("{name}-is-here"), ""))
        });
        bench.server.add(&repository);
        let place = bench.node.store().join("repositories");
        let before = entries(&place);
        let scene = Self { bench, repository, commits, stored: PathBuf::new() };
        for commit in 0..2 {
            let request = scene.request(commit, "first");
            bench.node.publish(&request).unwrap();
            bench.node.unpublish(&request);
        }
        let stored = entries(&place).into_iter().find(|stored| !before.contains(stored)).unwrap();
        Self { stored, ..scene }
    }

    fn request(&self, commit: usize, pod: &str) -> VolumeRequest {
        let target = self.bench.node.target(pod);
        at(read_only(&self.bench.server.url(&self.repository), &target), &self.commits[commit])
    }

    /// Publishes, and checks the tree. Returns the snapshot.
    fn publish(&self, request: &VolumeRequest, what: &str) -> PathBuf {
        let published = self.bench.node.publish(request);
        let published = published.unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_same_tree(&self.repository, &published.commit.to_string(), ".", &request.target);
        image_on(self.bench, &request.target).image().unwrap().parent().unwrap().to_owned()
    }

    /// The contents of the segments in the store.
    fn segments(&self) -> Vec<PathBuf> {
        let files = entries(&self.stored.join("segments"));
        files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "content")).collect()
    }
}

fn exchange(one: &Path, two: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(two, one).unwrap();
    fs::rename(aside, two).unwrap();
}

fn cut(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(512).unwrap();
}

fn lengthen(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(&[0; 512]).unwrap();
}

fn overwrite(path: &Path) {
    File::options().write(true).open(path).unwrap().write_all_at(b"evil", 0).unwrap();
}

/// Replaces a file by one of the same length and times.
fn replace(path: &Path) {
    let found = path.metadata().unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, vec![b'x'; usize::try_from(found.len()).unwrap()]).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(found.modified().unwrap()).unwrap();
}

/// Does something to a snapshot of two devices.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 12] = [
    ("a segment cut short", |snapshot| cut(&snapshot.join("0"))),
    ("a segment too long", |snapshot| lengthen(&snapshot.join("0"))),
    ("a segment gone", |snapshot| fs::remove_file(snapshot.join("0")).unwrap()),
    ("the last segment gone", |snapshot| fs::remove_file(snapshot.join("1")).unwrap()),
    ("a segment overwritten", |snapshot| overwrite(&snapshot.join("1"))),
    ("a segment replaced", |snapshot| replace(&snapshot.join("1"))),
    ("segments of equal length exchanged", |snapshot| exchange(&snapshot.join("0"), &snapshot.join("1"))),
    ("an image cut short", |snapshot| cut(&snapshot.join("image"))),
    ("an image too long", |snapshot| lengthen(&snapshot.join("image"))),
    ("an image gone", |snapshot| fs::remove_file(snapshot.join("image")).unwrap()),
    ("an image overwritten", |snapshot| overwrite(&snapshot.join("image"))),
    ("an image replaced", |snapshot| replace(&snapshot.join("image"))),
];

fn assert_two_equal_devices(snapshot: &Path) {
    let lengths = ["0", "1"].map(|device| snapshot.join(device).metadata().unwrap().len());
    assert!(lengths == [1024, 1024] && !snapshot.join("2").exists(), "{lengths:?}");
}

pub(super) fn a_damaged_image_is_replaced_once_it_is_unmounted(bench: &Bench) {
    for (number, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let scene = Scene::new(bench, &format!("damaged-{number}"));
        let request = scene.request(1, "pod");
        let damaged = scene.publish(&request, what);
        assert_two_equal_devices(&damaged);
        match number % 2 {
            0 => bench.node.reboot(),
            _ => drop(bench.node.unpublish(&request)),
        }
        damage(&damaged);
        assert_ne!(scene.publish(&request, what), damaged, "{what}: its successor");
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_damaged_image_is_replaced_while_another_target_shows_it(bench: &Bench) {
    for (number, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let scene = Scene::new(bench, &format!("shown-{number}"));
        let [first, second, third] = ["one", "two", "three"].map(|pod| scene.request(1, pod));
        let damaged = scene.publish(&first, what);
        assert_two_equal_devices(&damaged);
        damage(&damaged);
        let healed = scene.publish(&second, what);
        assert_ne!(healed, damaged, "{what}");
        // The successor is a snapshot like any other.
        assert_eq!(bench.node.publish(&third).unwrap().outcome, Outcome::Hit, "{what}");
        assert_eq!(scene.publish(&third, what), healed, "{what}");
        // So is what is built on its repository.
        let newer = scene.request(2, "newer");
        scene.publish(&newer, what);
        // The damaged one stays mounted, and can be unpublished.
        assert_eq!(bench.node.mounts_on(&first.target), 1, "{what}");
        for request in [&first, &second, &third, &newer] {
            assert_eq!(bench.node.unpublish(request).mounts, 1, "{what}");
        }
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_damaged_segment_is_not_built_upon(bench: &Bench) {
    type Damage = fn(&Scene<'_>);
    let damages: [(&str, Damage); 5] = [
        ("segments of equal length exchanged", |scene| {
            let [one, two] = &scene.segments()[..] else { panic!("two segments") };
            assert_eq!(one.metadata().unwrap().len(), two.metadata().unwrap().len());
            exchange(one, two);
        }),
        ("a segment overwritten", |scene| overwrite(&scene.segments()[0])),
        ("a segment replaced", |scene| replace(&scene.segments()[1])),
        ("a segment cut short", |scene| cut(&scene.segments()[0])),
        ("a segment gone", |scene| fs::remove_file(&scene.segments()[1]).unwrap()),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        let scene = Scene::new(bench, &format!("base-{number}"));
        damage(&scene);
        // This commit needs the content of both.
        let request = scene.request(2, "pod");
        let snapshot = scene.publish(&request, what);
        let device = snapshot.join("0").metadata().unwrap().ino();
        assert!(scene.segments().iter().any(|segment| segment.metadata().unwrap().ino() == device), "{what}");
        bench.node.unpublish(&request);
    }
    bench.node.assert_nothing_published();
}

pub(super) fn a_snapshot_from_a_backup_is_shown(bench: &Bench) {
    let scene = Scene::new(bench, "backup");
    let packs = bench.server.packs();
    let snapshots = bench.node.store().join("snapshots");
    let copy = bench.home.join("backup");
    git::output(Command::new("cp").arg("-a").args([&snapshots, &copy]));
    gitrepo_tests::volumes::delete(&snapshots);
    fs::rename(&copy, &snapshots).unwrap();
    let request = scene.request(1, "pod");
    scene.publish(&request, "restored");
    assert_eq!(bench.server.packs(), packs, "nothing is fetched again");
    bench.node.unpublish(&request);
    bench.node.assert_nothing_published();
}

pub(super) fn r4_what_a_scrub_found_good_cannot_be_written_any_more(bench: &Bench) {
    let scene = Scene::new(bench, "protected");
    let request = scene.request(1, "pod");
    let snapshot = scene.publish(&request, "before");
    let store = bench.node.volumes.store();
    for _ in 0..2 {
        while let Some(found) = store.scrub_next(NonZeroU64::MAX, 0, &Watch::default()).unwrap() {
            assert!(found.damages.is_empty() && found.failures.is_empty(), "{found:?}");
        }
        for file in ["image", "0", "1"] {
            let opened = File::options().write(true).open(snapshot.join(file));
            assert_eq!(opened.unwrap_err().raw_os_error(), Some(nix::libc::EPERM), "{file}");
        }
    }
    let again = scene.request(1, "again");
    assert_eq!(scene.publish(&again, "after"), snapshot);
    // A new commit builds on it, and everything can be removed.
    let newer = scene.request(2, "newer");
    scene.publish(&newer, "newer");
    for request in [&request, &again, &newer] {
        bench.node.unpublish(request);
    }
    bench.node.assert_nothing_published();
}

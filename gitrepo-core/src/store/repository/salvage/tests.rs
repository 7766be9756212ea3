//! A dead fetch's output is kept if it is complete, and never otherwise.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use git2::ObjectType;
use git2::Oid;

use super::*;
use crate::cancel::Cancel;
use crate::content;
use crate::content::SegmentWriter;
use crate::content::Segments;
use crate::store::Store;
use crate::store::clock::BootId;
use crate::store::fixture::commit;
use crate::store::fixture::store;
use crate::store::fixture::url;
use crate::store::repository::whole::tests::pack_and_index;

const LONG: Duration = Duration::from_secs(600);

/// Too brief to read packs.
const BRIEF: Duration = Duration::from_secs(9);

fn pack() -> String {
    format!("{}/pack-{:040x}", adopt::PACKS, 1)
}

/// Creates a repository in a staging directory, as a process leaves it when it is killed after its fetch.
fn dead_fetch(store: &Store, hash: &str, commits: &[CommitId]) -> PathBuf {
    let name = format!("{}.{hash}.{}", BootId::other().prefix(), durable::random_name().unwrap());
    let path = store.root().join("staging").join(name).join(REPOSITORY);
    for directory in [adopt::PACKS, content::DIRECTORY, "objects/info", adopt::COMMITS] {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    let (content, index) = pack_and_index(&[7; 5000]);
    fs::write(path.join(pack() + ".pack"), content).unwrap();
    fs::write(path.join(pack() + ".idx"), index).unwrap();
    write_segment(&path.join(content::DIRECTORY));
    for commit in commits {
        fs::write(path.join(adopt::COMMITS).join(commit.to_string()), format!("{commit}\n")).unwrap();
        fs::write(path.join(adopt::SHALLOW), format!("{commit}\n")).unwrap();
    }
    fs::create_dir(path.parent().unwrap().join("tree")).unwrap();
    path
}

/// A segment with one blob.
fn write_segment(directory: &Path) {
    let mut segment = SegmentWriter::create(directory).unwrap();
    let offset = segment.begin().unwrap();
    segment.write_all(b"content").unwrap();
    let id = Oid::hash_object(ObjectType::Blob, b"content").unwrap();
    segment.finish([(id, offset, 7)].into_iter()).unwrap();
}

/// A segment with one object of Git LFS, which is noted.
fn write_object(repository: &Path, number: u8) -> PathBuf {
    let directory = repository.join(content::DIRECTORY);
    let before = content_of(&directory);
    let mut segment = SegmentWriter::create(&directory).unwrap();
    let offset = segment.begin().unwrap();
    segment.write_all(&[number]).unwrap();
    let found = found(number);
    segment.finish([(found.blob, offset, 1)].into_iter()).unwrap();
    let mut known = lfs::Known::read(repository).unwrap();
    known.add(&[found]);
    known.write(repository).unwrap();
    content_of(&directory).into_iter().find(|path| !before.contains(path)).unwrap()
}

fn found(number: u8) -> lfs::Found {
    let blob = Oid::hash_object(ObjectType::Blob, &[number]).unwrap();
    lfs::Found { id: lfs::ObjectId::from_bytes([number; 32]), size: 1, blob }
}

fn content_of(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == content::CONTENT)).collect()
}

/// Which of these objects a repository has.
fn objects_in(repository: &Path, numbers: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    let (known, segments) = (lfs::Known::read(repository).unwrap(), Segments::open(repository).unwrap());
    let is_here = |number: &u8| {
        let blob = known.blob(&found(*number).id, 1);
        blob.is_some_and(|blob| segments.locate(&[blob]).unwrap()[0].is_some())
    };
    numbers.filter(is_here).collect()
}

/// The file of that segment.
fn segment_in(repository: &Path) -> Option<PathBuf> {
    let mut paths = fs::read_dir(repository.join(content::DIRECTORY)).unwrap().map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|end| end == content::CONTENT))
}

fn build_on_base(left: &Path) {
    fs::write(left.join("objects/info/alternates"), "/base/objects\n").unwrap();
}

fn staged(store: &Store) -> usize {
    fs::read_dir(store.root().join("staging")).unwrap().count()
}

#[test]
fn r1_the_pack_of_a_dead_fetch_is_kept_and_the_rest_is_deleted() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    dead_fetch(&store, &repository.hash, &[commit(1)]);
    let lock = repository.lock(&Cancel::new()).unwrap();
    lock.salvage().unwrap();
    assert!(repository.contains(&commit(1)) && lock.base().unwrap().is_some());
    assert!(repository.path().join(pack() + ".pack").exists());
    assert!(Segments::open(repository.path()).unwrap().blobs().unwrap().len() == 1, "its segment is lost");
    assert_eq!(fs::read_to_string(repository.path().join("shallow")).unwrap(), format!("{}\n", commit(1)));
    assert_eq!(staged(&store), 0);
}

#[test]
fn a_pack_that_builds_on_the_repository_is_added_and_one_that_does_not_replaces_it() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let salvage = || repository.lock(&Cancel::new()).unwrap().salvage().unwrap();

    build_on_base(&dead_fetch(&store, &repository.hash, &[commit(1)]));
    salvage();
    assert!(!repository.exists(), "the repository it was built on is gone");

    dead_fetch(&store, &repository.hash, &[commit(2)]);
    salvage();
    build_on_base(&dead_fetch(&store, &repository.hash, &[commit(3), commit(4)]));
    salvage();
    assert!([2, 3, 4].iter().all(|digit| repository.contains(&commit(*digit))));

    dead_fetch(&store, &repository.hash, &[commit(5)]);
    salvage();
    assert!(repository.contains(&commit(5)) && !repository.contains(&commit(2)));
    assert_eq!(staged(&store), 0);
}

#[test]
fn neither_running_fetches_nor_other_repositories_are_touched() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let other = dead_fetch(&store, &"0".repeat(64), &[commit(1)]);
    let lock = repository.lock(&Cancel::new()).unwrap();
    let living = lock.staging().unwrap();
    lock.salvage().unwrap();
    assert!(!repository.exists() && other.exists() && living.path().exists());
    assert_eq!(store.sweep(LONG, &[]).staging, 1, "the other's");
    assert!(living.path().exists());
    let path = living.path().to_path_buf();
    drop(living);
    assert!(!path.exists());
}

/// A description, and how to spoil a dead fetch's repository so that it must not be kept.
type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn r4_incomplete_packs_never_enter_the_store() {
    let (place, store) = store();
    let repository = store.repository(&url());
    let secret = place.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let of = |path: &Path, end: &str| path.join(format!("{}.{end}", pack()));
    let cut = |path: PathBuf| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let replace = |path: PathBuf, make: &dyn Fn(&Path)| {
        fs::remove_file(&path).unwrap();
        make(&path);
    };
    let segment = |path: &Path| segment_in(path).unwrap();
    let spoils: [Spoil<'_>; 14] = [
        ("no ref", &|path| fs::remove_file(path.join(adopt::COMMITS).join(commit(1).to_string())).unwrap()),
        ("a pack cut short", &|path| cut(of(path, "pack"))),
        ("an index cut short", &|path| fs::write(of(path, "idx"), "").unwrap()),
        ("zeros", &|path| fs::write(of(path, "pack"), [0; 5028]).unwrap()),
        ("another's index", &|path| fs::write(of(path, "idx"), pack_and_index(b"other").1).unwrap()),
        ("no index", &|path| fs::remove_file(of(path, "idx")).unwrap()),
        ("no pack", &|path| fs::remove_file(of(path, "pack")).unwrap()),
        ("a segment cut short", &|path| cut(segment(path))),
        ("another byte in a segment", &|path| fs::write(segment(path), [7; 512]).unwrap()),
        ("an index of a segment cut short", &|path| cut(segment(path).with_extension(content::INDEX))),
        ("a link for a segment", &|path| replace(segment(path), &|path| symlink(&secret, path).unwrap())),
        ("a link", &|path| replace(of(path, "pack"), &|path| symlink(&secret, path).unwrap())),
        ("a second name", &|path| replace(of(path, "pack"), &|path| fs::hard_link(&secret, path).unwrap())),
        ("a pipe", &|path| {
            replace(of(path, "idx"), &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap());
        }),
    ];
    for (what, spoil) in spoils {
        spoil(&dead_fetch(&store, &repository.hash, &[commit(1)]));
        repository.lock(&Cancel::new()).unwrap().salvage().unwrap();
        assert!(!repository.exists(), "{what}");
        assert_eq!(staged(&store), 0, "{what}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn r1_objects_of_git_lfs_are_kept_although_their_fetch_brought_no_commit() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let salvage = || repository.lock(&Cancel::new()).unwrap().salvage().unwrap();
    // Into a new store, by a fetch of a directory.
    write_object(&dead_fetch(&store, &repository.hash, &[]), 1);
    salvage();
    assert_eq!(objects_in(repository.path(), 1..=1), [1]);
    assert!(!repository.path().join(pack() + ".pack").exists(), "an incomplete pack");

    // A commit comes, which replaces that, and then its objects.
    dead_fetch(&store, &repository.hash, &[commit(1)]);
    salvage();
    for number in [2, 3] {
        let left = dead_fetch(&store, &repository.hash, &[]);
        build_on_base(&left);
        write_object(&left, number);
        salvage();
    }
    assert_eq!(objects_in(repository.path(), 1..=3), [2, 3]);
    assert!(repository.contains(&commit(1)) && repository.path().join("shallow").exists());

    // What is damaged goes, and the rest stays. What came without a note, or builds on something else, is not kept.
    let left = dead_fetch(&store, &repository.hash, &[commit(4)]);
    build_on_base(&left);
    write_object(&left, 4);
    fs::write(write_object(&left, 5), [0; 512]).unwrap();
    fs::write(left.join(pack() + ".pack"), "torn").unwrap();
    write_object(&dead_fetch(&store, &repository.hash, &[]), 6);
    salvage();
    assert_eq!(objects_in(repository.path(), 1..=6), [2, 3, 4]);
    assert!(!repository.contains(&commit(4)));
    let before = content_of(&repository.path().join(content::DIRECTORY)).len();
    let left = dead_fetch(&store, &repository.hash, &[]);
    build_on_base(&left);
    fs::copy(repository.path().join(lfs::KNOWN), left.join(lfs::KNOWN)).unwrap();
    salvage();
    assert_eq!(content_of(&repository.path().join(content::DIRECTORY)).len(), before);
    assert_eq!(staged(&store), 0);
}

#[test]
fn s19_a_pack_that_a_surviving_worker_can_write_to_is_not_kept() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    let left = dead_fetch(&store, &repository.hash, &[commit(1)]);
    let writer = File::options().append(true).open(left.join(pack() + ".pack")).unwrap();
    repository.lock(&Cancel::new()).unwrap().salvage().unwrap();
    assert!(!repository.exists());
    drop(writer);
}

#[test]
fn a_sweep_keeps_packs_too_and_without_time_leaves_them_alone() {
    let (_place, store) = store();
    let repository = store.repository(&url());
    dead_fetch(&store, &repository.hash, &[commit(1)]);
    dead_fetch(&store, &repository.hash, &[]);
    let brief = store.sweep(BRIEF, &[]);
    assert!(brief.incomplete && brief.failures.is_empty(), "{brief:?}");
    assert_eq!((brief.staging, staged(&store)), (1, 1), "the one without a pack goes");

    let lock = repository.lock(&Cancel::new()).unwrap();
    assert_eq!(store.sweep(LONG, &[]).staging, 0, "a running fetch has salvaged already");
    drop(lock);
    let long = store.sweep(LONG, &[]);
    assert!(!long.incomplete && long.failures.is_empty(), "{long:?}");
    assert_eq!((long.staging, staged(&store)), (1, 0));
    assert!(repository.contains(&commit(1)));
    assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

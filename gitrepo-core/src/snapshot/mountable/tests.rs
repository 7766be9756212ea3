use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::content::PREFIX;
use crate::policy::Limits;
use crate::snapshot::GroupAccess;
use crate::snapshot::Ownership;
use crate::snapshot::fixture::FILE;
use crate::snapshot::fixture::Fixture;
use crate::snapshot::fixture::SUBMODULE;
use crate::snapshot::fixture::SYMLINK;
use crate::snapshot::fixture::TREE;
use crate::snapshot::fixture::list;
use crate::snapshot::fixture::no_reserve;
use crate::spec::Checkout;
use crate::spec::CommitId;
use crate::spec::RelativePath;
use crate::spec::Symlinks;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;

const ID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
const ONE: &str = "segment-1111111111111111111111111111111111111111";
const TWO: &str = "segment-2222222222222222222222222222222222222222";

/// A repository with two segments, and an empty staging directory.
struct Place {
    place: tempfile::TempDir,
    request: TreeRequest,
}

impl Place {
    /// The first segment has four blocks and a link's target in the third, the second has two blocks.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let segments = place.path().join("repository/segments");
        fs::create_dir_all(&segments).unwrap();
        fs::create_dir(place.path().join("tree")).unwrap();
        let one = fs::File::create(segments.join(format!("{ONE}.content"))).unwrap();
        one.set_len(2048).unwrap();
        one.write_all_at(b"../a", 1024).unwrap();
        fs::write(segments.join(format!("{TWO}.content")), [b'x'; 1024]).unwrap();
        let commit = CommitId::parse(ID).unwrap();
        let request = TreeRequest::new(&TreeOptions::default(), commit, &Image, &Limits::default());
        Self { place, request }
    }

    fn tree(&self) -> PathBuf {
        self.place.path().join("tree")
    }

    fn repository(&self) -> PathBuf {
        self.place.path().join("repository")
    }

    fn segment(&self, stem: &str) -> PathBuf {
        self.repository().join(format!("segments/{stem}.content"))
    }

    /// Writes a manifest of these records, in which segments stand with their names.
    fn write(&self, records: &[String]) {
        let text = manifest(&[vec!["time 1700000000".to_owned()], records.to_vec()].concat());
        fs::write(self.tree().join("manifest"), text).unwrap();
        fs::set_permissions(self.tree().join("manifest"), PermissionsExt::from_mode(0o644)).unwrap();
    }

    fn adopt(&self) -> Result<Listed, SnapshotError> {
        adopt(&self.tree(), &self.request, Owner::ourselves())
    }

    fn complete(&self) -> Result<(), SnapshotError> {
        let listed = self.adopt()?;
        Image.complete(&listed, &self.tree(), &self.repository(), &self.request, no_reserve(), &Watch::default())
    }

    /// Completes a snapshot of these records, which must be refused. Returns the reason.
    fn refusal(&self, records: &[String]) -> String {
        self.write(records);
        match self.complete() {
            Err(SnapshotError::Untrusted { reason, .. }) => reason,
            other => panic!("{records:?}: {other:?}"),
        }
    }
}

/// A manifest of these records, of which the first is the time, with numbers instead of the names of segments.
fn manifest(records: &[String]) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut numbered = |field: &str| match field.starts_with(PREFIX) {
        true => {
            let at = names.iter().position(|name| name == field).unwrap_or_else(|| {
                names.push(field.to_owned());
                names.len() - 1
            });
            at.to_string()
        }
        false => field.to_owned(),
    };
    let number = |record: &String| match record.split_once('\t') {
        Some((fields, path)) => {
            format!("{}\t{path}", fields.split(' ').map(&mut numbered).collect::<Vec<_>>().join(" "))
        }
        None => record.clone(),
    };
    let records: Vec<_> = records.iter().map(number).collect();
    let names = names.iter().map(|name| format!("segment {name}"));
    let (time, tree) = records.split_at(1);
    let all: Vec<_> = time.iter().cloned().chain(names).chain(tree.iter().cloned()).collect();
    all.join("\0") + "\0"
}

fn file(path: &str, size: u64, segment: &str, offset: u64) -> String {
    format!("100644 blob {ID} {size} {segment} {offset}\t{path}")
}

fn link(path: &str, size: u64, offset: u64) -> String {
    format!("120000 blob {ID} {size} {ONE} {offset}\t{path}")
}

fn submodule(path: &str) -> String {
    format!("160000 commit {ID} -\t{path}")
}

fn empty(path: &str) -> String {
    format!("040000 tree {ID} -\t{path}/")
}

#[test]
fn a_manifest_becomes_an_image_over_the_segments_it_needs() {
    let place = Place::new();
    place.write(&[
        file("a", 0, ONE, 512),
        file("b-", 1024, TWO, 0),
        file("b/c", 700, ONE, 512),
        link("b/d", 4, 1024),
        empty("b/e"),
        submodule("f"),
    ]);
    let summary = TreeSummary { files: 3, symlinks: 1, directories: 3, bytes: 1024 + 700 + 4 };
    assert_eq!(place.adopt().unwrap().summary, summary);
    place.complete().unwrap();
    let snapshot = place.tree();
    let Attachment::Image { metadata, devices } = Image.attachment(&snapshot) else { panic!("an image") };
    assert_eq!((metadata, devices), (snapshot.join("image"), vec![snapshot.join("0"), snapshot.join("1")]));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    // In the order of first use; nothing of the empty file is needed.
    assert_eq!(inode(snapshot.join("0")), inode(place.segment(TWO)));
    assert_eq!(inode(snapshot.join("1")), inode(place.segment(ONE)));

    let image = fs::read(snapshot.join("image")).unwrap();
    fs::remove_file(snapshot.join("image")).unwrap();
    for file in ["0", "1", "links"] {
        fs::remove_file(snapshot.join(file)).unwrap();
    }
    place.complete().unwrap();
    assert_eq!(fs::read(snapshot.join("image")).unwrap(), image, "the same again");
}

#[test]
fn a_view_is_another_image_over_the_same_devices() {
    let place = Place::new();
    place.write(&[file("a", 0, ONE, 512), file("b", 1024, TWO, 0), file("c", 700, ONE, 512), link("d", 4, 1024)]);
    place.complete().unwrap();
    let number = std::cell::Cell::new(0);
    let view = |uid, gid, group| {
        number.set(number.get() + 1);
        let staging = place.place.path().join(format!("view-{}", number.get()));
        fs::create_dir(&staging).unwrap();
        Image::view(&place.tree(), &staging, &place.request, &Ownership { uid, gid, group }).unwrap();
        staging
    };
    let image = |snapshot: &std::path::Path| fs::read(snapshot.join("image")).unwrap();
    let root = view(0, 0, GroupAccess::Everybody);
    assert_eq!(image(&root), image(&place.tree()), "the links are read as they were written");
    let one = view(0, 2000, GroupAccess::Read);
    assert_eq!(image(&one), image(&view(0, 2000, GroupAccess::Read)), "the same again");
    let others = [
        view(1, 2000, GroupAccess::Read),
        view(0, 2001, GroupAccess::Read),
        view(0, 70_000, GroupAccess::Read),
        view(0, 2000, GroupAccess::Everybody),
        view(0, 2000, GroupAccess::Write),
        root,
    ];
    let uuid = |snapshot: &std::path::PathBuf| image(snapshot)[1072..1088].to_vec();
    let all: Vec<_> = others.iter().chain([&one]).map(uuid).collect();
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
    for name in ["0", "1", "manifest"] {
        let inode = |snapshot: PathBuf| fs::metadata(snapshot.join(name)).unwrap().ino();
        assert!(others.iter().all(|view| inode(view.clone()) == inode(place.tree())), "{name}");
    }
    // A view of a view, too, if there is one of root.
    assert_eq!(fs::read_dir(&one).unwrap().count(), fs::read_dir(place.tree()).unwrap().count());
}

#[test]
fn a_damaged_snapshot_has_no_view() {
    let remove = |name: &'static str| -> Box<dyn Fn(PathBuf)> {
        Box::new(move |tree| fs::remove_file(tree.join(name)).unwrap())
    };
    let write = |name: &'static str, bytes: &'static [u8]| -> Box<dyn Fn(PathBuf)> {
        Box::new(move |tree| {
            fs::remove_file(tree.join(name)).unwrap();
            fs::write(tree.join(name), bytes).unwrap();
        })
    };
    for (damage, reason) in [
        (remove("manifest"), "it is missing"),
        (write("manifest", b"time 1700000000\0"), "the image was not made from it"),
        (write("manifest", b"time 1"), "malformed"),
        (remove("image"), "it is missing or cut short"),
        (write("image", b"short"), "it is missing or cut short"),
        (remove("links"), "it is missing"),
        (write("links", b""), "does not match the manifest"),
        (write("links", b"abc\0"), "does not match the manifest"),
        (write("links", b"abcde\0"), "does not match the manifest"),
        (write("links", b"abcd"), "does not match the manifest"),
        (write("links", b"abcd\0x\0"), "does not match the manifest"),
        (remove("0"), "no such segment"),
        (write("0", &[0; 512]), "not inside its segment"),
        (write("0", &[0; 700]), "its last block is not whole"),
    ] {
        let place = Place::new();
        place.write(&[file("a", 1024, TWO, 0), link("b", 4, 1024)]);
        place.complete().unwrap();
        damage(place.tree());
        let staging = place.place.path().join("view");
        fs::create_dir(&staging).unwrap();
        let ownership = Ownership::of_readers(0, Some(7));
        match Image::view(&place.tree(), &staging, &place.request, &ownership) {
            Err(SnapshotError::Untrusted { reason: found, .. }) => assert!(found.contains(reason), "{reason}: {found}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn links_and_empty_files_need_no_device() {
    let place = Place::new();
    place.write(&[file("a", 0, ONE, 0), link("b", 4, 1024)]);
    place.complete().unwrap();
    assert!(matches!(Image.attachment(&place.tree()), Attachment::Image { devices, .. } if devices.is_empty()));
}

#[test]
fn everything_else_in_staging_is_refused() {
    for name in ["image", "0", "root"] {
        let place = Place::new();
        place.write(&[]);
        fs::write(place.tree().join(name), "").unwrap();
        assert!(matches!(place.adopt(), Err(SnapshotError::Untrusted { .. })), "{name}");
    }
    let place = Place::new();
    assert!(matches!(place.adopt(), Err(SnapshotError::Untrusted { .. })), "no manifest");
    place.write(&[]);
    fs::hard_link(place.tree().join("manifest"), place.place.path().join("other")).unwrap();
    assert!(matches!(place.adopt(), Err(SnapshotError::Untrusted { .. })), "a second name");
    fs::remove_file(place.tree().join("manifest")).unwrap();
    std::os::unix::fs::symlink("../other", place.tree().join("manifest")).unwrap();
    assert!(matches!(place.adopt(), Err(SnapshotError::Untrusted { .. })), "a link");
}

#[test]
fn segments_are_named_once_and_used_by_their_numbers() {
    for (text, reason) in [
        (format!("time 1\0segment {ONE}\0segment {ONE}\0"), "twice"),
        (format!("time 1\0segment {ONE}\0{}\0", record("1", 1, 0)), "not named"),
        (format!("time 1\0{}\0", record("0", 1, 0)), "not named"),
    ] {
        let place = Place::new();
        place.write(&[]);
        fs::write(place.tree().join("manifest"), text).unwrap();
        let Err(SnapshotError::Untrusted { reason: found, .. }) = place.adopt() else { panic!("{reason}") };
        assert!(found.contains(reason), "{found}");
    }
}

fn record(segment: &str, size: u64, offset: u64) -> String {
    format!("100644 blob {ID} {size} {segment} {offset}\ta")
}

#[test]
fn malformed_records_are_refused() {
    let named = |record: &str| format!("time 1\0segment {ONE}\0{record}\0");
    for records in [
        "",
        "time 1\0",
        "time x\0time 1\0",
        &format!("{}\0", record("0", 1, 0)),
        &format!("time 1\0segment {ONE}\0{}", record("0", 1, 0)),
        &named(&format!("100644 blob {ID} 1 0 0\t")),
        &named(&record("0", 1, 100)),
        &named(&record(ONE, 1, 0)),
        &named(&record("", 1, 0)),
        &named(&record("-0", 1, 0)),
        &named(&record("0x0", 1, 0)),
        &named(&record("99999999999999999999", 1, 0)),
        &format!("time 1\0segment {}\0", &ONE[1..]),
        &format!("time 1\0segment {}\0", &ONE[..40]),
        &format!("time 1\0segment {}\0", ONE.replace("11", "\u{e9}")),
        "time 1\0segment segment-../../../../../../../../../../../etc/passwd\0",
        "time 1\0segment ..\0",
        "time 1\0segment \0",
        "time 1\0segment\0",
        &named(&format!("{}\0segment {TWO}", record("0", 1, 0))),
        &named(&format!("100644 blob {ID} -1 0 0\ta")),
        &named(&format!("100644 blob {ID} 1 0 0 0\ta")),
        &named(&format!("100644 blob {ID} 1 0 0 \ta")),
        &named(&format!("100644 blob {ID} 1 0 0 {ID}a\ta")),
        &named(&format!("100644 blob {ID} 1 0 0 {ID} {ID}\ta")),
        &named(&format!("100644 blob {ID} 1 0 0 {ID}\t")),
        &named(&format!("120000 blob {ID} 1 0 0 {ID}\ta")),
        &named(&format!("100644 blob {ID} 1 0\ta")),
        &named(&format!("100644 blob {ID} 1\ta")),
        &named(&format!("104755 blob {ID} 1 0 0\ta")),
        &named(&format!("100644 blob {} 1 0 0\ta", ID.to_uppercase())),
        &named(&format!("100644 blob {}  1 0 0\ta", &ID[1..])),
        &named(&format!("100644 tree {ID} -\ta/")),
        &named(&format!("040000 tree {ID} -\ta")),
        &named(&format!("160000 commit {ID} - 0\ta")),
        &named(&format!("100644 blob {ID} 1 0 0\t{}", "x".repeat(5000))),
    ] {
        let place = Place::new();
        place.write(&[]);
        fs::write(place.tree().join("manifest"), records).unwrap();
        match place.complete() {
            Err(SnapshotError::Untrusted { reason, .. }) => assert_eq!(reason, "it has a malformed record"),
            // Nothing but the time is an empty tree.
            Ok(()) => assert_eq!(records, "time 1\0"),
            other => panic!("{records:?}: {other:?}"),
        }
    }
}

#[test]
fn only_a_repository_beside_changed_files_says_what_was_committed() {
    let pack = format!("pack pack-{ID} {ID} {ID} 1 {ID} 1");
    let file = format!("100644 blob {ID} 1 {ONE} 0 {}\ta", "5".repeat(40));
    let shown = serde_json::json!({ "depth": 1, "branch": "main", "origin": "https://git.example.com/a.git" });
    let shown: WorkingRepository = serde_json::from_value(shown).unwrap();
    for (checkout, lfs, repository) in [
        (Checkout::Git, true, None),
        (Checkout::Bytes, false, Some(&shown)),
        (Checkout::Git, false, Some(&shown)),
        (Checkout::Bytes, true, Some(&shown)),
    ] {
        let mut request = Place::new().request;
        (request.tree.checkout, request.tree.lfs, request.repository) = (checkout, lfs, repository.cloned());
        let text = match repository {
            Some(_) => manifest(&["time 1".to_owned(), pack.clone(), file.clone()]),
            None => manifest(&["time 1".to_owned(), file.clone()]),
        };
        let is_wanted = repository.is_some() && (lfs || checkout == Checkout::Git);
        match Listed::read(text.as_bytes(), &request) {
            Ok(_) => assert!(is_wanted),
            Err(SnapshotError::Untrusted { reason, .. }) => {
                assert!(!is_wanted && reason.contains("nobody asked"), "{reason}")
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_tree_that_is_not_one_is_refused() {
    let at = |path: &str| file(path, 1, ONE, 0);
    for (records, reason) in [
        (vec![at("b"), at("a")], "order"),
        (vec![at("a"), at("a")], "order"),
        (vec![at("a/b"), at("a-")], "order"),
        (vec![at("a"), at("a/b")], "same name"),
        (vec![at("a"), at("a-"), at("a/b")], "same name"),
        (vec![submodule("a"), at("a/b")], "empty directory"),
        (vec![empty("a"), at("a/b")], "empty directory"),
        (vec![submodule("a"), at("a-"), at("a/b")], "same name"),
        (vec![link("a", 4, 1024), at("a/b")], "same name"),
        (vec![at("../a")], "means another directory"),
        (vec![at("a/../b")], "means another directory"),
        (vec![at("./a")], "means another directory"),
        (vec![at("/a")], "empty"),
        (vec![at("a//b")], "empty"),
        (vec![at(".git/config")], "git's own directory"),
        (vec![submodule("..")], "means another directory"),
        (vec![empty("a/..")], "means another directory"),
        (vec![link("a", 0, 1024)], "length"),
        (vec![link("a", 4096, 0)], "length"),
        (vec![link("a", 4, 0)], "NUL"),
    ] {
        let found = Place::new().refusal(&records);
        assert!(found.contains(reason), "{records:?}: {found}");
    }
}

#[test]
fn content_outside_its_segment_is_refused() {
    for (record, reason) in [
        (file("a", 2049, ONE, 0), "not inside its segment"),
        (file("a", 1025, TWO, 0), "not inside its segment"),
        (file("a", 513, TWO, 512), "not inside its segment"),
        (file("a", 1, TWO, 1024), "not inside its segment"),
        (file("a", u64::MAX, ONE, 512), "not inside its segment"),
        (link("a", 5, 2048), "not inside its segment"),
        (file("a", 1, &ONE.replace('1', "3"), 0), "no such segment"),
    ] {
        let mut place = Place::new();
        place.request.limits.tree_bytes = u64::MAX;
        assert!(place.refusal(std::slice::from_ref(&record)).contains(reason), "{record:?}");
        assert!(!place.tree().join("image").exists() && !place.tree().join("0").exists());
    }
    // Those of two blobs may be the same, or overlap: they are the repository's anyway.
    let place = Place::new();
    place.write(&[file("a", 600, ONE, 0), file("b", 600, ONE, 0), file("c", 100, ONE, 512)]);
    place.complete().unwrap();
}

#[test]
fn swapped_or_odd_segments_are_refused() {
    let place = Place::new();
    let (one, two) = (place.segment(ONE), place.segment(TWO));
    place.write(&[file("a", 1, TWO, 0), file("b", 1500, ONE, 0)]);
    fs::rename(&two, place.repository().join("aside")).unwrap();
    fs::rename(&one, &two).unwrap();
    fs::rename(place.repository().join("aside"), &one).unwrap();
    assert!(matches!(place.complete(), Err(SnapshotError::Untrusted { .. })), "swapped");

    let place = Place::new();
    fs::write(place.segment(ONE), [0; 700]).unwrap();
    assert_eq!(place.refusal(&[file("a", 1, ONE, 0)]), "its last block is not whole");

    let place = Place::new();
    fs::remove_file(place.segment(ONE)).unwrap();
    std::os::unix::fs::symlink(place.segment(TWO), place.segment(ONE)).unwrap();
    assert_eq!(place.refusal(&[file("a", 1, ONE, 0)]), "it is not a regular file");
}

#[test]
fn limits_and_rejected_links_hold_in_the_parent() {
    let change: [fn(&mut Limits); 4] = [
        |limits| limits.entries = 3,
        |limits| limits.tree_bytes = 99,
        |limits| limits.path_depth = 1,
        |limits| limits.path_length = 4,
    ];
    for change in change {
        let mut place = Place::new();
        place.write(&[file("a/b/c", 100, ONE, 0), submodule("d")]);
        assert!(place.adopt().is_ok());
        change(&mut place.request.limits);
        assert!(matches!(place.adopt(), Err(SnapshotError::TooLarge { .. })), "{:?}", place.request.limits);
    }
    let mut place = Place::new();
    place.request.tree.symlinks = Symlinks::RejectEscaping;
    assert!(place.refusal(&[link("a", 4, 1024)]).contains("leave the volume"));
    place.write(&[link("d/a", 4, 1024)]);
    place.complete().unwrap();
    let mut place = Place::new();
    place.request.tree.symlinks = Symlinks::RejectEscaping;
    place.request.tree.directory = RelativePath::parse("above").unwrap();
    place.write(&[link("a", 4, 1024)]);
    place.complete().unwrap();
}

#[test]
fn the_uuid_depends_on_all_that_an_image_shows() {
    let uuid = |change: fn(&mut TreeRequest), records: &[String]| {
        let mut place = Place::new();
        change(&mut place.request);
        place.write(records);
        place.complete().unwrap();
        fs::read(place.tree().join("image")).unwrap()[1072..1088].to_vec()
    };
    let records = [file("a", 1, ONE, 0)];
    let first = uuid(|_| {}, &records);
    assert_eq!(uuid(|_| {}, &records), first);
    assert_ne!(uuid(|_| {}, &[file("a", 1, ONE, 512)]), first);
    assert_ne!(uuid(|request| request.tree.directory = RelativePath::parse("d").unwrap(), &records), first);
}

fn written(fixture: &Fixture, request: &TreeRequest) -> Result<(tempfile::TempDir, TreeSummary), SnapshotError> {
    let staging = tempfile::tempdir().unwrap();
    let summary = list(fixture.path(), request, staging.path(), &Watch::default())?;
    Ok((staging, summary))
}

fn request(commit: CommitId) -> TreeRequest {
    TreeRequest::new(&TreeOptions::default(), commit, &Image, &Limits::default())
}

#[test]
fn the_parent_accepts_what_the_worker_writes() {
    let fixture = Fixture::new();
    for directory in [".", "a/b"] {
        let mut request = request(fixture.varied());
        request.tree.directory = RelativePath::parse(directory).unwrap();
        let (staging, summary) = written(&fixture, &request).unwrap();
        let listed = adopt(staging.path(), &request, Owner::ourselves()).unwrap();
        assert_eq!(listed.summary, summary);
        // The other format counts the same.
        assert_eq!(fixture.write(&request).unwrap().1, summary);
        Image.complete(&listed, staging.path(), fixture.path(), &request, no_reserve(), &Watch::default()).unwrap();
        assert!(is_image(&staging.path().join("image")));
    }
}

#[test]
fn empty_directories_are_part_of_the_order() {
    let fixture = Fixture::new();
    let (nothing, file) = (fixture.tree(&[]), fixture.blob("x"));
    let nested = fixture.tree(&[(TREE, b"nothing", nothing)]);
    // git sorts a directory as if its name ended in a slash.
    let commit = fixture.commit_of(&[
        (FILE, b"a-", file),
        (TREE, b"a", nothing),
        (FILE, b"a0", file),
        (SUBMODULE, b"b", file),
        (TREE, b"c", nested),
        (TREE, b"z", nothing),
    ]);
    let request = request(commit);
    let (staging, summary) = written(&fixture, &request).unwrap();
    assert_eq!(summary, TreeSummary { files: 2, symlinks: 0, directories: 5, bytes: 2 });
    assert_eq!(adopt(staging.path(), &request, Owner::ourselves()).unwrap().summary, summary);
    let manifest = fs::read_to_string(staging.path().join("manifest")).unwrap();
    let paths: Vec<_> = manifest.split_terminator('\0').filter_map(|record| record.split('\t').nth(1)).collect();
    assert_eq!(paths, ["a-", "a/", "a0", "b", "c/nothing/", "z/"]);
}

#[test]
fn the_worker_refuses_the_links_that_files_could_not_be_either() {
    let fixture = Fixture::new();
    for target in [vec![], vec![b'x'; 4096], b"a\0b".to_vec()] {
        let request = request(fixture.commit_of(&[(SYMLINK, b"link", fixture.blob(target))]));
        assert!(matches!(written(&fixture, &request), Err(SnapshotError::UnsafeName { .. })));
    }
    let mut request = request(fixture.commit_of(&[(SYMLINK, b"link", fixture.blob("../x"))]));
    assert!(written(&fixture, &request).is_ok());
    request.tree.symlinks = Symlinks::RejectEscaping;
    assert!(matches!(written(&fixture, &request), Err(SnapshotError::EscapingSymlink { .. })));
}

#[test]
fn too_many_bytes_are_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    let mut request = request(fixture.commit_of(&[(FILE, b"zeros", fixture.blob(vec![0; 4096]))]));
    request.limits.tree_bytes = 4095;
    let staging = tempfile::tempdir().unwrap();
    let refused = list(fixture.path(), &request, staging.path(), &Watch::default());
    assert!(matches!(refused, Err(SnapshotError::TooLarge { .. })));
    assert_eq!(fs::read_dir(staging.path()).unwrap().count(), 0);
}

#[test]
fn a_repository_that_has_lost_content_is_damaged() {
    let fixture = Fixture::new();
    let request = request(fixture.commit_of(&[(FILE, b"file", fixture.blob("content"))]));
    let segments: Vec<_> = fs::read_dir(fixture.path().join("segments")).unwrap().map(|found| found.unwrap()).collect();
    let content = segments.iter().map(fs::DirEntry::path).find(|path| path.extension().unwrap() == "content").unwrap();
    fs::File::options().write(true).open(&content).unwrap().set_len(0).unwrap();
    assert!(matches!(written(&fixture, &request), Err(SnapshotError::Incomplete { .. })), "cut short");
    fs::remove_file(content).unwrap();
    assert!(matches!(written(&fixture, &request), Err(SnapshotError::Incomplete { .. })), "gone");
}

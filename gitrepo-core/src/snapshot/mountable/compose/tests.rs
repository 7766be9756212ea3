use std::collections::BTreeMap;
use std::path::PathBuf;

use git2::Oid;

use super::*;
use crate::policy::Limits;
use crate::snapshot::Directory;
use crate::snapshot::Image;
use crate::snapshot::Owner;
use crate::snapshot::Pace;
use crate::snapshot::Part;
use crate::snapshot::SnapshotFormat;
use crate::snapshot::Verifier;
use crate::snapshot::adopt;
use crate::snapshot::fixture::FILE;
use crate::snapshot::fixture::Fixture;
use crate::snapshot::fixture::SUBMODULE;
use crate::snapshot::fixture::SYMLINK;
use crate::snapshot::fixture::TREE;
use crate::snapshot::fixture::contents;
use crate::snapshot::fixture::list;
use crate::snapshot::fixture::no_reserve;
use crate::snapshot::fixture::path;
use crate::spec::CommitId;
use crate::spec::Submodules;
use crate::spec::TreeOptions;

fn options() -> TreeOptions {
    TreeOptions { submodules: Submodules::Recursive, ..TreeOptions::default() }
}

fn request(tree: &TreeOptions, commit: CommitId, format: &dyn SnapshotFormat) -> TreeRequest {
    TreeRequest::new(tree, commit, format, &Limits::default())
}

/// Directories that go with the test.
struct Places(tempfile::TempDir, std::cell::Cell<usize>);

impl Places {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), std::cell::Cell::default())
    }

    fn add(&self) -> PathBuf {
        self.1.set(self.1.get() + 1);
        let place = self.0.path().join(self.1.get().to_string());
        std::fs::create_dir(&place).unwrap();
        place
    }

    /// Makes the snapshot of a part, and opens it.
    fn part(&self, url: &str, fixture: &Fixture, commit: CommitId) -> OpenPart {
        let (place, request) = (self.add(), request(&options(), commit, &Part));
        list(fixture.path(), &request, &place, &Watch::default()).unwrap();
        let listed = adopt(&place, &request, Owner::ourselves()).unwrap();
        Part.complete(&listed, &place, fixture.path(), &request, no_reserve(), &Watch::default()).unwrap();
        let url = RepositoryUrl::parse(url).unwrap();
        OpenPart::of_snapshot(url, &place, &request, Some(&listed.digest())).unwrap()
    }
}

fn id_of(commit: CommitId) -> Oid {
    Oid::from_bytes(commit.as_bytes()).unwrap()
}

/// A `.gitmodules` with these paths.
fn gitmodules(fixture: &Fixture, paths: &[&str]) -> Oid {
    let section = |path: &&str| format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = ../sub\n");
    fixture.blob(paths.iter().map(section).collect::<String>())
}

/// A superproject with a submodule between names that are sorted around it, and the same one deeper down.
fn composition(places: &Places) -> (Composition, CommitId) {
    let (outer, inner) = (Fixture::new(), Fixture::new());
    let nothing = inner.commit_of(&[]);
    let sub = inner.commit_of(&[
        (FILE, b"Makefile", inner.blob("all:\n")),
        (TREE, b"a", inner.tree(&[(FILE, b"empty", inner.blob("")), (SYMLINK, b"up", inner.blob("../Makefile"))])),
    ]);
    let any = outer.blob("content");
    let deep = outer.tree(&[(SUBMODULE, b"nothing", id_of(nothing)), (SUBMODULE, b"sub", id_of(sub))]);
    let commit = outer.commit_of(&[
        (FILE, b".gitmodules", gitmodules(&outer, &["sub", "deep/sub", "deep/nothing", "sub-x"])),
        (TREE, b"deep", deep),
        (SUBMODULE, b"sub", id_of(sub)),
        (FILE, b"sub-a", any),
        (SUBMODULE, b"sub-x", id_of(nothing)),
        (FILE, b"sub.b", any),
        (FILE, b"sub0", any),
    ]);
    let parts = vec![
        places.part("https://host/super", &outer, commit),
        places.part("https://host/sub", &inner, sub),
        places.part("https://host/sub", &inner, nothing),
    ];
    let number = |submodule: &Submodule| if submodule.commit == sub { 1 } else { 2 };
    let own = parts[0].submodules.iter().map(number).collect();
    (Composition { parts, places: vec![own, Vec::new(), Vec::new()] }, commit)
}

fn expected() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut expected = BTreeMap::new();
    for sub in ["sub", "deep/sub"] {
        for (name, content) in [("", ""), ("Makefile", "all:\n"), ("a", ""), ("a/empty", ""), ("a/up", "../Makefile")] {
            expected.insert(PathBuf::from(sub).join(name), content.into());
        }
    }
    for (name, content) in [("deep", ""), ("deep/nothing", ""), ("sub-x", "")] {
        expected.insert(name.into(), content.into());
    }
    for name in ["sub-a", "sub.b", "sub0"] {
        expected.insert(name.into(), b"content".to_vec());
    }
    expected
}

#[test]
fn parts_become_one_tree_in_both_formats_and_both_can_be_verified() {
    let places = Places::new();
    let (composition, commit) = composition(&places);
    for format in [&Directory as &dyn SnapshotFormat, &Image] {
        let (staging, request) = (places.add(), request(&options(), commit, format));
        let (listed, segments) = compose(&composition, &staging, &request, &Watch::default()).unwrap();
        format.lay_out(&listed, &staging, &segments, &request, no_reserve(), &Watch::default()).unwrap();
        let watch = Watch::default();
        let mut verifier = Verifier::new(&watch, 0, Pace::new(None));
        let verified = format.verify(&staging, &request, &crate::snapshot::Ownership::ROOT, &mut verifier);
        assert_eq!(verified.unwrap(), listed.digest());
        if format.name() == Directory.name() {
            let found = contents(&staging.join("root")).into_iter().map(|(path, (_, _, content))| (path, content));
            let mut found: BTreeMap<_, _> = found.collect();
            assert!(found.remove(&PathBuf::from(".gitmodules")).is_some());
            let slashed = |map: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
                map.into_iter()
                    .map(|(path, content)| (path.components().collect::<PathBuf>().display().to_string(), content))
                    .collect()
            };
            assert_eq!(slashed(found), slashed(expected()));
        }
    }
}

#[test]
fn a_view_of_a_composed_image_needs_no_part() {
    let places = Places::new();
    let (composition, commit) = composition(&places);
    let (staging, request) = (places.add(), request(&options(), commit, &Image));
    let (listed, segments) = compose(&composition, &staging, &request, &Watch::default()).unwrap();
    Image.lay_out(&listed, &staging, &segments, &request, no_reserve(), &Watch::default()).unwrap();
    drop((composition, segments));
    let ownership = crate::snapshot::Ownership { uid: 7, gid: 7, group: crate::snapshot::GroupAccess::Read };
    Image::view(&staging, &places.add(), &request, &ownership).unwrap();
}

#[test]
fn segments_of_the_same_name_stay_apart_unless_they_are_of_one_repository() {
    let places = Places::new();
    let (one, other) = (Fixture::new(), Fixture::new());
    let (here, there) = (one.blob("same"), other.blob("same"));
    assert_eq!(here, there);
    let commits = [one.commit_of(&[(FILE, b"a", here)]), one.commit_of(&[(FILE, b"b", here)])];
    let elsewhere = other.commit_of(&[(FILE, b"a", there)]);
    let parts = [
        places.part("https://host/one", &one, commits[0]),
        places.part("https://host/one", &one, commits[1]),
        places.part("https://host/other", &other, elsewhere),
    ];
    assert_eq!(parts[0].names, parts[2].names);
    let numbering = Numbering::of(&parts);
    assert_eq!(numbering.numbers, [[0], [0], [1]]);
    assert_eq!(numbering.segments, [(0, 0), (2, 0)]);
}

#[test]
fn a_repository_of_many_fetches_leaves_room_for_those_of_all_others() {
    let places = Places::new();
    let (mut composition, commit) = composition(&places);
    let many = |part: &mut OpenPart, count: usize| {
        let own = part.names.len();
        part.names.extend((own..count).map(|at| format!("{PREFIX}{at:040}")));
        let numbers: Vec<_> = (0..count).map(|at| (0, if at < own { at } else { 0 })).collect();
        part.segments = Segments::of_several(&[&part.segments], &numbers);
    };
    let request = request(&options(), commit, &Image);
    // Each as many as a repository can have.
    many(&mut composition.parts[0], 1024);
    many(&mut composition.parts[1], 1024);
    let staging = places.add();
    let (listed, segments) = compose(&composition, &staging, &request, &Watch::default()).unwrap();
    assert_eq!(listed.segments.len(), 2048);
    Image.lay_out(&listed, &staging, &segments, &request, no_reserve(), &Watch::default()).unwrap();
    many(&mut composition.parts[0], 1001 * 32);
    let error = compose(&composition, &places.add(), &request, &Watch::default()).map(drop).unwrap_err();
    assert!(matches!(&error, SnapshotError::TooLarge { what, limit: 32_032, .. } if what == "segments"), "{error}");
}

#[test]
fn segments_keep_only_the_targets_of_links_that_no_open_one_has() {
    let (places, fixture) = (Places::new(), Fixture::new());
    let (up, kept) = (fixture.blob("../a"), |part: &OpenPart| part.segments.link_count());
    let both = fixture.commit_of(&[(FILE, b"a", up), (SYMLINK, b"up", up)]);
    let alone = fixture.commit_of(&[(SYMLINK, b"up", up)]);
    assert_eq!(kept(&places.part("https://host/a", &fixture, both)), 0);
    let alone = places.part("https://host/a", &fixture, alone);
    assert_eq!((kept(&alone), alone.link_bytes), (1, 4));
}

#[test]
fn links_are_judged_by_their_place_in_the_whole() {
    let places = Places::new();
    let (outer, inner) = (Fixture::new(), Fixture::new());
    let sub = inner.commit_of(&[(SYMLINK, b"up", inner.blob("../x"))]);
    let commit = outer.commit_of(&[
        (FILE, b".gitmodules", gitmodules(&outer, &["sub"])),
        (SUBMODULE, b"sub", id_of(sub)),
        (FILE, b"x", outer.blob("x")),
    ]);
    let tree = TreeOptions { symlinks: Symlinks::RejectEscaping, ..options() };
    let parts = vec![places.part("https://host/super", &outer, commit), places.part("https://host/sub", &inner, sub)];
    let inside = Composition { parts, places: vec![vec![1], Vec::new()] };
    let request = |tree: &TreeOptions| request(tree, commit, &Image);
    compose(&inside, &places.add(), &request(&tree), &Watch::default()).unwrap();
    let sub = inner.commit_of(&[(SYMLINK, b"up", inner.blob("../../x"))]);
    let parts = vec![places.part("https://host/super", &outer, commit), places.part("https://host/sub", &inner, sub)];
    let outside = Composition { parts, places: vec![vec![1], Vec::new()] };
    let error = compose(&outside, &places.add(), &request(&tree), &Watch::default()).map(drop).unwrap_err();
    assert!(matches!(&error, SnapshotError::EscapingSymlink { path, .. } if path == "sub/up"), "{error}");
    let deeper = TreeOptions { directory: path("here"), ..tree };
    compose(&outside, &places.add(), &request(&deeper), &Watch::default()).unwrap();
    compose(&outside, &places.add(), &request(&options()), &Watch::default()).unwrap();
}

#[test]
fn s15_the_limits_are_those_of_the_whole() {
    let places = Places::new();
    let (composition, commit) = composition(&places);
    let whole = request(&options(), commit, &Image);
    let (listed, _) = compose(&composition, &places.add(), &whole, &Watch::default()).unwrap();
    let entries = listed.summary.entries();
    let at_most = |entries| TreeRequest { limits: Limits { entries, ..Limits::default() }, ..whole.clone() };
    compose(&composition, &places.add(), &at_most(entries), &Watch::default()).unwrap();
    let error = compose(&composition, &places.add(), &at_most(entries - 1), &Watch::default()).map(drop).unwrap_err();
    assert!(matches!(&error, SnapshotError::TooLarge { what, .. } if what == "entries"), "{error}");
}

#[test]
fn a_part_whose_manifest_was_changed_is_not_used() {
    let (places, fixture) = (Places::new(), Fixture::new());
    let commit = fixture.commit_of(&[(FILE, b"a", fixture.blob("a"))]);
    let (place, request) = (places.add(), request(&options(), commit, &Part));
    list(fixture.path(), &request, &place, &Watch::default()).unwrap();
    let listed = adopt(&place, &request, Owner::ourselves()).unwrap();
    Part.complete(&listed, &place, fixture.path(), &request, no_reserve(), &Watch::default()).unwrap();
    let open = |sealed: Option<&str>| {
        let url = RepositoryUrl::parse("https://host/a").unwrap();
        OpenPart::of_snapshot(url, &place, &request, sealed).map(drop)
    };
    open(Some(&listed.digest())).unwrap();
    for sealed in [None, Some(&*"0".repeat(64))] {
        assert!(matches!(open(sealed), Err(SnapshotError::Untrusted { .. })));
    }
}

use super::super::fixture::EXECUTABLE;
use super::super::fixture::FILE;
use super::super::fixture::Fixture;
use super::super::fixture::SUBMODULE;
use super::super::fixture::SYMLINK;
use super::super::fixture::TREE;
use super::super::fixture::path;
use super::super::fixture::request;
use super::*;
use crate::error::Kind;
use crate::spec::CommitId;

impl Fixture {
    fn list(&self, request: &TreeRequest) -> Result<Listing, SnapshotError> {
        Listing::read(&self.repository, request, &Watch::default())
    }

    /// The error for a commit with one entry below two directories.
    fn refusal_of(&self, mode: u32, name: &[u8]) -> Option<SnapshotError> {
        let id = if mode & 0o170000 == TREE { self.tree(&[]) } else { self.blob("x") };
        let tree = self.tree(&[(TREE, b"a", self.tree(&[(TREE, b"b", self.tree(&[(mode, name, id)]))]))]);
        self.list(&request(self.commit(tree))).err()
    }

    /// `levels` nested trees.
    fn nested(&self, levels: u32) -> CommitId {
        let leaf = self.tree(&[(FILE, b"leaf", self.blob("x"))]);
        self.commit((0..levels).fold(leaf, |tree, _| self.tree(&[(TREE, b"d", tree)])))
    }
}

fn paths(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|entry| String::from_utf8(listing.path(entry)).unwrap()).collect()
}

#[test]
fn an_unsafe_name_is_refused_at_any_depth_whatever_it_names() {
    let fixture = Fixture::new();
    for name in [
        &b""[..],
        b".",
        b"..",
        b".git",
        b".GIT",
        b"git~1",
        b".git ",
        b".git::$INDEX_ALLOCATION",
        ".g\u{200c}it".as_bytes(),
        b"x/y",
        b"../../x",
        b"/etc",
        &[b'n'; 256],
    ] {
        for mode in [FILE, EXECUTABLE, SYMLINK, TREE, SUBMODULE] {
            let error = fixture.refusal_of(mode, name).unwrap();
            let SnapshotError::UnsafeName { path, .. } = &error else { panic!("{error}") };
            assert_eq!(*path, format!("a/b/{}", String::from_utf8_lossy(name)));
            assert_eq!(error.kind(), Kind::PermissionDenied);
        }
    }
    assert!(matches!(fixture.refusal_of(SYMLINK, b".gitmodules"), Some(SnapshotError::UnsafeName { .. })));
    assert!(fixture.refusal_of(FILE, b".gitmodules").is_none());
}

#[test]
fn a_name_cannot_make_a_terminal_or_a_log_line_do_anything() {
    let error = Fixture::new().refusal_of(FILE, b".git\n\x1b[31m\xe2\x80\xaehidden").map(|error| error.to_string());
    assert_eq!(error, None, "only the exact aliases are refused");
    let error = Fixture::new().refusal_of(FILE, b"..\x1b\n/\xe2\x80\xae").unwrap().to_string();
    assert!(error.contains(r#""a/b/..\u{1b}\n/\u{202e}""#), "{error}");
}

#[test]
fn any_mode_is_read_by_gits_rule() {
    let fixture = Fixture::new();
    for mode in [0o104755, 0o102755, 0o100600, 0o100777, 0o100664, FILE, EXECUTABLE, SYMLINK] {
        assert!(fixture.refusal_of(mode, b"x").is_none(), "{mode:o}");
    }
    // Trees and submodules.
    for mode in [0o040755, TREE, SUBMODULE, 0o020000, 0o060000, 0o010000, 0o140000, 0o644, 0] {
        assert!(fixture.refusal_of(mode, b"x").is_none(), "{mode:o}");
    }
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let fixture = Fixture::new();
    let (blob, other) = (fixture.blob("x"), fixture.blob("/etc"));
    let tree = fixture.tree(&[(FILE, b"passwd", blob)]);
    for entries in [
        &[(SYMLINK, &b"a"[..], other), (TREE, b"a", tree)][..],
        &[(TREE, b"a", tree), (SYMLINK, b"a", other)],
        &[(SYMLINK, b"a", other), (FILE, b"a-b", blob), (FILE, b"a.b", blob), (TREE, b"a", tree)],
        &[(FILE, b"a", blob), (FILE, b"a", blob)],
        &[(FILE, b"a", blob), (FILE, b"b", blob), (SYMLINK, b"a", other)],
        &[(TREE, b"a", tree), (TREE, b"a", tree)],
        &[(SUBMODULE, b"a", other), (FILE, b"a.b", blob), (TREE, b"a", tree)],
    ] {
        let error = fixture.list(&request(fixture.commit_of(entries))).err().unwrap();
        assert!(matches!(&error, SnapshotError::UnsafeName { path, .. } if path == "a"), "{error}");
    }
}

#[test]
fn a_tree_in_another_order_is_listed_in_gits() {
    let fixture = Fixture::new();
    let blob = fixture.blob("x");
    let tree = fixture.tree(&[(FILE, b"y", blob), (FILE, b"x", blob)]);
    let commit =
        fixture.commit_of(&[(FILE, b"b", blob), (TREE, b"a", tree), (FILE, b"a.b", blob), (FILE, b"a-", blob)]);
    assert_eq!(paths(&fixture.list(&request(commit)).unwrap()), ["a-", "a.b", "a/x", "a/y", "b"]);
}

#[test]
fn a_git_bomb_is_refused_before_it_expands() {
    let fixture = Fixture::new();
    let names: Vec<_> = (b'0'..=b'9').map(|digit| [b'd', digit]).collect();
    let level = |id, mode| fixture.tree(&names.iter().map(|name| (mode, &name[..], id)).collect::<Vec<_>>());
    let bomb = (0..9).fold(level(fixture.blob("boom\n"), FILE), |tree, _| level(tree, TREE));
    let commit = fixture.commit(bomb);
    let started = std::time::Instant::now();
    let error = fixture.list(&request(commit)).err().unwrap();
    assert!(matches!(&error, SnapshotError::TooLarge { what, limit: 2_000_000, .. } if what == "entries"), "{error}");
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    // 10¹⁰ files would take hours; this takes a second or so, on a busy machine more.
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn entries_are_counted_with_directories() {
    let fixture = Fixture::new();
    let blob = fixture.blob("x");
    let tree = fixture.tree(&[(FILE, b"x", blob), (SYMLINK, b"y", blob), (SUBMODULE, b"z", blob)]);
    let mut asked = request(fixture.commit_of(&[(TREE, b"t", tree)]));
    asked.tree.directory = path("a/b");
    asked.limits.entries = 6;
    assert!(fixture.list(&asked).is_ok());
    asked.limits.entries = 5;
    assert!(matches!(fixture.list(&asked), Err(SnapshotError::TooLarge { .. })));
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let fixture = Fixture::new();
    let mut asked = request(fixture.nested(256));
    assert!(fixture.list(&asked).is_ok());
    asked.commit = fixture.nested(257);
    let error = fixture.list(&asked).err().unwrap();
    assert!(matches!(&error, SnapshotError::TooLarge { what, .. } if what == "nested directories"), "{error}");
    asked.commit = fixture.nested(1000);
    asked.limits.path_depth = 2000;
    assert!(fixture.list(&asked).is_ok());
    asked.commit = fixture.nested(4096);
    asked.limits.path_depth = 5000;
    let error = fixture.list(&asked).err().unwrap();
    assert!(matches!(&error, SnapshotError::TooLarge { what, .. } if what == "bytes in a path"), "{error}");
}

#[test]
fn the_length_of_a_path_in_the_volume_is_bounded() {
    let fixture = Fixture::new();
    let tree = fixture.tree(&[(FILE, b"12345", fixture.blob("x"))]);
    let mut asked = request(fixture.commit_of(&[(TREE, b"123", tree)]));
    asked.limits.path_length = 9;
    assert!(fixture.list(&asked).is_ok());
    asked.limits.path_length = 8;
    assert!(matches!(fixture.list(&asked), Err(SnapshotError::TooLarge { .. })));
    asked.tree.directory = path("ab");
    asked.limits.path_length = 12;
    assert!(fixture.list(&asked).is_ok());
    asked.limits.path_length = 11;
    assert!(matches!(fixture.list(&asked), Err(SnapshotError::TooLarge { .. })));
}

#[test]
fn a_subdirectory_that_is_none_is_told_apart_from_one_that_is_missing() {
    let fixture = Fixture::new();
    let tree = fixture.tree(&[(FILE, b"file", fixture.blob("x"))]);
    let mut asked = request(fixture.commit_of(&[
        (TREE, b"dir", tree),
        (FILE, b"file", fixture.blob("x")),
        (SYMLINK, b"link", fixture.blob("dir")),
        (SUBMODULE, b"sub", fixture.blob("any id")),
    ]));
    for (subdirectory, expected) in [
        ("file", "file is a file"),
        ("dir/file", "dir/file is a file"),
        ("dir/file/x", "dir/file is a file"),
        ("link", "link is a symbolic link"),
        ("link/file", "link is a symbolic link"),
        ("sub", "sub is a submodule"),
        ("sub/x", "sub is a submodule"),
        ("missing", "nothing at the top of it has that name"),
        ("missing/x", "nothing at the top of it has that name"),
        ("dir/missing/x", "dir is there, and nothing in it has the next name"),
        ("Dir", "nothing at the top of it has that name"),
    ] {
        asked.tree.subdirectory = path(subdirectory);
        let error = fixture.list(&asked).err().unwrap();
        let (commit, text) = (asked.commit.to_string(), error.to_string());
        assert!(text.ends_with(expected) && text.contains(subdirectory) && text.contains(&commit), "{text}");
        assert_eq!(error.kind(), crate::error::Kind::NotFound);
    }
}

#[test]
fn what_lacks_an_object_is_incomplete_here() {
    let fixture = Fixture::new();
    let missing = Oid::from_bytes(&[7; 20]).unwrap();
    for commit in [CommitId::from_bytes([7; 20]), fixture.commit(missing), fixture.commit_of(&[(TREE, b"t", missing)])]
    {
        let error = fixture.list(&request(commit)).err().unwrap();
        assert!(matches!(error, SnapshotError::Incomplete { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
    }
}

#[test]
fn what_git_never_writes_is_the_fault_of_the_repository() {
    let fixture = Fixture::new();
    let blob = fixture.blob("x");
    for commit in [
        CommitId::from_bytes(blob.as_bytes().try_into().unwrap()),
        fixture.commit(blob),
        fixture.commit_of(&[(TREE, b"t", blob)]),
        fixture.commit(fixture.malformed_tree(b"100644 no id\0short")),
        fixture.commit(fixture.malformed_tree(b"100644")),
        fixture.commit(fixture.malformed_tree(b"+100644 x\0aaaaaaaaaaaaaaaaaaaa")),
        fixture.commit(fixture.malformed_tree(b"99999999999999999 x\0aaaaaaaaaaaaaaaaaaaa")),
    ] {
        let error = fixture.list(&request(commit)).err().unwrap();
        assert_eq!(error.kind(), Kind::BadData, "{error}");
    }
}

#[test]
fn a_cancelled_listing_ends() {
    let fixture = Fixture::new();
    let watch = Watch::default();
    watch.cancel.cancel();
    let error = Listing::read(&fixture.repository, &request(fixture.varied()), &watch).err().unwrap();
    assert_eq!(error.kind(), Kind::Cancelled);
}

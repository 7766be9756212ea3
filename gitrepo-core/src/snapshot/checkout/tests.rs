//! Compared with `git checkout`, over trees of random attributes and content.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use git2::Oid;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::fixture::FILE;
use super::super::fixture::Fixture;
use super::super::fixture::TREE;
use super::super::fixture::path;
use super::super::fixture::request;
use super::*;
use crate::content;
use crate::spec::Checkout;
use crate::spec::CommitId;
use crate::spec::RelativePath;

const NAMES: [&str; 6] = ["a.bat", "b.txt", "c", "d e.txt", "dir.bat", "z[1].x"];

const PATTERNS: [&str; 16] = [
    "*",
    "*.bat",
    "*.txt",
    "/a.bat",
    "c",
    "sub/*",
    "sub/**",
    "**/c",
    "sub/**/a.bat",
    "[a-c]*",
    "\"d e.txt\"",
    "d?e.txt",
    "z\\[1]*",
    "!c",
    "sub/",
    "[attr]win",
];

const STATES: [&str; 22] = [
    "text",
    "-text",
    "!text",
    "text=auto",
    "text=input",
    "text=odd",
    "eol=crlf",
    "eol=lf",
    "-eol",
    "!eol",
    "ident",
    "-ident",
    "binary",
    "-binary",
    "win",
    "crlf",
    "-crlf",
    "crlf=auto",
    "working-tree-encoding=UTF-16LE",
    "working-tree-encoding=ISO-8859-1",
    "working-tree-encoding=UTF-8",
    "b@d",
];

const CONTENTS: [&[u8]; 14] = [
    b"",
    b"one\ntwo\n",
    b"one\r\ntwo\n",
    b"one\r\ntwo\r\n",
    b"one\rtwo\n",
    b"no end",
    b"nul\0\n",
    b"$Id$\n",
    b"$Id: 0123456789012345678901234567890123456789 $ $Id: a b $\n$Id$",
    b"$Id:\n$ $Id:$\n",
    b"\x01\x02\x03\n",
    b"caf\xc3\xa9 \xe2\x82\xac\n",
    b"caf\xc3\xa9\n",
    b"\xff\xfe\n",
];

/// A directory: its lines of attributes, and the content of its files.
type Layer = (Vec<String>, BTreeMap<&'static str, &'static [u8]>);

fn layer() -> impl Strategy<Value = Layer> {
    let line = (select(&PATTERNS[..]), vec(select(&STATES[..]), 1..4))
        .prop_map(|(pattern, states)| format!("{pattern} {}", states.join(" ")));
    let files = proptest::collection::btree_map(select(&NAMES[..]), select(&CONTENTS[..]), 1..6);
    (vec(line, 0..5), files)
}

/// Writes directories inside each other, each named `sub` in the one before.
fn commit(fixture: &Fixture, layers: &[Layer]) -> CommitId {
    let mut inner: Option<Oid> = None;
    for (lines, files) in layers.iter().rev() {
        let mut entries: Vec<(u32, &[u8], Oid)> = Vec::new();
        if !lines.is_empty() {
            entries.push((FILE, NAME, fixture.blob(lines.join("\n") + "\n")));
        }
        entries.extend(files.iter().map(|(name, content)| (FILE, name.as_bytes(), fixture.blob(content))));
        entries.extend(inner.map(|tree| (TREE, &b"sub"[..], tree)));
        entries.sort_by_key(|(mode, name, _)| {
            let mut key = name.to_vec();
            key.extend((*mode == TREE).then_some(b'/'));
            key
        });
        inner = Some(fixture.tree(&entries));
    }
    fixture.commit(inner.unwrap())
}

/// The files below a directory, by their paths.
fn files(top: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut directories) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => directories.push(path),
                false => {
                    let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// What git writes.
fn checked_out(fixture: &Fixture, commit: CommitId) -> BTreeMap<String, Vec<u8>> {
    let place = tempfile::tempdir().unwrap();
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(fixture.path()).arg("--work-tree").arg(place.path());
    git.args(["-c", "core.attributesFile=/dev/null", "-c", "core.autocrlf=false", "-c", "advice.detachedHead=false"]);
    git.args(["checkout", "--quiet", "--force", "--detach", &commit.to_string()]);
    git.env_clear().env("PATH", std::env::var("PATH").unwrap());
    git.envs([("GIT_ATTR_NOSYSTEM", "1"), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")]);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    files(place.path())
}

fn written(fixture: &Fixture, commit: CommitId, subdirectory: &RelativePath) -> BTreeMap<String, Vec<u8>> {
    let mut asked = request(commit);
    asked.tree.checkout = Checkout::Git;
    asked.tree.subdirectory = subdirectory.clone();
    let (staging, _) = fixture.write(&asked).unwrap();
    files(&staging.path().join("root"))
}

fn list_alone(fixture: &Fixture, commit: CommitId) -> Result<(), SnapshotError> {
    list_within(fixture, commit, usize::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn files_are_those_of_git_checkout(layers in vec(layer(), 1..4)) {
        let fixture = Fixture::new();
        let commit = commit(&fixture, &layers);
        let expected = checked_out(&fixture, commit);
        prop_assert_eq!(&written(&fixture, commit, &RelativePath::default()), &expected);
        if layers.len() > 1 {
            let inside = |(name, content): (&String, &Vec<u8>)| Some((name.strip_prefix("sub/")?.to_owned(), content.clone()));
            let expected: BTreeMap<_, _> = expected.iter().filter_map(inside).collect();
            prop_assert_eq!(&written(&fixture, commit, &path("sub")), &expected);
        }
    }
}

#[test]
fn converted_files_are_kept_once_and_a_tree_without_attributes_keeps_nothing() {
    let fixture = Fixture::new();
    let segments = || fs::read_dir(fixture.path().join(content::DIRECTORY)).unwrap().count();
    let attributes = fixture.blob("*.bat eol=crlf\n");
    let (one, two) = (fixture.blob("a\nb\n"), fixture.blob("c\n"));
    let plain = fixture.commit_of(&[(FILE, b"a.bat", one), (FILE, b"b.bat", one)]);
    let converted = fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"a.bat", one), (FILE, b"b.bat", one)]);
    let later = fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"a.bat", one), (FILE, b"c.txt", two)]);
    let before = segments();
    for (commit, more) in [(plain, 0), (converted, 2), (converted, 2), (later, 2)] {
        list_alone(&fixture, commit).unwrap();
        assert_eq!(segments(), before + more, "{commit}");
    }
}

/// Encodings of one byte for each letter that are the same here and in git, besides ISO-8859-1 and ASCII.
const AS_IN_GIT: [&str; 20] = [
    "IBM866",
    "ISO-8859-10",
    "ISO-8859-13",
    "ISO-8859-14",
    "ISO-8859-15",
    "ISO-8859-16",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-4",
    "ISO-8859-5",
    "ISO-8859-6",
    "ISO-8859-7",
    "ISO-8859-8",
    "KOI8-R",
    "WINDOWS-1250",
    "WINDOWS-1251",
    "WINDOWS-1252",
    "WINDOWS-1253",
    "WINDOWS-1254",
    "WINDOWS-1257",
];

/// Each letter of any of them in each of them.
#[test]
fn the_encodings_that_are_named_as_those_of_git_are() {
    let bytes: Vec<_> = (0x80..=0xff_u8).collect();
    let encodings = AS_IN_GIT.map(|name| encoding_rs::Encoding::for_label(name.as_bytes()).unwrap());
    let letters: BTreeSet<char> =
        encodings.iter().flat_map(|encoding| encoding.decode(&bytes).0.chars().collect::<Vec<_>>()).collect();
    let fixture = Fixture::new();
    let named = |letter: char| format!("{:04x}", u32::from(letter)).into_bytes();
    let files: Vec<_> = letters.iter().map(|letter| (named(*letter), fixture.blob(letter.to_string()))).collect();
    let tree = |name: &str| {
        let attributes = fixture.blob(format!("* working-tree-encoding={name}\n"));
        let mut entries = vec![(FILE, NAME, attributes)];
        entries.extend(files.iter().map(|(name, blob)| (FILE, name.as_slice(), *blob)));
        fixture.tree(&entries)
    };
    let trees = AS_IN_GIT.map(|name| (TREE, name.as_bytes(), tree(name)));
    let commit = fixture.commit_of(&trees);
    let (ours, gits) = (written(&fixture, commit, &RelativePath::default()), checked_out(&fixture, commit));
    let differ: Vec<_> = gits.iter().filter(|(name, content)| ours.get(*name) != Some(content)).collect();
    assert!(differ.is_empty(), "{differ:x?}");
    // They were converted, unless the encoding lacks them.
    assert_eq!(ours["ISO-8859-5/0430"], [0xd0]);
    assert_eq!(ours["ISO-8859-2/0430"], "\u{430}".as_bytes());
}

#[test]
fn a_repository_is_only_made_for_what_is_new() {
    let fixture = Fixture::new();
    let attributes = fixture.blob("*.bat eol=crlf\n");
    let (one, same) = (fixture.blob("a\nb\n"), fixture.blob("a\r\n"));
    let commits = [
        (fixture.commit_of(&[(FILE, b"a.bat", one)]), 0),
        (fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"a.bat", same), (FILE, b"c", one)]), 0),
        (fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"a.bat", one), (FILE, b"b.bat", one)]), 1),
        (fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"b.bat", one)]), 0),
    ];
    for (commit, expected) in commits {
        let mut asked = request(commit);
        asked.tree.checkout = Checkout::Git;
        let staging = tempfile::tempdir().unwrap();
        let mut made = 0;
        let mut writable = || {
            made += 1;
            Ok(fixture.path().to_owned())
        };
        super::super::list(fixture.path(), &mut writable, &asked, staging.path(), &Watch::default()).unwrap();
        assert_eq!(made, expected, "{commit}");
    }
}

/// A segment of converted files would make them look whole for ever.
#[test]
fn damaged_content_is_never_converted_nor_obeyed() {
    for damaged in ["* eol=crlf\n", "a\nb\n"] {
        let fixture = Fixture::new();
        let (attributes, file) = (fixture.blob("* eol=crlf\n"), fixture.blob("a\nb\n"));
        let commit = fixture.commit_of(&[(FILE, NAME, attributes), (FILE, b"a.bat", file)]);
        fixture.damage(damaged);
        let segments = fs::read_dir(fixture.path().join(content::DIRECTORY)).unwrap().count();
        let listed = list_alone(&fixture, commit);
        assert!(matches!(listed, Err(SnapshotError::Incomplete { .. })), "{damaged:?}: {listed:?}");
        assert_eq!(fs::read_dir(fixture.path().join(content::DIRECTORY)).unwrap().count(), segments);
    }
}

fn list_within(fixture: &Fixture, commit: CommitId, tree_bytes: usize) -> Result<(), SnapshotError> {
    let mut asked = request(commit);
    asked.tree.checkout = Checkout::Git;
    asked.limits.tree_bytes = widen(tree_bytes);
    let staging = tempfile::tempdir().unwrap();
    super::super::fixture::list(fixture.path(), &asked, staging.path(), &Watch::default()).map(drop)
}

/// To read what is damaged would be another error.
#[test]
fn a_tree_that_is_too_large_as_committed_is_refused_before_anything_is_converted() {
    let fixture = Fixture::new();
    let attributes = "* ident\n";
    let file = fixture.blob("$Id$\n");
    let commit = fixture.commit_of(&[(FILE, NAME, fixture.blob(attributes)), (FILE, b"a", file), (FILE, b"b", file)]);
    fixture.damage("$Id$\n");
    fixture.damage(attributes);
    let bytes = attributes.len() + 2 * 5;
    let refused = list_within(&fixture, commit, bytes - 1);
    assert!(matches!(refused, Err(SnapshotError::TooLarge { is_addition: false, .. })), "{refused:?}");
    let damaged = list_within(&fixture, commit, bytes);
    assert!(matches!(damaged, Err(SnapshotError::Incomplete { .. })), "{damaged:?}");
}

/// Whether the same content grows again and again, or other content each time.
#[test]
fn growth_beyond_the_limit_is_not_blamed_on_the_repository() {
    let fixture = Fixture::new();
    let attributes = "*.txt working-tree-encoding=UTF-16LE-BOM\n";
    let rules = fixture.blob(attributes);
    let (one, other, plain) = (fixture.blob("one\n"), fixture.blob("two\n"), fixture.blob("12345678"));
    for second in [one, other] {
        let files: [(u32, &[u8], Oid); 4] =
            [(FILE, NAME, rules), (FILE, b"a.txt", one), (FILE, b"b.txt", second), (FILE, b"c", plain)];
        let commit = fixture.commit_of(&files);
        // With a mark at the begin.
        let grown = attributes.len() + 2 * 10 + 8;
        list_within(&fixture, commit, grown).unwrap();
        // The second one alone exceeds the limit once the rest is counted, too.
        for limit in [grown - 1, attributes.len() + 2 * 4 + 8] {
            let refused = list_within(&fixture, commit, limit);
            assert!(matches!(refused, Err(SnapshotError::TooLarge { is_addition: true, .. })), "{refused:?}");
        }
    }
    // Converted files alone.
    let long = fixture.blob("x".repeat(1000));
    let commit = fixture.commit_of(&[(FILE, NAME, rules), (FILE, b"a.txt", long), (FILE, b"b.txt", long)]);
    let segments = || fs::read_dir(fixture.path().join(content::DIRECTORY)).unwrap().count();
    let before = segments();
    let refused = list_within(&fixture, commit, 4000);
    assert!(matches!(refused, Err(SnapshotError::TooLarge { is_addition: true, .. })), "{refused:?}");
    assert_eq!(segments(), before);
}

/// What shrinks makes room for what grows, wherever it is.
#[test]
fn a_tree_is_measured_as_it_is_shown() {
    let fixture = Fixture::new();
    let attributes = "a ident\nz working-tree-encoding=ISO-8859-1\n";
    let (grows, shrinks) = (fixture.blob("$Id$"), fixture.blob("\u{e9}".repeat(100)));
    let commit =
        fixture.commit_of(&[(FILE, NAME, fixture.blob(attributes)), (FILE, b"a", grows), (FILE, b"z", shrinks)]);
    list_within(&fixture, commit, attributes.len() + 4 + 200).unwrap();
}

#[test]
fn hostile_attributes_cost_no_more_than_their_limits() {
    let fixture = Fixture::new();
    let file = fixture.blob("a\n");
    let of = |attributes: Vec<u8>, content: Oid| {
        list_alone(&fixture, fixture.commit_of(&[(FILE, NAME, fixture.blob(attributes)), (FILE, b"a", content)]))
    };
    let too_large = |result: Result<(), SnapshotError>| match result {
        Err(SnapshotError::TooLarge { setting, .. }) => assert_eq!(setting, SETTING),
        other => panic!("{other:?}"),
    };
    of("a* eol=crlf\n".repeat(100_000).into_bytes(), file).unwrap();
    of((0..100_000).map(|number| format!("*{number}* text\n")).collect::<String>().into_bytes(), file).unwrap();
    of([&b"a eol=crlf "[..], &vec![b'x'; 1 << 20]].concat(), file).unwrap();
    too_large(of(vec![b'#'; 3 << 20], file));
    // Each macro is one more.
    let chain = (0..100_000).map(|number| format!("[attr]m{number} m{}\n", number + 1));
    of(chain.chain(["a m0\n".to_owned()]).collect::<String>().into_bytes(), file).unwrap();
    for flood in ["?", "[a]", "*a", "**/"] {
        let line = flood.repeat(600);
        of(format!("/{line} eol=crlf\n").repeat((2 << 20) / 2000).into_bytes(), file).unwrap();
    }
    let huge = fixture.blob([&b"$Id: "[..], &vec![b'x'; 65 << 20]].concat());
    too_large(of(b"a ident\n".to_vec(), huge));
    // 5 bytes become 188.
    let ids = fixture.blob("$Id$\n".repeat(1 << 20));
    too_large(of(b"a ident eol=crlf working-tree-encoding=UTF-32\n".to_vec(), ids));
    // Nothing says that it is to be converted.
    of(b"b ident\n".to_vec(), huge).unwrap();
    let mut tree = fixture.tree(&[(FILE, NAME, fixture.blob("* eol=crlf\n")), (FILE, b"a", file)]);
    for _ in 0..200 {
        tree = fixture.tree(&[(FILE, NAME, fixture.blob("* ident\n")), (TREE, b"d", tree)]);
    }
    list_alone(&fixture, fixture.commit(tree)).unwrap();
    // Days, if every file were matched with every line.
    let line = format!("x*{}* ident\n", "a*".repeat(300));
    let attributes = fixture.blob(line.repeat((2 << 20) / 1000));
    let names: Vec<_> = (0..10_000).map(|number| format!("x{number:05}{}", "a".repeat(240))).collect();
    let entries = names.iter().map(|name| (FILE, name.as_bytes(), file));
    too_large(list_alone(
        &fixture,
        fixture.commit_of(&[(FILE, NAME, attributes)].into_iter().chain(entries).collect::<Vec<_>>()),
    ));
    // Nothing is in them, but each has a path.
    let nothing = fixture.blob("");
    let directory = vec![b'd'; 250];
    let names: Vec<_> = (0..1000).map(|number| format!("{number:04}")).collect();
    let leaf = fixture.tree(&[(FILE, NAME, nothing)]);
    let leaves: Vec<_> = names.iter().map(|name| (TREE, name.as_bytes(), leaf)).collect();
    let mut tree = fixture.tree(&leaves);
    for _ in 0..12 {
        tree = fixture.tree(&[(TREE, &directory, tree)]);
    }
    too_large(list_alone(&fixture, fixture.commit(tree)));
}

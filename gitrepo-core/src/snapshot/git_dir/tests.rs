//! `.git` of listed trees: what the parent accepts of the worker, and what a verification finds.

use std::fs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::Directory;
use super::super::Image;
use super::super::Listed;
use super::super::Owner;
use super::super::Ownership;
use super::super::Pace;
use super::super::SnapshotError;
use super::super::SnapshotFormat;
use super::super::TreeRequest;
use super::super::Verifier;
use super::super::VerifyError;
use super::super::adopt;
use super::super::fixture::FILE;
use super::super::fixture::Fixture;
use super::super::fixture::TREE;
use super::super::fixture::list;
use super::super::fixture::no_reserve;
use super::super::fixture::request;
use super::index;
use super::pack;
use crate::spec::Checkout;
use crate::spec::CommitId;
use crate::spec::WorkingRepository;
use crate::watch::Watch;

fn keeping(commit: CommitId, format: &dyn SnapshotFormat) -> TreeRequest {
    let shown = serde_json::json!({ "depth": 1, "branch": "main", "origin": "https://git.example.com/a.git" });
    let shown: WorkingRepository = serde_json::from_value(shown).unwrap();
    TreeRequest { format: format.name().to_owned(), ..request(commit).showing(Some(shown)) }
}

/// A finished snapshot of a varied tree.
fn snapshot(format: &dyn SnapshotFormat) -> (tempfile::TempDir, Fixture, TreeRequest) {
    let (fixture, staging) = (Fixture::new(), tempfile::tempdir().unwrap());
    let request = keeping(fixture.varied(), format);
    list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
    let listed = adopt(staging.path(), &request, Owner::ourselves()).unwrap();
    format.complete(&listed, staging.path(), fixture.path(), &request, no_reserve(), &Watch::default()).unwrap();
    assert!(!staging.path().join(pack::FILE).exists());
    (staging, fixture, request)
}

fn verify(format: &dyn SnapshotFormat, snapshot: &Path, request: &TreeRequest) -> Result<String, VerifyError> {
    let watch = Watch::default();
    format.verify(snapshot, request, &Ownership::ROOT, &mut Verifier::new(&watch, 0, Pace::new(None)))
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_damaged_git_directory_is_found() {
    for format in [&Directory as &dyn SnapshotFormat, &Image] {
        let (staging, fixture, request) = snapshot(format);
        verify(format, staging.path(), &request).unwrap();
        // Other settings are another snapshot.
        let mut other = request.clone();
        other.repository.as_mut().unwrap().branch = None;
        assert!(matches!(verify(format, staging.path(), &other), Err(VerifyError::Damaged(_))));
        let git = staging.path().join("root/.git");
        let damaged = match format.name() {
            "image" => {
                let devices = (0..).map(|number: u32| staging.path().join(number.to_string()));
                let devices: Vec<_> = devices.take_while(|device| device.exists()).collect();
                // Of the pack, and of the files that we wrote.
                devices.into_iter().rev().take(2).map(|device| (device, 600)).collect()
            }
            _ => vec![(git.join("config"), 3), (git.join("index"), 80), (git.join("packed-refs"), 1)],
        };
        for (path, at) in damaged {
            flip(&path, at);
            let found = verify(format, staging.path(), &request);
            assert!(matches!(found, Err(VerifyError::Damaged(_))), "{}: {found:?}", path.display());
            flip(&path, at);
        }
        verify(format, staging.path(), &request).unwrap();
        drop(fixture);
    }
}

#[test]
fn only_what_lstat_says_may_differ_in_an_index() {
    let (staging, _fixture, request) = snapshot(&Directory);
    let path = staging.path().join("root/.git/index");
    let written = fs::read(&path).unwrap();
    let listed = Listed::read(File::open(staging.path().join("manifest")).unwrap(), &request).unwrap();
    let template = listed.written.last().unwrap();
    assert_ne!(written, *template);
    assert!(index::is_like(&written, template));
    let found = git2::Index::open(&path).unwrap();
    assert_eq!(found.len(), 16);
    // The mode of an entry, its id, its path, and the number of entries.
    for at in [12 + 24, 12 + 45, 12 + 62, 11] {
        let mut other = written.clone();
        other[at] ^= 1;
        index::sign(&mut other);
        assert!(!index::is_like(&other, template), "{at}");
    }
    // What lstat(2) said, and the checksum.
    for at in [12, written.len() - 1] {
        let mut other = written.clone();
        other[at] ^= 1;
        assert!(!index::is_like(&other, template), "{at}");
    }
}

#[test]
fn an_index_has_the_ids_of_the_commit_and_the_sizes_of_the_files() {
    let (fixture, staging) = (Fixture::new(), tempfile::tempdir().unwrap());
    let (attributes, committed) = (fixture.blob("*.bat eol=crlf\n"), fixture.blob("one\ntwo\n"));
    let tree =
        fixture.tree(&[(FILE, b".gitattributes", attributes), (FILE, b"a", committed), (FILE, b"b.bat", committed)]);
    let mut request = keeping(fixture.commit(tree), &Directory);
    request.tree.checkout = Checkout::Git;
    list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
    let listed = adopt(staging.path(), &request, Owner::ourselves()).unwrap();
    Directory.complete(&listed, staging.path(), fixture.path(), &request, no_reserve(), &Watch::default()).unwrap();
    let root = staging.path().join("root");
    assert_eq!(fs::read(root.join("b.bat")).unwrap(), b"one\r\ntwo\r\n");
    let index = git2::Index::open(&root.join(".git/index")).unwrap();
    let found: Vec<_> = index.iter().map(|entry| (entry.id, entry.file_size)).collect();
    assert_eq!(found, [(attributes, 15), (committed, 8), (committed, 10)]);
    // It was found to be that of the commit.
    assert!(fs::read(root.join(".git/index")).unwrap().windows(4).any(|bytes| bytes == b"TREE"));
    verify(&Directory, staging.path(), &request).unwrap();
}

#[test]
fn only_a_group_that_writes_gets_a_shared_repository_and_every_view_is_verified() {
    let (staging, _fixture, request) = snapshot(&Image);
    let writes = Ownership::of_writers(1000, Some(2000));
    for ownership in [writes, Ownership::of_writers(1000, None), Ownership::of_readers(1000, Some(2000))] {
        let view = tempfile::tempdir().unwrap();
        Image::view(staging.path(), view.path(), &request, &ownership).unwrap();
        let watch = Watch::default();
        let verify = |ownership: &Ownership| {
            Image.verify(view.path(), &request, ownership, &mut Verifier::new(&watch, 0, Pace::new(None)))
        };
        verify(&ownership).unwrap();
        assert!(ownership == writes || matches!(verify(&writes), Err(VerifyError::Damaged(_))));
        let contains = |file: &str, text: &[u8]| {
            let content = fs::read(view.path().join(file)).unwrap();
            content.windows(text.len()).any(|part| part == text)
        };
        let devices = (0..).take_while(|device: &u32| view.path().join(device.to_string()).exists()).count();
        let written = (devices - 1).to_string();
        assert_eq!(contains(&written, b"sharedRepository = group"), ownership == writes, "{ownership:?}");
        assert_eq!(contains("image", b"COMMIT_EDITMSG"), ownership == writes, "{ownership:?}");
    }
}

/// 70,000 names in a directory whose path has almost 4,000 bytes.
#[test]
fn an_index_too_large_to_hold_is_refused_before_it_is_made() {
    let too_large = |result: Result<(), SnapshotError>| match result {
        Err(SnapshotError::TooLarge { what, .. }) => assert_eq!(what, "bytes of the index in .git"),
        other => panic!("{other:?}"),
    };
    let fixture = Fixture::new();
    let directory = vec![b'd'; 255];
    let names: Vec<_> = (0..70_000).map(|number| format!("{number:05}")).collect();
    let blob = fixture.blob("");
    let entries: Vec<_> = names.iter().map(|name| (FILE, name.as_bytes(), blob)).collect();
    let mut tree = fixture.tree(&entries);
    for _ in 0..15 {
        tree = fixture.tree(&[(TREE, &directory, tree)]);
    }
    let commit = fixture.commit(tree);
    let staging = tempfile::tempdir().unwrap();
    too_large(list(fixture.path(), &keeping(commit, &Image), staging.path(), &Watch::default()).map(drop));
    // What a worker leaves that does not refuse it.
    list(fixture.path(), &request(commit), staging.path(), &Watch::default()).unwrap();
    let manifest = fs::read(staging.path().join("manifest")).unwrap();
    too_large(Listed::read(&manifest[..], &keeping(commit, &Image)).map(drop));
}

#[test]
fn the_parent_accepts_a_pack_only_if_it_asked_and_only_as_one_plain_file() {
    let fixture = Fixture::new();
    let commit = fixture.varied();
    let (plain, keeping) = (request(commit), keeping(commit, &Directory));
    let listed = |request: &TreeRequest| {
        let staging = tempfile::tempdir().unwrap();
        list(fixture.path(), request, staging.path(), &Watch::default()).unwrap();
        staging
    };
    let refused = |staging: &Path, request: &TreeRequest| {
        let adopted = adopt(staging, request, Owner::ourselves());
        assert!(matches!(adopted, Err(SnapshotError::Untrusted { .. })), "{adopted:?}");
    };
    refused(listed(&keeping).path(), &plain);
    refused(listed(&plain).path(), &keeping);
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |pack| fs::remove_file(pack).unwrap(),
        |pack| fs::hard_link(pack, pack.with_extension("other")).unwrap(),
        |pack| {
            fs::remove_file(pack).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", pack).unwrap();
        },
    ];
    for change in changes {
        let staging = listed(&keeping);
        change(&staging.path().join(pack::FILE));
        refused(staging.path(), &keeping);
    }
}

#[test]
fn a_pack_that_is_made_again_after_a_compaction_is_the_same() {
    let fixture = Fixture::new();
    let request = keeping(fixture.varied(), &Image);
    let pack = || {
        let staging = tempfile::tempdir().unwrap();
        list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
        fs::read(staging.path().join(pack::FILE)).unwrap()
    };
    let before = pack();
    fixture.compact();
    assert!(pack() == before);
}

#[test]
fn a_damaged_blob_does_not_get_into_a_pack() {
    let fixture = Fixture::new();
    let request = keeping(fixture.varied(), &Image);
    fixture.damage("leaf\n");
    let staging = tempfile::tempdir().unwrap();
    let listed = list(fixture.path(), &request, staging.path(), &Watch::default());
    assert!(matches!(listed, Err(SnapshotError::Incomplete { .. })), "{listed:?}");
}

#[test]
fn lies_about_a_pack_are_refused() {
    let fixture = Fixture::new();
    let request = keeping(fixture.varied(), &Directory);
    let staging = tempfile::tempdir().unwrap();
    list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
    let manifest = fs::read(staging.path().join("manifest")).unwrap();
    let text = String::from_utf8_lossy(&manifest);
    let record = text.split_inclusive('\0').find(|record| record.starts_with("pack ")).unwrap().to_owned();
    let cut = format!("shallow {}\0", "1".repeat(40));
    let read = |replacement: &str| {
        let at = manifest.windows(record.len()).position(|part| part == record.as_bytes()).unwrap();
        let changed = [&manifest[..at], replacement.as_bytes(), &manifest[at + record.len()..]].concat();
        Listed::read(&changed[..], &request)
    };
    read(&record).unwrap();
    read(&format!("{record}{cut}")).unwrap();
    for replacement in [
        String::new(),
        format!("{record}{record}"),
        format!("{cut}{record}"),
        cut,
        record.replace("pack-", "../-"),
        record.replace("pack-", "pack_"),
        record.replacen(' ', "  ", 2),
        record.trim_end_matches('\0').to_owned() + " 1\0",
        "pack \0".to_owned(),
        format!("{record}shallow 1\0"),
    ] {
        let found = read(&replacement);
        assert!(matches!(found, Err(SnapshotError::Untrusted { .. })), "{replacement:?}");
    }
}

#[test]
fn a_pack_beyond_its_segment_is_refused() {
    let fixture = Fixture::new();
    let request = keeping(fixture.varied(), &Image);
    for length in [0, 512] {
        let staging = tempfile::tempdir().unwrap();
        list(fixture.path(), &request, staging.path(), &Watch::default()).unwrap();
        let pack = File::options().write(true).open(staging.path().join(pack::FILE)).unwrap();
        pack.set_len(length).unwrap();
        let listed = adopt(staging.path(), &request, Owner::ourselves()).unwrap();
        let made = Image.complete(&listed, staging.path(), fixture.path(), &request, no_reserve(), &Watch::default());
        assert!(matches!(made, Err(SnapshotError::Untrusted { .. })), "{made:?}");
    }
}

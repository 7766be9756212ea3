use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

use git2::Oid;
use git2::build::CheckoutBuilder;

use super::super::Owner;
use super::super::adopt;
use super::super::fixture::Contents;
use super::super::fixture::FILE;
use super::super::fixture::Fixture;
use super::super::fixture::SYMLINK;
use super::super::fixture::Staging;
use super::super::fixture::TREE;
use super::super::fixture::contents;
use super::super::fixture::list;
use super::super::fixture::no_reserve;
use super::super::fixture::path;
use super::super::fixture::request;
use super::super::seal;
use super::*;
use crate::error::Kind;
use crate::progress::Progress;
use crate::progress::Step;
use crate::spec::Symlinks;

/// The manifest without the time, segments, the places of blobs, and directories with nothing in them.
fn manifest_of(staging: &Staging) -> String {
    let manifest = fs::read(staging.path().join("manifest")).unwrap();
    let mut told = Vec::new();
    for record in manifest.split_inclusive(|&byte| byte == 0) {
        let Some(tab) = record.iter().position(|&byte| byte == b'\t') else { continue };
        let fields: Vec<_> = std::str::from_utf8(&record[..tab]).unwrap().split(' ').collect();
        if fields[1] != "tree" {
            told.extend_from_slice(fields[..4].join(" ").as_bytes());
            told.extend_from_slice(&record[tab..]);
        }
    }
    String::from_utf8_lossy(&told).replace('\0', "\\0\n")
}

/// git's own listing of the commit, in the form of our manifest: without the padding of sizes.
fn ls_tree(fixture: &Fixture, treeish: &str) -> String {
    let output = Command::new("git")
        .arg("--git-dir")
        .arg(fixture.path())
        .args(["ls-tree", "-r", "-l", "-z", treeish])
        .output()
        .unwrap();
    assert!(output.status.success());
    let mut told = Vec::new();
    for record in output.stdout.split_inclusive(|&byte| byte == 0) {
        let tab = record.iter().position(|&byte| byte == b'\t').unwrap();
        let fields: Vec<_> = std::str::from_utf8(&record[..tab]).unwrap().split_whitespace().collect();
        // git prints the historic mode as stored; the manifest has the mode that was written.
        told.extend_from_slice(fields.join(" ").replace("100664", "100644").as_bytes());
        told.extend_from_slice(&record[tab..]);
    }
    String::from_utf8_lossy(&told).replace('\0', "\\0\n")
}

#[test]
fn the_manifest_equals_the_output_of_git_ls_tree() {
    let fixture = Fixture::new();
    let commit = fixture.varied();
    let mut asked = request(commit);
    asked.tree.directory = path("some/where");
    let (staging, _) = fixture.write(&asked).unwrap();
    assert_eq!(manifest_of(&staging), ls_tree(&fixture, &commit.to_string()));
    asked.tree.subdirectory = path("a-dir");
    let (staging, _) = fixture.write(&asked).unwrap();
    assert_eq!(manifest_of(&staging), ls_tree(&fixture, &format!("{commit}:a-dir")));
}

#[test]
fn the_tree_is_that_of_a_checkout_without_filters() {
    let fixture = Fixture::new();
    let commit = fixture.varied();
    let reference = tempfile::tempdir().unwrap();
    // libgit2 requires a working tree if there is a submodule.
    fixture.repository.set_workdir(reference.path(), false).unwrap();
    let tree = fixture.repository.find_commit(Oid::from_bytes(commit.as_bytes()).unwrap()).unwrap().tree().unwrap();
    let mut checkout = CheckoutBuilder::new();
    checkout.force().disable_filters(true).update_index(false);
    fixture.repository.checkout_tree(tree.as_object(), Some(&mut checkout)).unwrap();
    // git knows only one bit of a mode, and no empty directories.
    let comparable = |contents: Contents| -> Vec<_> {
        let known = |mode: u32| (mode & 0o170000, mode & 0o100);
        contents
            .into_iter()
            .filter(|(_, (mode, ..))| mode & 0o170000 != 0o040000)
            .map(|(path, (mode, _, data))| (path, known(mode), data))
            .collect()
    };
    let (staging, _) = fixture.write(&request(commit)).unwrap();
    assert_eq!(comparable(contents(&staging.root())), comparable(contents(reference.path())));
}

#[test]
fn a_tree_has_the_counts_of_its_list() {
    let fixture = Fixture::new();
    for (directory, subdirectory) in [(".", "."), ("a", "."), ("a/b/c", "deep/deep"), (".", "empty")] {
        let mut asked = request(fixture.varied());
        (asked.tree.directory, asked.tree.subdirectory) = (path(directory), path(subdirectory));
        let (staging, summary) = fixture.write(&asked).unwrap();
        let entries = u64::try_from(contents(&staging.root()).len()).unwrap();
        assert_eq!(entries, summary.entries());
        assert!(Directory.attachment(staging.path()).path().join(directory).is_dir());
    }
}

#[test]
fn the_set_gid_bit_of_staging_does_not_appear_in_the_tree() {
    let fixture = Fixture::new();
    let asked = request(fixture.varied());
    let staging = tempfile::tempdir().unwrap();
    fs::set_permissions(staging.path(), Permissions::from_mode(0o2755)).unwrap();
    fixture.write_into(staging.path(), &asked, &Watch::default()).unwrap();
    assert!(contents(&staging.path().join("root")).values().all(|(mode, ..)| mode & 0o7000 == 0));
}

#[test]
fn progress_ends_with_all_entries_and_bytes() {
    struct Last(Mutex<Option<Step>>);
    impl Progress for Last {
        fn report(&self, step: &Step) {
            *self.0.lock().unwrap() = Some(step.clone());
        }
    }
    let fixture = Fixture::new();
    let last = Arc::new(Last(Mutex::default()));
    let watch = Watch { progress: last.clone(), ..Watch::default() };
    let (_, summary) = fixture.write_watched(&request(fixture.varied()), &watch).unwrap();
    let entries = summary.files + summary.symlinks;
    let expected = Step::Writing { entries, total_entries: entries, bytes: summary.bytes };
    assert_eq!(last.0.lock().unwrap().clone(), Some(expected));
}

#[test]
fn too_many_bytes_are_refused_before_anything_is_inflated_or_written() {
    let fixture = Fixture::new();
    let zeros = fixture.blob(vec![0; 64 << 20]);
    let mut asked = request(fixture.commit_of(&[(TREE, b"d", fixture.tree(&[(FILE, b"zeros", zeros)]))]));
    asked.limits.tree_bytes = (64 << 20) - 1;
    let staging = tempfile::tempdir().unwrap();
    let error = fixture.write_into(staging.path(), &asked, &Watch::default()).unwrap_err();
    assert!(matches!(&error, SnapshotError::TooLarge { what, .. } if what == "bytes"), "{error}");
    assert!(contents(staging.path()).is_empty());
    asked.limits.tree_bytes += 1;
    assert_eq!(fixture.write(&asked).unwrap().1.bytes, 64 << 20);
}

#[test]
fn a_blob_counts_once_for_each_of_its_names() {
    let fixture = Fixture::new();
    let blob = fixture.blob([b'x'; 100]);
    let mut asked = request(fixture.commit_of(&[(FILE, b"1", blob), (FILE, b"2", blob), (FILE, b"3", blob)]));
    asked.limits.tree_bytes = 299;
    assert!(matches!(fixture.write(&asked), Err(SnapshotError::TooLarge { .. })));
}

#[test]
fn links_are_data_unless_they_must_stay_in_the_volume() {
    let fixture = Fixture::new();
    let commit_with = |target: &str| {
        let tree = fixture.tree(&[(SYMLINK, b"link", fixture.blob(target))]);
        fixture.commit_of(&[(TREE, b"dir", tree)])
    };
    for (target, directory, stays) in [
        ("file", ".", true),
        ("..", ".", true),
        ("../..", ".", false),
        ("../..", "a", true),
        ("../../../..", "a/b", false),
        ("/etc/shadow", ".", false),
    ] {
        let mut asked = request(commit_with(target));
        asked.tree.directory = path(directory);
        let (staging, _) = fixture.write(&asked).unwrap();
        assert_eq!(staging.root().join(directory).join("dir/link").read_link().unwrap(), Path::new(target));
        asked.tree.symlinks = Symlinks::RejectEscaping;
        let written = fixture.write(&asked);
        assert_eq!(written.is_ok(), stays, "{target}");
        if let Err(error) = written {
            assert!(matches!(&error, SnapshotError::EscapingSymlink { link, .. } if link == target), "{error}");
        }
        // The parent checks it itself.
        assert_eq!(staging.lay_out_again(&fixture, &asked, &Watch::default()).is_ok(), stays, "{target}");
    }
}

#[test]
fn links_that_no_filesystem_accepts_are_refused() {
    let fixture = Fixture::new();
    for target in [vec![], vec![b'x'; 4096], b"a\0b".to_vec()] {
        let asked = request(fixture.commit_of(&[(SYMLINK, b"link", fixture.blob(target))]));
        assert!(matches!(fixture.write(&asked), Err(SnapshotError::UnsafeName { .. })));
    }
    let longest = [b"x/".repeat(2047), b"x".to_vec()].concat();
    let (staging, _) =
        fixture.write(&request(fixture.commit_of(&[(SYMLINK, b"link", fixture.blob(&longest))]))).unwrap();
    assert_eq!(staging.root().join("link").read_link().unwrap().as_os_str().as_encoded_bytes(), longest);
}

#[test]
fn a_missing_object_is_damage_here_and_a_wrong_one_is_the_fault_of_the_repository() {
    let fixture = Fixture::new();
    let missing = Oid::from_bytes(&[7; 20]).unwrap();
    for (id, kind) in [(missing, Kind::Corrupt), (fixture.tree(&[]), Kind::BadData)] {
        let error = fixture.write(&request(fixture.commit_of(&[(FILE, b"x", id)]))).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn a_damaged_blob_is_noticed() {
    let fixture = Fixture::new();
    let one = fixture.blob("content");
    let segments = fs::read_dir(fixture.path().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let content = segments.into_iter().find(|path| path.extension().is_some_and(|end| end == "content")).unwrap();
    let mut damaged = fs::read(&content).unwrap();
    damaged[0] ^= 1;
    fs::write(content, damaged).unwrap();
    let error = fixture.write(&request(fixture.commit_of(&[(FILE, b"x", one)]))).err().unwrap();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
}

#[test]
fn paths_as_long_as_linux_takes_are_written() {
    let fixture = Fixture::new();
    let (directory, file) = ([b'd'; 254], [b'f'; 254]);
    let leaf = fixture.tree(&[(FILE, &file, fixture.blob("x"))]);
    let asked = request(fixture.commit((0..15).fold(leaf, |tree, _| fixture.tree(&[(TREE, &directory, tree)]))));
    let (staging, summary) = fixture.write(&asked).unwrap();
    assert_eq!((summary.files, summary.directories), (1, 15));
    // No path leads there: the seal's does, step by step. It has two records more.
    let mut seal = Vec::new();
    seal::write(&staging.root(), &mut seal).unwrap();
    assert_eq!(seal.iter().filter(|byte| **byte == 0).count(), 2 + 16);
}

#[test]
fn existing_entries_of_staging_are_neither_overwritten_nor_followed() {
    let fixture = Fixture::new();
    let asked = request(fixture.varied());
    let (elsewhere, staging) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    list(fixture.path(), &asked, staging.path(), &Watch::default()).unwrap();
    let listed = adopt(staging.path(), &asked, Owner::ourselves()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), staging.path().join("root")).unwrap();
    assert!(adopt(staging.path(), &asked, Owner::ourselves()).is_err());
    let error = Directory
        .complete(&listed, staging.path(), fixture.path(), &asked, no_reserve(), &Watch::default())
        .unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
    assert!(contents(elsewhere.path()).is_empty());
}

#[test]
fn a_cancelled_write_ends() {
    let fixture = Fixture::new();
    let asked = request(fixture.varied());
    let watch = Watch::default();
    let late = Watch { cancel: watch.cancel.within(std::time::Duration::ZERO), ..watch };
    assert_eq!(fixture.write_watched(&asked, &late).err().unwrap().kind(), Kind::Timeout);
    let (staging, _) = fixture.write(&asked).unwrap();
    let error = staging.lay_out_again(&fixture, &asked, &late).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
}

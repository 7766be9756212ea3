use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;

use super::super::fixture::FILE;
use super::super::fixture::Fixture;
use super::super::fixture::Staging;
use super::super::fixture::TREE;
use super::super::fixture::contents;
use super::super::fixture::path;
use super::super::fixture::request;
use super::*;
use crate::error::Kind;
use crate::policy::Limits;

/// Adopts a worker's small tree after `tamper`, which gets the staging directory, has changed it.
fn adopted(tamper: impl FnOnce(&Path)) -> Result<TreeSummary, SnapshotError> {
    let (asked, staging) = written();
    tamper(staging.path());
    staging.adopt(&asked)
}

fn written() -> (TreeRequest, Staging) {
    let fixture = Fixture::new();
    let tree = fixture.tree(&[(FILE, b"inner", fixture.blob("inner"))]);
    let mut asked = request(fixture.commit_of(&[(TREE, b"dir", tree), (FILE, b"file", fixture.blob("file"))]));
    asked.tree.directory = path("top");
    let (staging, _) = fixture.write(&asked).unwrap();
    (asked, staging)
}

fn remove(directory: &Path) {
    let trash = tempfile::tempdir().unwrap();
    fs::rename(directory, trash.path().join("removed")).unwrap();
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn assert_refused(name: &str, tamper: impl FnOnce(&Path)) {
    let error = adopted(tamper).unwrap_err();
    assert!(matches!(&error, SnapshotError::Untrusted { path, .. } if path == name), "{error}");
    assert_eq!(error.kind(), Kind::Internal);
}

#[test]
fn a_tree_of_an_honest_worker_is_adopted() {
    let expected = TreeSummary { files: 2, symlinks: 0, directories: 2, bytes: 9 };
    assert_eq!(adopted(|_| ()).unwrap(), expected);
}

#[test]
fn types_that_no_tree_has_are_refused() {
    let mkfifo = |path: &Path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
    assert_refused("root/top/fifo", |staging| mkfifo(&staging.join("root/top/fifo")));
    assert_refused("root/top/socket", |staging| {
        drop(std::os::unix::net::UnixListener::bind(staging.join("root/top/socket")).unwrap());
    });
    assert_refused("manifest", |staging| {
        fs::remove_file(staging.join("manifest")).unwrap();
        mkfifo(&staging.join("manifest"));
    });
}

#[test]
fn modes_that_no_tree_has_are_refused() {
    for mode in [0o4755, 0o2755, 0o1644, 0o666, 0o600, 0o444, 0o000] {
        assert_refused("root/top/file", |staging| set_mode(staging.join("root/top/file"), mode));
    }
    for mode in [0o1777, 0o2755, 0o777, 0o700] {
        assert_refused("root/top/dir", |staging| set_mode(staging.join("root/top/dir"), mode));
    }
    assert_refused("root", |staging| set_mode(staging.join("root"), 0o777));
    assert_refused("manifest", |staging| set_mode(staging.join("manifest"), 0o4644));
}

#[test]
fn a_file_with_a_second_hard_link_is_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    assert_refused("root/top/file", |staging| {
        fs::hard_link(staging.join("root/top/file"), elsewhere.path().join("kept")).unwrap();
    });
    assert_refused("manifest", |staging| {
        fs::hard_link(staging.join("manifest"), elsewhere.path().join("kept too")).unwrap();
    });
}

#[test]
fn a_link_in_place_of_a_directory_leads_nowhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("theirs"), "").unwrap();
    let before = contents(elsewhere.path());
    assert_refused("root", |staging| {
        remove(&staging.join("root"));
        symlink(elsewhere.path(), staging.join("root")).unwrap();
    });
    assert_refused("root/top", |staging| {
        remove(&staging.join("root/top"));
        symlink(elsewhere.path(), staging.join("root/top")).unwrap();
    });
    assert_refused("manifest", |staging| {
        fs::remove_file(staging.join("manifest")).unwrap();
        symlink("root/top/file", staging.join("manifest")).unwrap();
    });
    assert_eq!(contents(elsewhere.path()), before);
}

#[test]
fn anything_beside_the_tree_and_the_manifest_is_refused() {
    assert_refused("extra", |staging| fs::write(staging.join("extra"), "").unwrap());
    assert_refused("extra", |staging| {
        fs::create_dir(staging.join("extra")).unwrap();
        set_mode(staging.join("extra"), 0o755);
    });
    assert_refused("manifest", |staging| fs::remove_file(staging.join("manifest")).unwrap());
    assert_refused("root/top", |staging| remove(&staging.join("root")));
    assert_refused("root/top", |staging| fs::rename(staging.join("root/top"), staging.join("root/else")).unwrap());
}

#[test]
fn names_are_checked_again() {
    assert_refused("root/top/dir/.GIT", |staging| {
        fs::create_dir(staging.join("root/top/dir/.GIT")).unwrap();
        set_mode(staging.join("root/top/dir/.GIT"), 0o755);
    });
}

#[test]
fn a_manifest_of_another_tree_is_refused() {
    let add = |path: &Path, text: &str| {
        set_mode(path, 0o644);
        let told = fs::read_to_string(path).unwrap();
        fs::write(path, told + text).unwrap();
    };
    let record = "100644 blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391 0\tz\0";
    assert_refused("manifest", |staging| add(&staging.join("manifest"), record));
    assert_refused("manifest", |staging| add(&staging.join("manifest"), "garbage"));
    assert_refused("manifest", |staging| fs::write(staging.join("manifest"), "").unwrap());
    assert_refused("manifest", |staging| {
        fs::File::options().write(true).open(staging.join("manifest")).unwrap().set_len(1 << 40).unwrap();
    });
    assert_refused("manifest", |staging| {
        fs::write(staging.join("root/top/unknown"), "").unwrap();
        set_mode(staging.join("root/top/unknown"), 0o644);
    });
}

#[test]
fn limits_are_checked_against_the_actual_content() {
    let (mut asked, staging) = written();
    type Set = fn(&mut Limits, u32);
    let settings: [(Set, u32); 4] = [
        (|limits, entries| limits.entries = entries.into(), 4),
        (|limits, depth| limits.path_depth = depth, 2),
        (|limits, length| limits.path_length = length, 13),
        (|limits, bytes| limits.tree_bytes = bytes.into(), 9),
    ];
    for (set, enough) in settings {
        set(&mut asked.limits, enough - 1);
        assert_eq!(staging.adopt(&asked).unwrap_err().kind(), Kind::ResourceExhausted);
        set(&mut asked.limits, enough);
    }
    assert!(staging.adopt(&asked).is_ok());
    // A sparse file uses no blocks, but a reader would pay for its length.
    fs::File::options().write(true).open(staging.root().join("top/file")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(staging.adopt(&asked).unwrap_err().kind(), Kind::ResourceExhausted);
}

#[test]
fn everything_is_given_to_the_owner_and_no_link_is_followed() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("GITREPO_REQUIRE_ALL").is_none_or(|value| value != "1"), "needs root");
        eprintln!("skipped: giving files away needs root");
        return;
    }
    let fixture = Fixture::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let theirs = elsewhere.path().join("theirs");
    fs::write(&theirs, "").unwrap();
    let target = fixture.blob(theirs.as_os_str().as_encoded_bytes());
    let asked = request(fixture.commit_of(&[
        (TREE, b"dir", fixture.tree(&[(FILE, b"x", fixture.blob("x"))])),
        (super::super::fixture::SYMLINK, b"link", target),
    ]));
    let (staging, _) = fixture.write(&asked).unwrap();
    chown(staging.root().join("dir/x"), Some(65_521), Some(65_521)).unwrap();
    adopt(staging.path(), &asked, Owner { uid: 7, gid: 8 }).unwrap();
    for name in ["root", "manifest", "root/dir", "root/dir/x", "root/link"] {
        let metadata = staging.path().join(name).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (7, 8), "{name}");
    }
    assert_eq!(theirs.metadata().unwrap().uid(), 0);
}

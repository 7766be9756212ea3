//! Compared with what git reads.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;

use super::*;

const NOTHING: Stat = Stat { changed: (0, 0), modified: (0, 0), inode: 0, uid: 0, gid: 0, size: 0 };

/// An index of empty files with these paths, without what lstat(2) says.
fn index(paths: &[&str]) -> Vec<u8> {
    let empty = Oid::from_str("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(paths.len()).unwrap().to_be_bytes());
    paths.iter().for_each(|path| push_entry(&mut bytes, 0o100644, empty, &[path.as_bytes()]));
    bytes.extend([0; CHECKSUM]);
    sign(&mut bytes);
    bytes
}

/// What git prints in a directory. With the clock of the test, nothing is written.
fn git(place: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(place).args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap());
    let output = git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn git_reads_numbers_of_every_size_and_paths_of_every_length() {
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["init", "--quiet"]);
    let paths = [1, 2, 9, 10, LONGEST - 1, LONGEST, LONGEST + 1, 4095];
    let paths: Vec<_> = ('a'..).zip(paths).map(|(letter, length)| letter.to_string().repeat(length)).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let stats = [
        (
            Stat { changed: (-1, 1), modified: (-(1 << 31), 2), ..NOTHING },
            ["4294967295:1", "2147483648:2"],
            [0, 0, 0, 0],
        ),
        (Stat { modified: (1 << 32, 999_999_999), ..NOTHING }, ["0:0", "0:999999999"], [0, 0, 0, 0]),
        (Stat { modified: ((1 << 33) + 7, 0), ..NOTHING }, ["0:0", "7:0"], [0, 0, 0, 0]),
        (Stat { inode: (7 << 32) + 9, ..NOTHING }, ["0:0", "0:0"], [9, 0, 0, 0]),
        (Stat { uid: 65_536, gid: u32::MAX - 1, ..NOTHING }, ["0:0", "0:0"], [0, 65_536, 4_294_967_294, 0]),
        (Stat { size: u64::from(u32::MAX), ..NOTHING }, ["0:0", "0:0"], [0, 0, 0, 4_294_967_295]),
        (Stat { size: 4 << 32, ..NOTHING }, ["0:0", "0:0"], [0, 0, 0, 2_147_483_648]),
        (Stat { size: (1 << 32) + 3, ..NOTHING }, ["0:0", "0:0"], [0, 0, 0, 3_u64]),
    ];
    let mut bytes = index(&paths);
    fill(&mut bytes, |number, path| {
        assert_eq!(path, paths[number].as_bytes());
        Some(stats[number].0)
    })
    .unwrap();
    fs::write(place.path().join(".git/index"), bytes).unwrap();
    let mut expected = String::new();
    for (path, (_, [changed, modified], [inode, uid, gid, size])) in paths.iter().zip(stats) {
        expected += &format!(
            "{path}\n  ctime: {changed}\n  mtime: {modified}\n  dev: 0\tino: {inode}\n  uid: {uid}\tgid: {gid}\n  \
             size: {size}\tflags: 0\n"
        );
    }
    assert_eq!(git(place.path(), &["ls-files", "--debug"]), expected);
}

/// A file that git had to read would differ: each has other content than the index says.
#[test]
fn files_of_odd_times_and_sizes_are_clean_without_being_read() {
    let place = tempfile::tempdir().unwrap();
    git(place.path(), &["init", "--quiet"]);
    let epoch = SystemTime::UNIX_EPOCH;
    let files = [
        ("after", epoch + Duration::from_secs(5_000_000_000), 1),
        ("before", epoch - Duration::from_secs(1_000), 1),
        ("large", epoch + Duration::from_secs(1), (4 << 30) + 3),
        ("zero", epoch, 1),
    ];
    for (name, time, size) in files {
        let file = File::create(place.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(time).unwrap();
    }
    let path = place.path().join(super::super::INDEX);
    fs::write(&path, index(&files.map(|(name, ..)| name))).unwrap();
    // What is not older than the index is read. git compares the last 32 bits, and those of a time before 1970 are many.
    let later = epoch + Duration::from_secs((1 << 33) - 1);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert_eq!(git(place.path(), &["diff-files", "--name-only"]), "after\nbefore\nlarge\nzero\n");
    refresh(place.path()).unwrap();
    assert_eq!(git(place.path(), &["diff-files", "--name-only"]), "");
}

#[test]
fn what_is_no_index_is_neither_filled_in_nor_like_one() {
    let good = index(&["a", "b"]);
    assert!(is_like(&good, &good));
    for bad in [&b""[..], b"DIRC", &good[..CHECKSUM], &good[..good.len() - 8], &[0; 200], &[&good[..], b"x"].concat()] {
        assert_eq!(fill(&mut bad.to_vec(), |_, _| None), None, "{bad:?}");
        assert!(!is_like(bad, &good), "{bad:?}");
    }
}

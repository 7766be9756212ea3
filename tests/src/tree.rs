//! Checks that a directory is exactly a commit's tree.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::repository::Repository;

/// One entry of a tree, actual or expected.
#[derive(PartialEq, Eq)]
enum Entry {
    Directory,
    Symlink { target: Vec<u8> },
    File { permissions: u32, content: Vec<u8> },
    Other { mode: u32 },
}

/// A commit's tree, to be compared with many directories.
pub struct Tree {
    name: String,
    entries: BTreeMap<Vec<u8>, Entry>,
}

impl Tree {
    /// What `commit` contains below `subdirectory` (`.` for all).
    pub fn of(repository: &Repository, commit: &str, subdirectory: &str) -> Self {
        Self { name: format!("{commit}:{subdirectory}"), entries: expected(repository, commit, subdirectory) }
    }

    /// The same as [`assert_same_tree`].
    pub fn assert_is(&self, directory: &Path) {
        self.assert_is_with(directory, 0);
    }

    /// `special` are the bits that directories have besides 0755.
    fn assert_is_with(&self, directory: &Path, special: u32) {
        let expected = &self.entries;
        let mut found = BTreeMap::new();
        walk(directory, &mut Vec::new(), &mut found);
        for entry in found.values_mut() {
            if matches!(entry, Entry::Other { mode } if *mode == libc::S_IFDIR | special | 0o755) {
                *entry = Entry::Directory;
            } else if special != 0 && *entry == Entry::Directory {
                *entry = Entry::Other { mode: libc::S_IFDIR | 0o755 };
            }
        }
        let paths: BTreeSet<&Vec<u8>> = expected.keys().chain(found.keys()).collect();
        let differences: Vec<String> = paths
            .into_iter()
            .filter_map(|path| match (expected.get(path), found.get(path)) {
                (Some(expected), Some(found)) if expected == found => None,
                (Some(expected), Some(found)) => Some((path, format!("is {found}, should be {expected}"))),
                (Some(expected), None) => Some((path, format!("is missing, should be {expected}"))),
                (None, Some(found)) => Some((path, format!("should not be there, is {found}"))),
                (None, None) => unreachable!("paths are those of either side"),
            })
            .map(|(path, difference)| format!("{} {difference}", path.escape_ascii()))
            .collect();
        assert!(
            differences.is_empty(),
            "{} is not the tree of {}; {} differences:\n  {}",
            directory.display(),
            self.name,
            differences.len(),
            differences[..differences.len().min(20)].join("\n  ")
        );
    }
}

/// Fails unless `directory` contains exactly what `commit` contains below `subdirectory` (`.` for all).
///
/// Compares names, file content, link targets and permissions (0644, 0755; directories 0755). A submodule is an empty
/// directory, as git shows before `submodule update`.
pub fn assert_same_tree(repository: &Repository, commit: &str, subdirectory: &str, directory: &Path) {
    Tree::of(repository, commit, subdirectory).assert_is(directory);
}

/// The same of the tree of a group: directories have mode 2755, and everything below `directory` belongs to this user and
/// this group, `directory` included.
pub fn assert_same_tree_of_group(repository: &Repository, commit: &str, directory: &Path, (uid, gid): (u32, u32)) {
    Tree::of(repository, commit, ".").assert_is_with(directory, libc::S_ISGID);
    let mut found = BTreeMap::from([(Vec::new(), read(directory))]);
    walk(directory, &mut Vec::new(), &mut found);
    for path in found.keys() {
        let metadata = directory.join(OsStr::from_bytes(path)).symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "owner of {:?}", path.escape_ascii().to_string());
    }
    let mode = directory.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o755 | libc::S_ISGID, "mode of {}", directory.display());
}

/// Fails unless everything below `directory` was last modified at `seconds` since the epoch.
pub fn assert_times(directory: &Path, seconds: u64) {
    let mut found = BTreeMap::new();
    walk(directory, &mut Vec::new(), &mut found);
    for path in found.keys() {
        let metadata = directory.join(OsStr::from_bytes(path)).symlink_metadata().unwrap();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        assert_eq!(time, (i64::try_from(seconds).unwrap(), 0), "modification time of {}", path.escape_ascii());
    }
}

/// Fails unless `directory` and everything below it belongs to `uid`.
pub fn assert_owner(directory: &Path, uid: u32) {
    let mut found = BTreeMap::from([(Vec::new(), read(directory))]);
    walk(directory, &mut Vec::new(), &mut found);
    for path in found.keys() {
        let metadata = directory.join(OsStr::from_bytes(path)).symlink_metadata().unwrap();
        assert_eq!(metadata.uid(), uid, "owner of {:?}", path.escape_ascii().to_string());
    }
}

fn expected(repository: &Repository, commit: &str, subdirectory: &str) -> BTreeMap<Vec<u8>, Entry> {
    let listing = repository.list(commit, subdirectory);
    let is_blob = |mode: &str| mode != "160000";
    let blobs = repository.blobs(listing.iter().filter(|listed| is_blob(&listed.mode)).map(|listed| &*listed.id));
    let directories = repository.directories(commit, subdirectory);
    let mut entries: BTreeMap<_, _> = directories.into_iter().map(|path| (path, Entry::Directory)).collect();
    for listed in listing {
        let content = || blobs[&listed.id].clone();
        let entry = match listed.mode.as_str() {
            "160000" => Entry::Directory,
            "120000" => Entry::Symlink { target: content() },
            "100755" => Entry::File { permissions: 0o755, content: content() },
            _ => Entry::File { permissions: 0o644, content: content() },
        };
        entries.insert(listed.path, entry);
    }
    entries
}

fn walk(directory: &Path, prefix: &mut Vec<u8>, found: &mut BTreeMap<Vec<u8>, Entry>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let length = prefix.len();
        prefix.extend_from_slice(entry.file_name().as_bytes());
        found.insert(prefix.clone(), read(&entry.path()));
        if entry.file_type().unwrap().is_dir() {
            prefix.push(b'/');
            walk(&entry.path(), prefix, found);
        }
        prefix.truncate(length);
    }
}

fn read(path: &Path) -> Entry {
    let metadata = path.symlink_metadata().unwrap();
    let permissions = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        Entry::Symlink { target: std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec() }
    } else if metadata.is_file() {
        Entry::File { permissions, content: std::fs::read(path).unwrap() }
    } else if metadata.is_dir() && permissions == 0o755 {
        Entry::Directory
    } else {
        Entry::Other { mode: metadata.mode() }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("a directory 0755"),
            Self::Symlink { target } => write!(f, "a link to {:?}", target.escape_ascii().to_string()),
            Self::File { permissions, content } => {
                let start = content[..content.len().min(40)].escape_ascii();
                write!(f, "a file {permissions:04o} of {} bytes \"{start}…\"", content.len())
            }
            Self::Other { mode } => write!(f, "something of mode {mode:o}"),
        }
    }
}

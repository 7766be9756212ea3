//! What tells a finished file from any other, without reading it.
//!
//! A segment has a name in its repository and one in each snapshot that uses it. A new name sets its change time
//! (`ctime`), and so does one that goes, so that time says nothing here. Writing to a file sets its modification time.
//! Only somebody who may write to the store can set that back.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

/// A file as it was when it was finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    inode: u64,
    /// When the inode was made, in seconds and nanoseconds. Numbers of inodes are used again. Not every filesystem
    /// tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<(u64, u32)>,
    /// In bytes.
    length: u64,
    /// When the content was written, in seconds and nanoseconds.
    modified: (i64, i64),
}

impl Identity {
    /// Examines the file itself, never a link's target.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = path.symlink_metadata()?;
        let created = found.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(Self {
            inode: found.ino(),
            created: created.map(|time| (time.as_secs(), time.subsec_nanos())),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// Says how the file at this path differs from this one, if it does.
    pub(crate) fn difference(&self, path: &Path) -> io::Result<Option<&'static str>> {
        let found = match Self::of(path) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Ok(Some("is gone"));
            }
            found => found?,
        };
        let was_made_anew = matches!((self.created, found.created), (Some(then), Some(now)) if then != now);
        Ok(if found.length != self.length {
            Some("has another length")
        } else if found.inode != self.inode || was_made_anew {
            Some("is another file")
        } else if found.modified != self.modified {
            Some("was written to")
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A directory with two finished files of the same length, and the time of writing of the first one.
    fn files() -> (tempfile::TempDir, [PathBuf; 2], SystemTime) {
        let place = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| place.path().join(name));
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
        for path in &paths {
            fs::write(path, path.as_os_str().as_encoded_bytes()).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        (place, paths, time)
    }

    #[test]
    fn a_file_stays_itself_whatever_names_mode_and_readers_it_has() {
        let (place, [one, _], _) = files();
        let identity = Identity::of(&one).unwrap();
        let written = serde_json::to_string(&identity).unwrap();
        let identity: Identity = serde_json::from_str(&written).unwrap();
        fs::hard_link(&one, place.path().join("name")).unwrap();
        fs::set_permissions(&one, fs::Permissions::from_mode(0o400)).unwrap();
        fs::read(&one).unwrap();
        assert_eq!(identity.difference(&one).unwrap(), None);
        assert_eq!(identity.difference(&place.path().join("name")).unwrap(), None);
        fs::remove_file(place.path().join("name")).unwrap();
        assert_eq!(identity.difference(&one).unwrap(), None);
    }

    #[test]
    fn each_way_to_become_another_file_is_named() {
        type Change = fn(&Path, &Path, SystemTime);
        let changes: [(&str, Change); 6] = [
            ("is gone", |one, _, _| fs::remove_file(one).unwrap()),
            ("has another length", |one, _, _| File::options().write(true).open(one).unwrap().set_len(1).unwrap()),
            ("is another file", |one, two, _| fs::rename(two, one).unwrap()),
            ("is another file", |one, two, _| {
                fs::remove_file(one).unwrap();
                std::os::unix::fs::symlink("x".repeat(two.as_os_str().len()), one).unwrap();
            }),
            ("was written to", |one, _, _| {
                File::options().write(true).open(one).unwrap().write_all_at(b"x", 0).unwrap();
            }),
            ("is another file", |one, two, time| {
                // It may get the number of the inode that goes.
                let content = fs::read(two).unwrap();
                fs::remove_file(one).unwrap();
                fs::write(one, content).unwrap();
                File::options().write(true).open(one).unwrap().set_modified(time).unwrap();
            }),
        ];
        for (number, (difference, change)) in changes.into_iter().enumerate() {
            let (_place, [one, two], time) = files();
            let identity = Identity::of(&one).unwrap();
            change(&one, &two, time);
            assert_eq!(identity.difference(&one).unwrap(), Some(difference), "{number}");
        }
    }
}

//! The size of files with several names.
//!
//! A segment has a name in its repository, and one in each snapshot that uses it. It takes its space once, and frees it
//! with its last name.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::mount::Attachment;
use crate::snapshot;

use super::snapshot_meta::SnapshotMeta;

/// The number of an inode, and its filesystem's.
type Inode = (u64, u64);

fn inode(file: &Metadata) -> Inode {
    (file.dev(), file.ino())
}

/// Returns the files that a directory names, without those in directories below it. What cannot be examined is left
/// out.
pub(super) fn files_in(directory: &Path) -> impl Iterator<Item = Metadata> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(Metadata::is_file)
}

/// Returns the files of a snapshot in the image format; `None` for another format.
pub(super) fn image_files(snapshot: &Path, meta: &SnapshotMeta) -> Option<impl Iterator<Item = Metadata> + use<>> {
    let Attachment::Image { metadata, devices } = snapshot::format(&meta.format)?.attachment(snapshot) else {
        return None;
    };
    Some(devices.into_iter().chain([metadata]).filter_map(|path| path.symlink_metadata().ok()))
}

/// Adds up what files take, each once.
#[derive(Default)]
pub(super) struct Taken(HashSet<Inode>);

impl Taken {
    /// Returns the bytes of those files that were not counted yet.
    pub(super) fn count(&mut self, files: impl Iterator<Item = Metadata>) -> u64 {
        files.filter(|file| file.nlink() == 1 || self.0.insert(inode(file))).map(|file| file.len()).sum()
    }
}

/// Adds up what the deletion of files frees.
#[derive(Default)]
pub(super) struct Deleted(HashMap<Inode, u64>);

impl Deleted {
    /// Takes one name from each file. Returns the bytes of those that lose their last one.
    pub(super) fn count(&mut self, files: impl Iterator<Item = Metadata>) -> u64 {
        let mut is_last = |file: &Metadata| {
            let names = self.0.entry(inode(file)).or_insert_with(|| file.nlink());
            *names = names.saturating_sub(1);
            *names == 0
        };
        files.filter(|file| file.nlink() == 1 || is_last(file)).map(|file| file.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_its_space_once_and_frees_it_with_its_last_name() {
        let place = tempfile::tempdir().unwrap();
        let [one, two, three] = ["one", "two", "three"].map(|name| place.path().join(name));
        for directory in [&one, &two, &three] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(one.join("own"), [0; 5]).unwrap();
        fs::write(one.join("segment"), [0; 100]).unwrap();
        for directory in [&two, &three] {
            fs::hard_link(one.join("segment"), directory.join("0")).unwrap();
        }
        fs::create_dir(two.join("directory")).unwrap();

        let mut taken = Taken::default();
        assert_eq!([&one, &two, &three].map(|directory| taken.count(files_in(directory))), [105, 0, 0]);
        let mut deleted = Deleted::default();
        assert_eq!([&two, &one, &three].map(|directory| deleted.count(files_in(directory))), [0, 5, 100]);
        // In fact, each deletion changes the number of names.
        assert_eq!(Deleted::default().count(files_in(&two)), 0);
        fs::remove_file(two.join("0")).unwrap();
        fs::remove_file(three.join("0")).unwrap();
        assert_eq!(Deleted::default().count(files_in(&one)), 105);
        assert_eq!(Deleted::default().count(files_in(&place.path().join("gone"))), 0);
    }
}

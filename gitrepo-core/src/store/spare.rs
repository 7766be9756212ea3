//! Space set aside for records: also on a full disk where nothing is unused, a cached volume can be published, and every
//! volume can be unpublished.
//!
//! A record needs a few blocks and inodes. Each of the spare files has one of both.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::sys::statvfs::statvfs;

use super::Store;
use super::durable;
use super::error::StoreError;
use super::layout::Layout;

/// How many files are set aside.
const FILES: usize = 64;

/// The size of each: a block of most filesystems.
const BYTES: usize = 4096;

/// How many of them one record may need: for its directories, itself and locks.
const FOR_A_RECORD: usize = 8;

/// A disk needs so many times the spare files free before any are set aside.
const ROOM: u64 = 64;

impl Store {
    /// Sets the missing part of the spare space aside, if there is plenty of room for it.
    pub(super) fn set_spare_aside(&self) -> Result<(), StoreError> {
        let directory = self.layout.spare();
        let present = durable::entries(&directory)?.len();
        if present >= FILES || !self.has_plenty()? {
            return Ok(());
        }
        for name in 0..FILES {
            let path = directory.join(name.to_string());
            match fs::File::create_new(&path).and_then(|mut file| io::Write::write_all(&mut file, &[0; BYTES])) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("write", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Frees enough of the spare space for a record. Returns whether there was any.
    pub(crate) fn release_spare(&self) -> bool {
        let spare = durable::entries(&self.layout.spare()).unwrap_or_default();
        let released = spare.iter().filter(|path| fs::remove_file(path).is_ok()).take(FOR_A_RECORD).count();
        if released > 0 {
            tracing::warn!(store = %self.root().display(), "the disk is full: space that was set aside is used");
        }
        released > 0
    }

    fn has_plenty(&self) -> Result<bool, StoreError> {
        let space = statvfs(self.root()).map_err(StoreError::io("query the free space of", self.root()))?;
        let bytes = space.blocks_available().saturating_mul(space.fragment_size());
        let (files, size) = (FILES as u64, BYTES as u64);
        // A filesystem without a limit on inodes reports none.
        Ok(bytes >= files * size * ROOM && (space.files() == 0 || space.files_available() >= files * ROOM))
    }
}

impl Layout {
    fn spare(&self) -> PathBuf {
        self.root.join("spare")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::on_small_filesystem;
    use crate::store::fixture::record;

    #[test]
    fn r3_a_record_is_written_on_a_full_disk_with_the_space_that_was_set_aside() {
        on_small_filesystem("size=32m,nr_inodes=8192", |place| {
            let store = Store::open(&place.join("store")).unwrap();
            let lease = install(&store, commit(1), "");
            store.set_spare_aside().unwrap();
            store.set_spare_aside().unwrap();
            let mut filled = 0;
            while fs::write(place.join(filled.to_string()), [0; 4096]).is_ok() {
                filled += 1;
            }
            let write = |volume: &str| {
                let target = std::path::PathBuf::from(format!("/pods/{volume}"));
                let slot = store.target(volume, &target, &Cancel::new())?;
                slot.write(&record(&store, volume, &target, &lease))
            };
            for volume in ["a", "b", "c"] {
                assert!(write(volume).unwrap_err().is_full());
                assert!(store.release_spare());
                write(volume).unwrap();
                // What is left over would let the next one pass.
                let mut rest = 0;
                while fs::write(place.join(format!("{volume}-{rest}")), [0; 4096]).is_ok() {
                    rest += 1;
                }
            }
            store.set_spare_aside().unwrap();
            while store.release_spare() {}
            assert!(durable::entries(&store.layout.spare()).unwrap().is_empty(), "none is set aside on a full disk");
        });
    }
}

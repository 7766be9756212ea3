//! Keeps some bytes of a filesystem free, whatever a volume needs.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use nix::sys::statvfs::statvfs;

/// Periodically checks the free space of a filesystem, and has room made if there is too little. For writers only:
/// reading needs no reserve.
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
    next: Instant,
    room: Option<Arc<dyn MakeRoom>>,
}

/// Removes unused content.
pub trait MakeRoom: Send + Sync {
    /// Removes unused content, the longest unused first, until `bytes` are free or nothing is left to remove.
    fn make_room(&self, bytes: u64) -> Freed;
}

/// The unused content that was removed from a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Snapshots.
    pub snapshots: u64,
    /// Repositories: segments and packs that later fetches could have built on.
    pub repositories: u64,
    /// Bytes of their files that nothing else uses.
    pub bytes: u64,
    /// There may be more to remove: time ran out, or the mount table could not be read.
    pub incomplete: bool,
}

impl Freed {
    /// Counts a removed snapshot, or a repository.
    pub(crate) fn count(&mut self, is_snapshot: bool, bytes: u64) {
        match is_snapshot {
            true => self.snapshots += 1,
            false => self.repositories += 1,
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Nothing was removed.
    pub fn is_nothing(&self) -> bool {
        self.snapshots + self.repositories == 0
    }
}

impl fmt::Display for Freed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshots, repositories, bytes, .. } = self;
        write!(f, "{snapshots} unused snapshots and {repositories} unused repositories ({bytes} bytes)")
    }
}

/// Less space is free than required.
#[derive(Debug, thiserror::Error)]
#[error(
    "less than {bytes} bytes are left in the filesystem of {}, {}; free some space there, unpublish volumes, or lower \
     cache.reserveBytes",
    path.display(),
    removed(freed)
)]
pub struct BelowReserve {
    /// A path on the filesystem.
    pub path: PathBuf,
    /// The bytes that must stay free.
    pub bytes: u64,
    /// The content that was removed to make room; `None` without a [`MakeRoom`].
    pub freed: Option<Freed>,
}

fn removed(freed: &Option<Freed>) -> String {
    match freed {
        Some(freed) if freed.is_nothing() && freed.incomplete => {
            "and unused content of the store could not be removed".to_owned()
        }
        Some(freed) if freed.is_nothing() => "and nothing in the store is unused".to_owned(),
        Some(freed) => format!("although {freed} were removed"),
        None => "and that much must stay free".to_owned(),
    }
}

impl Reserve {
    const INTERVAL: Duration = Duration::from_millis(200);

    /// Keeps `bytes` free on the filesystem of `path`; with 0 all of it may be used.
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, next: Instant::now(), room: None }
    }

    /// Makes [`Reserve::check`] call `room` before it fails.
    #[must_use]
    pub fn making_room(self, room: Arc<dyn MakeRoom>) -> Self {
        Self { room: Some(room), ..self }
    }

    /// Checks the free space a few times a second, so calling it for every file is cheap. If the filesystem does not
    /// report its space, everything passes, and a write fails once it is full.
    ///
    /// # Errors
    ///
    /// If less than the reserve is free, even after making room.
    pub fn check(&mut self) -> Result<(), BelowReserve> {
        let now = Instant::now();
        if self.bytes == 0 || now < self.next {
            return Ok(());
        }
        self.next = now + Self::INTERVAL;
        if self.is_free() {
            return Ok(());
        }
        let freed = self.room.as_ref().map(|room| room.make_room(self.bytes));
        self.next = Instant::now() + Self::INTERVAL;
        match self.is_free() {
            true => Ok(()),
            false => Err(BelowReserve { path: self.path.clone(), bytes: self.bytes, freed }),
        }
    }

    fn is_free(&self) -> bool {
        match free_bytes(&self.path) {
            Ok(free) => free >= self.bytes,
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "cannot query the free space");
                true
            }
        }
    }
}

/// Returns the free bytes on the filesystem of `path` for unprivileged users.
pub(crate) fn free_bytes(path: &Path) -> nix::Result<u64> {
    let filesystem = statvfs(path)?;
    Ok(filesystem.blocks_available().saturating_mul(filesystem.fragment_size()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_filesystem_below_the_reserve_is_refused_and_rarely_queried() {
        let place = tempfile::tempdir().unwrap();
        let mut all = Reserve::new(place.path().to_owned(), u64::MAX);
        let error = all.check().unwrap_err();
        assert!(error.to_string().contains("cache.reserveBytes"), "{error}");
        all.check().expect("not queried again at once");
        Reserve::new(place.path().to_owned(), 1).check().unwrap();
        Reserve::new(place.path().to_owned(), 0).check().unwrap();
        Reserve::new(place.path().join("gone"), u64::MAX).check().expect("its free space is unknown");
    }

    struct Counting(AtomicU64);

    impl MakeRoom for Counting {
        fn make_room(&self, _bytes: u64) -> Freed {
            Freed { snapshots: self.0.fetch_add(1, Ordering::Relaxed) + 1, ..Freed::default() }
        }
    }

    #[test]
    fn a_check_makes_room_before_it_fails_and_its_error_says_so() {
        let place = tempfile::tempdir().unwrap();
        let room = Arc::new(Counting(AtomicU64::new(0)));
        let reserve = |bytes| Reserve::new(place.path().to_owned(), bytes).making_room(Arc::clone(&room) as _);
        reserve(1).check().unwrap();
        assert_eq!(room.0.load(Ordering::Relaxed), 0, "there is room");
        let error = reserve(u64::MAX).check().unwrap_err();
        assert!(error.to_string().contains("although 1 unused snapshots"), "{error}");
    }
}

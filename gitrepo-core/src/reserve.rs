//! The bytes of a filesystem that stay free, whatever a volume needs.

use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use nix::sys::statvfs::statvfs;

/// Asks a filesystem now and then how much is left of it.
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    next: Instant,
}

/// Less is left than has to stay free.
#[derive(Debug, thiserror::Error)]
#[error("less than {bytes} bytes are left in the filesystem of {}; free some, or lower cache.reserveBytes", path.display())]
pub struct BelowReserve {
    /// Something on the filesystem.
    pub path: PathBuf,
    /// What has to stay free.
    pub bytes: u64,
}

impl Reserve {
    const INTERVAL: Duration = Duration::from_millis(200);

    /// `bytes` are to stay free where `path` is; 0 for whatever there is.
    pub(crate) fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, next: Instant::now() }
    }

    /// Cheap enough to be called for every file: it asks a few times a second. A filesystem that does not tell lets
    /// everything through; that it is full is then told by the write that fails.
    pub(crate) fn check(&mut self) -> Result<(), BelowReserve> {
        let now = Instant::now();
        if self.bytes == 0 || now < self.next {
            return Ok(());
        }
        self.next = now + Self::INTERVAL;
        match statvfs(&self.path) {
            Ok(filesystem) if filesystem.blocks_available().saturating_mul(filesystem.fragment_size()) < self.bytes => {
                Err(BelowReserve { path: self.path.clone(), bytes: self.bytes })
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "cannot ask for free space");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_with_less_than_the_reserve_is_refused_and_asked_seldom() {
        let place = tempfile::tempdir().unwrap();
        let mut all = Reserve::new(place.path().to_owned(), u64::MAX);
        let error = all.check().unwrap_err();
        assert!(error.to_string().contains("cache.reserveBytes"), "{error}");
        all.check().expect("not asked again at once");
        Reserve::new(place.path().to_owned(), 1).check().unwrap();
        Reserve::new(place.path().to_owned(), 0).check().unwrap();
        Reserve::new(place.path().join("gone"), u64::MAX).check().expect("it does not tell");
    }
}

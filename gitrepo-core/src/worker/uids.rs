//! A user of its own for each worker, from the configured range.

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

/// A uid that no other worker on this host uses while any process has the lock open.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) uid: u32,
    pub(super) lock: OwnedFd,
}

/// Why no uid could be claimed.
#[derive(Debug)]
pub(super) enum ClaimError {
    /// All are taken, and stayed so until the caller gave up.
    AllTaken(Interrupted),
    /// The lock directory is not usable.
    Locks(io::Error),
}

/// How often a full range is checked again.
const INTERVAL: Duration = Duration::from_millis(20);

/// Takes a free uid of `range`, waiting if necessary. Each uid has a lock file in `directory`.
pub(super) fn claim(range: RangeInclusive<u32>, directory: &Path, cancel: &Cancel) -> Result<Claim, ClaimError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(ClaimError::Locks)?;
    loop {
        for uid in range.clone() {
            if let Some(lock) = try_lock(&directory.join(uid.to_string())).map_err(ClaimError::Locks)? {
                return Ok(Claim { uid, lock });
            }
        }
        cancel.check().map_err(ClaimError::AllTaken)?;
        thread::sleep(INTERVAL);
    }
}

fn try_lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file.into())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_claim_gets_a_uid_of_its_own_until_the_lock_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let claim = |cancel: &Cancel| claim(7..=8, &directory.path().join("uids"), cancel);
        let never = Cancel::new();
        let first = claim(&never).unwrap();
        let second = claim(&never).unwrap();
        assert_eq!((first.uid, second.uid), (7, 8));

        let hurried = never.within(Duration::ZERO);
        assert!(matches!(claim(&hurried), Err(ClaimError::AllTaken(Interrupted::DeadlineExceeded))));

        let copy = first.lock.try_clone().unwrap();
        drop(first);
        assert!(claim(&hurried).is_err(), "another process still holds it");
        drop(copy);
        assert_eq!(claim(&never).unwrap().uid, 7);
    }
}

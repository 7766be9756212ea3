//! Full verification of what is on the disk: hashes content, and compares it with the ids of the blobs.
//!
//! Nothing else reads content again once it was written. A publish compares only what identifies the files.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use git2::ObjectType;
use git2::Oid;

use super::Pace;
use super::SnapshotError;
use super::TreeRequest;
use super::pace;
use crate::cancel::Interrupted;
use crate::content::IndexError;
use crate::content::Segments;
use crate::error::chain;
use crate::pack::ObjectHash;
use crate::policy::Limits;
use crate::progress::Step;
use crate::sys::verity;
use crate::watch::Watch;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// How long a disk may be away before what it does not give counts as damaged.
const RECOVERY: Duration = Duration::from_secs(5);

/// Why a verification did not end well.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something is not what was fetched.
    #[error("{0}")]
    Damaged(String),
    /// Something cannot be read, so it is not known whether it is damaged.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// The verification was given up.
    #[error("the verification was given up")]
    Interrupted(#[source] Interrupted),
}

impl From<SnapshotError> for VerifyError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Interrupted { source, .. } => Self::Interrupted(source),
            SnapshotError::Io { .. } => Self::Unreadable(io::Error::other(chain(&error))),
            error => Self::Damaged(chain(&error)),
        }
    }
}

/// Verifies the segments and snapshots of one repository. A blob of a segment is hashed once, however many snapshots
/// show it.
pub struct Verifier<'a> {
    watch: &'a Watch,
    /// The blobs that are good, by the segment's device and inode, and the offset.
    good: HashMap<(u64, u64), HashMap<u64, (Oid, u64)>>,
    bytes: u64,
    pace: Pace,
}

impl<'a> Verifier<'a> {
    /// Creates a verifier that continues to count from `bytes`.
    pub(crate) fn new(watch: &'a Watch, bytes: u64, pace: Pace) -> Self {
        Self { watch, good: HashMap::new(), bytes, pace }
    }

    /// Returns the number of bytes that were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hashes every blob of a repository's segments.
    pub(crate) fn segments(&mut self, repository: &Path) -> Result<(), VerifyError> {
        let segments = Segments::open(repository).map_err(of_segments)?;
        let blobs = segments.blobs().map_err(|error| match error {
            IndexError::Io(error) => of_segments(error),
            IndexError::Damaged(what) => VerifyError::Damaged(format!("an index of its segments: {what}")),
        })?;
        for (id, extent) in blobs {
            let file = segments.file(extent);
            if !self.is_blob(file, id, extent.offset, extent.length)? {
                return Err(VerifyError::Damaged(format!("blob {id} of {} is damaged", segments.stem(extent))));
            }
        }
        Ok(())
    }

    /// Whether this part of a segment is the blob.
    pub(crate) fn is_blob(&mut self, segment: &File, id: Oid, offset: u64, length: u64) -> Result<bool, VerifyError> {
        let found = segment.metadata().map_err(VerifyError::Unreadable)?;
        let inode = (found.dev(), found.ino());
        if self.good.get(&inode).and_then(|blobs| blobs.get(&offset)) == Some(&(id, length)) {
            return Ok(true);
        }
        let is_good = self.hash(segment, offset, length)? == Some(id);
        if is_good {
            self.good.entry(inode).or_default().insert(offset, (id, length));
        }
        Ok(is_good)
    }

    /// Hashes a part of a file as a blob; `None` if the file is too short, or its content attacks the hash.
    pub(crate) fn hash(&mut self, file: &File, offset: u64, length: u64) -> Result<Option<Oid>, VerifyError> {
        let mut hash = ObjectHash::new(ObjectType::Blob, length);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(PIECE).min(PIECE)];
        let mut done = 0;
        while done < length {
            self.check_wanted()?;
            let wanted = usize::try_from(length - done).unwrap_or(PIECE).min(piece.len());
            let read = match file.read_at(&mut piece[..wanted], offset + done) {
                Err(error) => {
                    let again = || file.read_at(&mut [0; 1], offset + done).err();
                    return match self.is_mismatch(file, &error, again)? {
                        true => Ok(None),
                        false => Err(VerifyError::Unreadable(error)),
                    };
                }
                Ok(read) => read,
            };
            if read == 0 {
                return Ok(None);
            }
            hash.update(&piece[..read]);
            done += read as u64;
            self.was_read(read as u64)?;
        }
        Ok(hash.finish().ok())
    }

    /// Whether a failed read says that a sealed file is not what was sealed: the kernel compares. A disk that is away for a
    /// moment gives the same error, so it must come again after a pause.
    pub(crate) fn is_mismatch(
        &self,
        file: &File,
        error: &io::Error,
        again: impl FnOnce() -> Option<io::Error>,
    ) -> Result<bool, VerifyError> {
        let is_eio = |error: &io::Error| error.raw_os_error() == Some(libc::EIO);
        if !is_eio(error) || !verity::is_enabled(file) {
            return Ok(false);
        }
        pace::pause_until(Instant::now() + RECOVERY, &self.watch.cancel).map_err(VerifyError::Interrupted)?;
        Ok(again().is_some_and(|error| is_eio(&error)))
    }

    /// Fails if nobody waits for the result any more.
    pub(crate) fn check_wanted(&self) -> Result<(), VerifyError> {
        self.watch.cancel.check().map_err(VerifyError::Interrupted)
    }

    /// Keeps to another pace. Returns the one before.
    pub(crate) fn keep_to(&mut self, pace: Pace) -> Pace {
        std::mem::replace(&mut self.pace, pace)
    }

    /// Counts what was read, and keeps to the pace.
    pub(crate) fn was_read(&mut self, bytes: u64) -> Result<(), VerifyError> {
        self.bytes += bytes;
        self.watch.progress.report(&Step::Verifying { bytes: self.bytes });
        self.pace.after(bytes, &self.watch.cancel).map_err(VerifyError::Interrupted)
    }
}

/// Limits for the manifest of a finished snapshot: they were enforced when it was made, and may have changed since.
pub(crate) fn without_limits(request: &TreeRequest) -> TreeRequest {
    let limits = Limits { tree_bytes: u64::MAX, entries: u64::MAX, path_depth: u32::MAX, ..Limits::default() };
    TreeRequest { limits, ..request.clone() }
}

fn of_segments(error: io::Error) -> VerifyError {
    match error.kind() {
        io::ErrorKind::NotFound => VerifyError::Damaged("a segment is gone".to_owned()),
        _ => VerifyError::Unreadable(error),
    }
}

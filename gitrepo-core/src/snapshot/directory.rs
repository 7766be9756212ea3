//! The directory format: `root/<directory>/…` has the tree as plain files, `manifest` beside it says what each is made of.
//!
//! The worker lists the tree, and the parent lays it out. So no file has to change hands, and the parent itself hashes
//! what it writes.

mod verify;

use std::ffi::CStr;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Ownership;
use super::Segments;
use super::SnapshotError;
use super::SnapshotFormat;
use super::TreeRequest;
use super::Verifier;
use super::VerifyError;
use super::Watch;
use super::beneath::Beneath;
use super::git_dir;
use super::label;
use super::label::LabelFailure;
use super::mountable::listed::Listed;
use super::writer::Writer;
use crate::mount::Attachment;
use crate::reserve::Reserve;

/// The volume's root, in staging and in a snapshot.
pub(crate) const ROOT: &CStr = c"root";

/// A tree as plain files, attached by a bind mount.
///
/// [`lay_out`](SnapshotFormat::lay_out) never syncs: the store does, once for the whole tree. Files are copied piece by
/// piece out of the segments of the repository.
#[derive(Debug, Clone, Copy, Default)]
pub struct Directory;

impl SnapshotFormat for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn lay_out(
        &self,
        listed: &Listed,
        staging: &Path,
        segments: &Segments,
        request: &TreeRequest,
        reserve: Reserve,
        watch: &Watch,
    ) -> Result<(), SnapshotError> {
        let opened = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
        Writer::new(listed, segments, request, (watch, reserve), &opened)?.write()?;
        git_dir::pack::remove(staging, listed)?;
        let root = staging.join(OsStr::from_bytes(ROOT.to_bytes()));
        if let Some(label) = &request.label {
            label::label(&root, label, &watch.cancel).map_err(|failure| match failure {
                LabelFailure::Io(error) => SnapshotError::io("label", ROOT.to_bytes(), error),
                LabelFailure::Interrupted(source) => SnapshotError::Interrupted { commit: request.commit, source },
            })?;
        }
        // Last, since it says of each file what lstat(2) says.
        git_dir::refresh_index(&root, &request.tree, request.repository.as_ref())
            .map_err(|error| SnapshotError::io("write", git_dir::INDEX.as_bytes(), error))
    }

    fn verify(
        &self,
        snapshot: &Path,
        request: &TreeRequest,
        _ownership: &Ownership,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError> {
        Self::verify_snapshot(snapshot, request, verifier)
    }

    fn attachment(&self, snapshot: &Path) -> Attachment {
        Attachment::Bind { source: snapshot.join(OsStr::from_bytes(ROOT.to_bytes())) }
    }
}

#[cfg(test)]
mod tests;

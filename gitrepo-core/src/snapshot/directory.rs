//! The directory format: `root/<directory>/…` has the tree as plain files, `manifest` beside it the blob of each.

use std::ffi::CStr;
use std::ffi::OsStr;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Owner;
use super::SnapshotError;
use super::SnapshotFormat;
use super::TreeRequest;
use super::TreeSummary;
use super::Watch;
use super::adopt;
use super::beneath::Beneath;
use super::listing::Listing;
use super::located::Located;
use super::manifest;
use super::writer::Writer;
use crate::mount::Attachment;

/// The volume's root, in staging and in a snapshot.
pub(crate) const ROOT: &CStr = c"root";

/// A tree as plain files, attached by a bind mount.
///
/// [`write`](SnapshotFormat::write) never syncs: the store does, once for the whole tree. Files are copied piece by piece
/// out of the segments of the repository.
#[derive(Debug, Clone, Copy, Default)]
pub struct Directory;

impl SnapshotFormat for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn write(
        &self,
        repository: &Path,
        request: &TreeRequest,
        staging: &Path,
        watch: &Watch,
    ) -> Result<TreeSummary, SnapshotError> {
        let listing = Listing::of(repository, request, watch)?;
        let located = Located::find(repository, request, &listing)?;
        let staging = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
        let summary = Writer::new(&located, watch, &staging)?.write()?;
        write_manifest(&staging, &located)
            .map_err(|error| SnapshotError::io("write", manifest::NAME.as_bytes(), error))?;
        Ok(summary)
    }

    fn adopt(&self, staging: &Path, request: &TreeRequest, owner: Owner) -> Result<TreeSummary, SnapshotError> {
        adopt::adopt(staging, request, owner)
    }

    fn attachment(&self, snapshot: &Path) -> Attachment {
        Attachment::Bind { source: snapshot.join(OsStr::from_bytes(ROOT.to_bytes())) }
    }
}

fn write_manifest(staging: &Beneath, located: &Located<'_>) -> io::Result<()> {
    let file = manifest::create(staging)?;
    let mut buffered = BufWriter::new(file);
    manifest::write(&mut buffered, located.listing, located.sizes())?;
    buffered.flush()
}

#[cfg(test)]
mod tests;

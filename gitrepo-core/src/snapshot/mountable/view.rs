//! Views: the same tree with other owners. A view is a snapshot of its own, made from a finished one without the
//! repository: another image over the same devices, under further names.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::IMAGE;
use super::Image;
use super::assemble;
use super::assemble::Segments;
use super::links;
use super::listed::Listed;
use super::listed::untrusted;
use super::staged;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir;
use crate::snapshot::image;
use crate::snapshot::manifest;

impl Image {
    /// Makes a view of `snapshot` in `staging`, an empty directory on the same filesystem.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Untrusted`] if the snapshot is damaged.
    pub(crate) fn view(
        snapshot: &Path,
        staging: &Path,
        request: &TreeRequest,
        ownership: &Ownership,
    ) -> Result<(), SnapshotError> {
        let opened = Beneath::new(snapshot).map_err(|error| SnapshotError::io("open", b"", error))?;
        let mut listed = Listed::read(staged::open(&opened)?, request)?;
        check_image(snapshot, &listed)?;
        git_dir::shared::add_to_list(&mut listed, ownership);
        let devices = assemble::devices(&listed);
        let segments = Segments::of_snapshot(snapshot, &listed, &devices)?;
        let targets = links::read(snapshot, &listed)?;
        segments.link(&devices, staging)?;
        assemble::write(staging, &listed, &segments, &targets, &devices, ownership)?;
        links::write(staging, &targets)?;
        std::fs::hard_link(snapshot.join(manifest::NAME), staging.join(manifest::NAME))
            .map_err(|error| SnapshotError::io("link", manifest::NAME.as_bytes(), error))
    }
}

/// Checks that the image of the snapshot was made from this manifest, as its UUID tells.
pub(super) fn check_image(snapshot: &Path, listed: &Listed) -> Result<(), SnapshotError> {
    let mut uuid = image::Uuid::default();
    let read = File::open(snapshot.join(IMAGE)).and_then(|image| image.read_exact_at(&mut uuid, image::UUID as u64));
    match read {
        Ok(()) if uuid == listed.uuid(&Ownership::ROOT) => Ok(()),
        Ok(()) => Err(untrusted(manifest::NAME.as_bytes(), "the image was not made from it")),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Err(untrusted(IMAGE.as_bytes(), "it is missing or cut short"))
        }
        Err(error) => Err(SnapshotError::io("read", IMAGE.as_bytes(), error)),
    }
}

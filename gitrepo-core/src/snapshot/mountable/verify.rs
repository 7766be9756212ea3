//! Full verification of an image: its manifest, its metadata, and the content of all its files.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;

use git2::ObjectType;
use git2::Oid;

use super::IMAGE;
use super::Image;
use super::assemble;
use super::assemble::Built;
use super::assemble::Segments;
use super::device_name;
use super::links;
use super::listed::Extent;
use super::listed::Kind;
use super::listed::Listed;
use super::staged;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::beneath::Beneath;
use crate::snapshot::git_dir;
use crate::snapshot::verify::Verifier;
use crate::snapshot::verify::VerifyError;
use crate::snapshot::verify::without_limits;

impl Image {
    /// Makes the image's metadata once more and compares, then hashes every file.
    pub(super) fn verify_snapshot(
        snapshot: &Path,
        request: &TreeRequest,
        ownership: &Ownership,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError> {
        let opened = Beneath::new(snapshot).map_err(|error| SnapshotError::io("open", b"", error))?;
        let mut listed = Listed::read(staged::open(&opened)?, &without_limits(request))?;
        git_dir::shared::add_to_list(&mut listed, ownership);
        let devices = assemble::devices(&listed);
        let segments = Segments::of_snapshot(snapshot, &listed, &devices)?;
        let targets = links::read(snapshot, &listed)?;
        let Built { image, written } = assemble::build(&listed, &segments, &targets, &devices, ownership)?;
        if read(&snapshot.join(IMAGE), verifier)? != image {
            return Err(VerifyError::Damaged("its image does not show what its manifest lists".to_owned()));
        }
        if let Some(written) = written
            && read(&snapshot.join(device_name(assemble::count(&devices))), verifier)? != written
        {
            return Err(VerifyError::Damaged("its .git is damaged".to_owned()));
        }
        let mut targets = targets.iter();
        for node in &listed.nodes {
            let is_good = match node.kind {
                Kind::Directory | Kind::Written { .. } => true,
                Kind::Symlink { target: Extent { id, .. } } => targets.next().is_some_and(|target| is(id, target)),
                Kind::File { content: Extent { id, size: 0, .. }, .. } => is(id, b""),
                Kind::File { content: Extent { id, segment, offset, size }, .. } => match segments.file(segment) {
                    Some(file) => verifier.is_blob(file, id, offset, size)?,
                    None => false,
                },
            };
            if !is_good {
                let path = listed.path(node);
                return Err(VerifyError::Damaged(format!(
                    "the content of {:?} is damaged",
                    path.escape_ascii().to_string()
                )));
            }
        }
        Ok(listed.digest())
    }
}

/// Reads the image.
fn read(path: &Path, verifier: &Verifier<'_>) -> Result<Vec<u8>, VerifyError> {
    let mut image = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => VerifyError::Damaged("its image is gone, or a part of it".to_owned()),
        _ => VerifyError::Unreadable(error),
    })?;
    let mut found = Vec::new();
    let Err(error) = image.read_to_end(&mut found) else { return Ok(found) };
    // From where it failed.
    let again = || io::copy(&mut &image, &mut io::sink()).err();
    match verifier.is_mismatch(&image, &error, again)? {
        true => Err(VerifyError::Damaged("its image is damaged".to_owned())),
        false => Err(VerifyError::Unreadable(error)),
    }
}

/// Whether this is the content of the blob.
fn is(id: Oid, content: &[u8]) -> bool {
    Oid::hash_object(ObjectType::Blob, content).is_ok_and(|found| found == id)
}

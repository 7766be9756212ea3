//! The image format: `image` is an EROFS image of the tree, `0`, `1`, … are the devices with the content of its files,
//! `manifest` says where each blob is, and `links` has the targets of links.
//!
//! The devices are segments of the repository, under a second name. No content is copied, and a snapshot keeps its
//! content when the repository is evicted: a segment is freed with its last name. So a snapshot also keeps those blobs
//! of its segments that it does not show.
//!
//! The worker only writes the manifest ([`record`]). The parent checks it ([`listed`]), and makes the image out of it
//! ([`assemble`]): the kernel never reads metadata that a worker wrote.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use super::Owner;
use super::Ownership;
use super::SnapshotError;
use super::SnapshotFormat;
use super::TreeRequest;
use super::TreeSummary;
use super::Verifier;
use super::VerifyError;
use super::Watch;
use super::beneath::Beneath;
use super::checkout;
use super::checkout::Writable;
use super::git_dir;
use super::git_dir::pack::Packed;
use super::image;
use super::lfs;
use super::listing::Listing;
use super::located::Located;
use super::manifest;
use crate::error::Cause;
use crate::mount::Attachment;
use crate::object::EntryMode;
use crate::reserve::Reserve;
use crate::spec::Checkout;

pub(crate) mod assemble;
pub(crate) mod compose;
#[cfg(feature = "testing")]
pub(super) mod fuzz;
mod links;
pub(crate) mod listed;
pub(crate) mod reader;
mod record;
pub(crate) mod sealed;
pub(crate) mod staged;
#[cfg(test)]
mod tests;
mod verify;
mod view;

use assemble::Segments;
use listed::Listed;

/// The image's name in a snapshot.
pub(crate) const IMAGE: &str = "image";

/// A tree as an EROFS image, attached by a mount of its own. It is always read-only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Image;

impl SnapshotFormat for Image {
    fn name(&self) -> &'static str {
        "image"
    }

    fn lay_out(
        &self,
        listed: &Listed,
        staging: &Path,
        segments: &Segments,
        request: &TreeRequest,
        mut reserve: Reserve,
        _watch: &Watch,
    ) -> Result<(), SnapshotError> {
        // An image is small beside its content, which was written already.
        reserve.check().map_err(|error| SnapshotError::no_room(IMAGE.as_bytes(), &error))?;
        assemble::assemble(listed, staging, segments, request)
    }

    fn verify(
        &self,
        snapshot: &Path,
        request: &TreeRequest,
        ownership: &Ownership,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError> {
        Self::verify_snapshot(snapshot, request, ownership, verifier)
    }

    fn attachment(&self, snapshot: &Path) -> Attachment {
        Attachment::Image { metadata: snapshot.join(IMAGE), devices: devices(snapshot) }
    }
}

/// Lists a tree in the worker: writes the manifest into `staging`, an empty directory, and the pack of its `.git`.
/// `repository` is a bare one, with alternates or without. With `checkout: git`, converted files are written into the one
/// that `writable` gives, which is asked only if there are any.
pub(crate) fn list(
    repository: &Path,
    writable: Writable<'_>,
    request: &TreeRequest,
    staging: &Path,
    watch: &Watch,
) -> Result<TreeSummary, SnapshotError> {
    let mut listing = Listing::of(repository, request, watch)?;
    git_dir::check_index(request, &listing)?;
    let filtered = match request.tree.lfs {
        true => lfs::replace(repository, request, &mut listing, watch)?,
        false => HashSet::new(),
    };
    let located = match filtered.is_empty() {
        true => Located::find(repository, request, &listing)?,
        false => Located::find_converted(repository, request, &listing)?,
    };
    let converted = match request.tree.checkout {
        Checkout::Bytes => None,
        Checkout::Git => checkout::convert(repository, writable, &located, &filtered, watch)?,
    };
    let Some(converted) = converted else { return write(repository, &located, staging, watch) };
    drop(located);
    converted.apply(&mut listing);
    let located = Located::find_converted(&converted.repository, request, &listing)?;
    write(&converted.repository, &located, staging, watch)
}

/// Writes what [`list`] leaves.
fn write(
    repository: &Path,
    located: &Located<'_>,
    staging: &Path,
    watch: &Watch,
) -> Result<TreeSummary, SnapshotError> {
    check_links(located, watch)?;
    let summary = located.summary();
    let packed = git_dir::pack(repository, located.request, summary.bytes, staging, watch)?;
    let staging = Beneath::new(staging).map_err(|error| SnapshotError::io("open", b"", error))?;
    write_manifest(&staging, located, packed.as_ref())
        .map_err(|error| SnapshotError::io("write", manifest::NAME.as_bytes(), error))?;
    Ok(summary)
}

/// Checks what the worker listed in `staging`, and gives it to `owner`. By now no other process can reach it.
pub(crate) fn adopt(staging: &Path, request: &TreeRequest, owner: Owner) -> Result<Listed, SnapshotError> {
    Listed::read(staged::take(staging, request, owner)?, request)
}

/// Whether a file begins as an image does. The kernel says the same of all that is not one, and of an image whose
/// options it does not know.
pub(crate) fn is_image(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, image::SUPERBLOCK as u64));
    read.is_ok() && u32::from_le_bytes(magic) == image::MAGIC
}

/// Returns the paths of the devices of a snapshot.
fn devices(snapshot: &Path) -> Vec<PathBuf> {
    let device = |number: usize| snapshot.join(device_name(number));
    (0..).map(device).take_while(|path| path.symlink_metadata().is_ok()).collect()
}

fn device_name(number: usize) -> String {
    number.to_string()
}

/// Checks the targets of all links: they become part of the image.
fn check_links(located: &Located<'_>, watch: &Watch) -> Result<(), SnapshotError> {
    let commit = located.request.commit;
    let mut bytes = 0;
    for (entry, extent) in located.listing.entries.iter().zip(&located.extents) {
        let (EntryMode::Symlink, Some(extent)) = (entry.mode, extent) else { continue };
        watch.cancel.check().map_err(|source| SnapshotError::Interrupted { commit, source })?;
        located.check_target_length(entry, extent.length)?;
        bytes += extent.length;
        reader::check_link_bytes(located.request.commit, bytes)?;
        let mut target = Vec::new();
        located.segments.read(*extent).read_to_end(&mut target).map_err(|error| SnapshotError::Incomplete {
            commit,
            source: Cause::new(format_args!("object {}: {error}", entry.id)),
        })?;
        located.check_target(entry, &target)?;
    }
    Ok(())
}

fn write_manifest(staging: &Beneath, located: &Located<'_>, packed: Option<&Packed>) -> io::Result<()> {
    let mut buffered = BufWriter::new(manifest::create(staging)?);
    record::write(&mut buffered, located, packed)?;
    buffered.flush()
}

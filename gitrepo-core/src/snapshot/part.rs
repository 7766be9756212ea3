//! The format of parts: trees of which volumes with submodules are composed. No volume shows one.
//!
//! A part is kept like an image, so that what is true of images is true of it: it names the segments that it needs, its
//! seal tells changes, and it can be verified. But in its manifest a submodule has its URL.

use std::path::Path;

use super::Image;
use super::Listed;
use super::Ownership;
use super::Segments;
use super::SnapshotError;
use super::SnapshotFormat;
use super::TreeRequest;
use super::Verifier;
use super::VerifyError;
use super::Watch;
use crate::mount::Attachment;
use crate::reserve::Reserve;

/// A tree with the URLs of its submodules, to be composed with theirs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part;

impl Part {
    /// The name of the format.
    pub(crate) const NAME: &'static str = "part";
}

impl SnapshotFormat for Part {
    fn name(&self) -> &'static str {
        Self::NAME
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
        Image.lay_out(listed, staging, segments, request, reserve, watch)
    }

    fn verify(
        &self,
        snapshot: &Path,
        request: &TreeRequest,
        ownership: &Ownership,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError> {
        Image.verify(snapshot, request, ownership, verifier)
    }

    fn attachment(&self, snapshot: &Path) -> Attachment {
        Image.attachment(snapshot)
    }
}

//! Receives the pack of a commit and writes its tree, from an open session into its staging directory.

use super::signature::Required;
use super::signature::check;
use crate::gateway::GatewayError;
use crate::gateway::Session;
use crate::progress::Step;
use crate::remote::FetchRequest;
use crate::signature::Signer;
use crate::snapshot::TreeRequest;
use crate::watch::Watch;

/// The result of a fetch.
pub(crate) struct Received {
    /// The requested tree.
    pub(crate) tree: TreeRequest,
    /// Whether the tree was written; who signed the commit, if it must be signed.
    pub(crate) written: Result<Option<Signer>, GatewayError>,
    /// Size of the pack, in bytes.
    pub(crate) bytes: u64,
    /// Whether no more than the directory was fetched that the request is narrowed to. Whoever says so without need only has
    /// the commit fetched again.
    pub(crate) narrow: bool,
}

/// Fetches a resolved revision unless it is in the base, checks its signature if it needs one, writes its tree, and ends
/// the session, so that the worker cannot change its output while that is checked.
///
/// # Errors
///
/// If the fetch failed, or if parts of the worker may still run. If only the tree failed, [`Received::written`] says
/// so, since the pack may be worth keeping.
pub(crate) fn receive(
    mut session: Session<'_>,
    request: &FetchRequest,
    is_in_base: bool,
    required: Option<&Required>,
    tree: TreeRequest,
    watch: &Watch,
) -> Result<Received, GatewayError> {
    let (mut bytes, mut narrow) = (0, false);
    if !is_in_base {
        // A server may think for minutes about a large pack before it sends any of it.
        watch.progress.report(&Step::Fetching { bytes: 0, objects: 0, total_objects: 0 });
        let report = session.fetch(request)?;
        (bytes, narrow) = (report.received_bytes, report.narrow);
    }
    let signed = required.map(|required| check(&mut session, required, None)).transpose();
    let written = signed.and_then(|signer| {
        if tree.tree.lfs {
            bytes += session.bring_objects(&tree, request.resolved.reference.as_deref())?;
        }
        session.write_tree(&tree).map(|_| signer)
    });
    session.finish()?;
    Ok(Received { tree, written, bytes, narrow })
}

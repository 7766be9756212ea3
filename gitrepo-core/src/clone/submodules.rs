//! Clones a repository with its submodules: fetches each, and composes their trees.

use std::num::NonZeroUsize;
use std::path::Path;

use super::CloneError;
use super::CloneRequest;
use super::Cloned;
use super::Fetched;
use super::fetch;
use super::put;
use super::reserve;
use crate::gateway::Gateway;
use crate::lease::Gathering;
use crate::lease::LeaseError;
use crate::lease::for_wish;
use crate::lease::part_of;
use crate::remote::REPOSITORY;
use crate::snapshot;
use crate::snapshot::Directory;
use crate::snapshot::OpenPart;
use crate::snapshot::Part;
use crate::snapshot::SnapshotError;
use crate::snapshot::SnapshotFormat;
use crate::snapshot::TreeRequest;
use crate::spec::RepositoryUrl;
use crate::store::Staging;
use crate::watch::Watch;
use crate::worker::TREE;

/// Clones a repository and all its submodules, one after the other.
pub(super) fn clone_all(
    gateway: &Gateway,
    request: &CloneRequest<'_>,
    destination: &Path,
    watch: &Watch,
) -> Result<Cloned, CloneError> {
    let &CloneRequest { spec, credentials, .. } = request;
    let root = fetch::<CloneError>(gateway, &part_of(spec), credentials, &Part, destination, watch)?;
    let (resolved, mut received_bytes) = (root.resolved.clone(), root.bytes);
    let limits = gateway.policy().limits();
    // Each goes when this ends: the content of the parts is in them.
    let mut stagings = Vec::new();
    let part = open(&spec.repository, root, &mut stagings)?;
    let mut gathering = Gathering::new(part, resolved.commit, limits).map_err(CloneError::Submodules)?;
    while let Some(wish) = gathering.wishes(NonZeroUsize::MIN).pop() {
        let part = for_wish(spec, credentials, &wish, |spec, credentials| {
            let fetched = fetch::<LeaseError>(gateway, spec, credentials, &Part, destination, watch)?;
            received_bytes += fetched.bytes;
            Ok(open(&spec.repository, fetched, &mut stagings)?)
        });
        let part = part.map_err(CloneError::Submodules)?;
        gathering.grant(vec![(wish, part)]).map_err(CloneError::Submodules)?;
    }
    let (composition, _) = gathering.finish();
    let staging = Staging::beside(destination)?;
    let tree = TreeRequest::new(&spec.tree, resolved.commit, &Directory, limits);
    let (listed, segments) = snapshot::compose(&composition, staging.path(), &tree, watch)?;
    Directory.lay_out(&listed, staging.path(), &segments, &tree, reserve(gateway, &staging), watch)?;
    put(Directory.attachment(staging.path()).path(), destination)?;
    Ok(Cloned { resolved, tree: listed.summary, received_bytes })
}

/// Opens a part, and keeps its staging directory.
fn open(url: &RepositoryUrl, fetched: Fetched, stagings: &mut Vec<Staging>) -> Result<OpenPart, SnapshotError> {
    let Fetched { staging, listed, .. } = fetched;
    let place = staging.path();
    let part = OpenPart::of_repository(url.clone(), &place.join(TREE), listed, &place.join(REPOSITORY))?;
    stagings.push(staging);
    Ok(part)
}

//! What a snapshot says of itself.

use std::time::SystemTime;

use serde::Deserialize;
use serde::Serialize;

use crate::snapshot::Ownership;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;

use super::clock::wall_clock;

/// Most bytes of a `meta.json`. Of a tree with many submodules it has many URLs.
pub(crate) const META_LIMIT: u64 = 8 * 1024 * 1024;

/// Bytes that metadata may grow by after its parts are known: the seal, the digits of the summary, the owners of a view.
const GROWTH: usize = 1024;

/// The content of a snapshot's `meta.json`. Unknown fields, written by a newer version, are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotMeta {
    /// The repository, without secrets.
    pub repository: String,
    /// The commit whose tree it is.
    pub commit: CommitId,
    /// Which part of the tree, and where it appears.
    #[serde(flatten)]
    pub tree: TreeOptions,
    /// Name of the [`SnapshotFormat`](crate::snapshot::SnapshotFormat) that wrote it.
    pub format: String,
    /// Whom its files belong to.
    #[serde(default, skip_serializing_if = "Ownership::is_root")]
    pub ownership: Ownership,
    /// The repository that it shows as `.git`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_repository: Option<WorkingRepository>,
    /// The amount of content.
    pub summary: TreeSummary,
    /// The digest of the manifest, which contains the id of each blob. `None` in a snapshot of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The submodules whose trees are in it. Whoever may read it may read each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<SnapshotPart>,
    /// When it was made, by the wall clock: for people only.
    #[serde(with = "wall_clock")]
    pub created_at: SystemTime,
}

impl SnapshotMeta {
    /// Creates the metadata of a newly written tree.
    pub fn new(url: &RepositoryUrl, request: &TreeRequest, summary: TreeSummary) -> Self {
        Self {
            repository: url.to_string(),
            commit: request.commit,
            tree: request.tree.clone(),
            format: request.format.clone(),
            ownership: Ownership::ROOT,
            working_repository: request.repository.clone(),
            summary,
            manifest: None,
            parts: Vec::new(),
            created_at: SystemTime::now(),
        }
    }

    /// Seals the manifest with its digest.
    #[must_use]
    pub fn sealed_by(self, manifest: String) -> Self {
        Self { manifest: Some(manifest), ..self }
    }

    /// Names the submodules whose trees are in it.
    #[must_use]
    pub fn composed_of(self, parts: Vec<SnapshotPart>) -> Self {
        Self { parts, ..self }
    }

    /// Whether it can be read again once it is written, and so can that of a view. The tree need not be there yet: neither
    /// its amount nor its seal changes the answer.
    pub(crate) fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|json| (json.len() + GROWTH) as u64 <= META_LIMIT)
    }

    /// Creates the metadata of a view of this snapshot.
    pub fn of_view(&self, ownership: Ownership) -> Self {
        Self { ownership, created_at: SystemTime::now(), ..self.clone() }
    }
}

/// A submodule in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPart {
    /// Where it is in the superproject's tree; the first place of several.
    pub path: String,
    /// Its repository, without secrets.
    pub repository: RepositoryUrl,
    /// The commit whose tree it is.
    pub commit: CommitId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::GroupAccess;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::store;

    #[test]
    fn metadata_that_could_not_be_read_again_is_known_before_it_is_written() {
        let (_place, store) = store();
        let meta = install(&store, commit(1), "good").meta().clone();
        let part = |path: String| SnapshotPart { path, repository: crate::store::fixture::url(), commit: commit(2) };
        // As it is before its tree is composed.
        let empty = SnapshotMeta { summary: TreeSummary::default(), manifest: None, ..meta };
        let with = |length: usize| empty.clone().composed_of(vec![part("\\".repeat(length))]);
        let many = TreeSummary { files: u64::MAX, symlinks: u64::MAX, directories: u64::MAX, bytes: u64::MAX };
        let full = |meta: &SnapshotMeta| SnapshotMeta { summary: many, ..meta.clone() }.sealed_by("f".repeat(64));
        let owners = Ownership { uid: u32::MAX, gid: u32::MAX, group: GroupAccess::Everybody };
        let written = |meta: &SnapshotMeta| serde_json::to_vec(&full(meta).of_view(owners)).unwrap().len() as u64;
        // The longest that fits, by bisection.
        let (mut fits, mut exceeds) = (0, META_LIMIT as usize / 2);
        assert!(!with(exceeds).fits() && written(&with(exceeds)) > META_LIMIT);
        while exceeds - fits > 1 {
            let middle = usize::midpoint(fits, exceeds);
            if with(middle).fits() { fits = middle } else { exceeds = middle }
        }
        assert!(written(&with(fits)) <= META_LIMIT);
        assert!(META_LIMIT as usize / 2 - fits < 1024, "{fits}");
    }
}
